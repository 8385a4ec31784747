"""Adjusted: no event → refused; no readings of the day → refused; additive and ratio, each below and beyond the
cap, with negative and zero energy; outside the event nothing changes; event in the first hour → refused"""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.baseline.adjustment import Adjusted, Adjustment, window_before
from offchain.baseline.history import History
from offchain.baseline.method import BASELINE_METHODS
from offchain.baseline.x_of_y import XOfY
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay

DAY = MarketDay.of(date(2016, 1, 6))
EVENT = range(DAY.first_isp + 68, DAY.first_isp + 76)
AVERAGE = XOfY("average", 1, x=2, y=2)


def adjusted(kind: Adjustment, cap_bps: int) -> Adjusted:
    return Adjusted("adjusted", 1, AVERAGE, kind, cap_bps)


def history_with(expected: int, in_event: int, today: int) -> History:
    before = np.full(96, expected)
    before[68:76] = in_event
    return History(DAY.first_isp - 192, np.concatenate([before, before, np.full(68, today)]))


@pytest.mark.parametrize(
    ("kind", "cap_bps", "expected", "in_event", "today", "result"),
    [
        (Adjustment.ADDITIVE, 10_000, 100, 200, 130, 230),
        (Adjustment.ADDITIVE, 10_000, 100, 200, 70, 170),
        (Adjustment.ADDITIVE, 2_000, 100, 200, 130, 220),
        (Adjustment.ADDITIVE, 2_000, 100, 200, 10, 180),
        (Adjustment.ADDITIVE, 10_000, -100, -200, -130, -230),
        (Adjustment.ADDITIVE, 10_000, 0, 200, 50, 200),
        (Adjustment.RATIO, 2_000, 100, 200, 110, 220),
        (Adjustment.RATIO, 2_000, 100, 200, 130, 240),
        (Adjustment.RATIO, 2_000, 100, 200, 10, 160),
        (Adjustment.RATIO, 2_000, -100, -200, -110, -220),
        (Adjustment.RATIO, 2_000, -100, -200, 50, -160),
        (Adjustment.RATIO, 2_000, 100, 200, -50, 160),
        (Adjustment.RATIO, 2_000, 0, 200, 50, 200),
    ],
)
def test_baseline_is_moved_within_the_event_only_when_adjusted(kind, cap_bps, expected, in_event, today, result):
    curve = adjusted(kind, cap_bps).baseline(history_with(expected, in_event, today), DAY, EVENT)
    assert curve[68:76].tolist() == [result] * 8
    assert curve[:68].tolist() == [expected] * 68 and curve[76:].tolist() == [expected] * 20


def test_ratio_is_exact_when_energies_are_the_largest_of_a_curve():
    top = 2**31 - 1
    curve = adjusted(Adjustment.RATIO, 2_000).baseline(history_with(top, top, top), DAY, EVENT)
    assert curve[68] == top


def test_baseline_raises_when_no_event_is_named():
    with pytest.raises(DomainError, match="adjusts to readings before an event") as caught:
        adjusted(Adjustment.RATIO, 2_000).baseline(history_with(1, 1, 1), DAY)
    assert "without same-day adjustment" in caught.value.hint


def test_baseline_raises_when_readings_of_the_day_are_missing():
    history = history_with(1, 1, 1)
    short = History(history.first_isp, history.net_wh[:250])
    with pytest.raises(DomainError, match="readings of 2016-01-06 before the event"):
        adjusted(Adjustment.RATIO, 2_000).baseline(short, DAY, EVENT)


def test_window_before_raises_when_the_event_begins_with_the_day():
    with pytest.raises(DomainError, match="position 3"):
        window_before(slice(3, 8), 16, 4)
    assert window_before(slice(6, 8), 16, 4) == slice(0, 2)


@pytest.mark.parametrize(
    "event", [range(0, 4), range(DAY.end_isp - 2, DAY.end_isp + 2), range(EVENT.start, EVENT.start)]
)
@pytest.mark.parametrize("method", BASELINE_METHODS.values(), ids=BASELINE_METHODS)
def test_baseline_raises_when_the_event_is_not_within_the_day(method, event):
    with pytest.raises(DomainError, match="is not within 2016-01-06"):
        method.baseline(history_with(1, 1, 1), DAY, event)


@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=3, max_size=3), st.sampled_from(Adjustment))
def test_adjusted_stays_within_its_cap_when_any_energies(values, kind):
    expected, in_event, today = values
    plain = history_with(expected, in_event, today)
    curve = adjusted(kind, 2_000).baseline(plain, DAY, EVENT)
    size = abs(expected) if kind is Adjustment.ADDITIVE else abs(in_event)
    assert (np.abs(curve[68:76] - in_event) <= size // 5 + 1).all()
