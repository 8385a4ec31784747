"""method_hash: pinned for every registered method, so that no result changes under an old version;
baselines_of: each connection alone, unusable ones named and passed over; prosumers and groups"""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from offchain.baseline.history import Exclusion, History, group_history
from offchain.baseline.method import BASELINE_METHODS, baseline_method, baselines_of, method_hash
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay

PINNED = Path(__file__).parent / "method_hashes.json"
FIRST = date(2016, 1, 4)


def random_history(days: int, seed: int = 1, first: date = FIRST, **more) -> History:
    start, end = MarketDay.of(first).first_isp, MarketDay.of(first + timedelta(days)).first_isp
    return History(start, np.random.default_rng(seed).integers(-300, 2_000, end - start), **more)


def event_of(day: MarketDay) -> range:
    return range(day.first_isp + 68, day.first_isp + 76)


def test_method_hash_is_pinned_when_registered():
    """Fails when a method yields something else: then register it under a new version and pin that too."""
    assert {name: method_hash(method) for name, method in BASELINE_METHODS.items()} == json.loads(PINNED.read_text())


def test_method_hash_differs_when_a_parameter_does():
    method = baseline_method("average_10_of_10_ratio@1")
    assert method_hash(replace(method, cap_bps=2_001)) != method_hash(method)
    assert method_hash(replace(method, version=2)) != method_hash(method)


@pytest.mark.parametrize("method", BASELINE_METHODS.values(), ids=BASELINE_METHODS)
@pytest.mark.parametrize("day", [date(2016, 3, 27), date(2016, 10, 30), date(2016, 2, 29), date(2016, 3, 29)])
def test_baseline_covers_the_day_when_it_has_92_or_100_isps_or_is_a_leap_day(method, day):
    market_day = MarketDay.of(day)
    history = random_history(100, first=day - timedelta(99))
    curve = method.baseline(history, market_day, event_of(market_day))
    assert curve.shape == (market_day.isp_count,) and curve.dtype == np.int64


@pytest.mark.parametrize("method", BASELINE_METHODS.values(), ids=BASELINE_METHODS)
def test_baselines_of_equals_each_alone_when_histories_differ(method):
    day = MarketDay.of(date(2016, 3, 16))
    gap = np.ones(MarketDay.of(date(2016, 3, 17)).first_isp - MarketDay.of(FIRST).first_isp, dtype=bool)
    gap[3_000] = False
    histories = {
        "long": random_history(73),
        "late": random_history(43, 2, first=date(2016, 2, 3)),
        "gap": random_history(73, 3, known=gap),
        "event": random_history(73, 4, excluded={date(2016, 3, 15): Exclusion.EVENT}),
        "feed-in": History(random_history(73).first_isp, -abs(random_history(73, 5).net_wh)),
    }
    together = baselines_of(method, histories, day, event_of(day), together=2)
    assert not together.refused
    for key, history in histories.items():
        assert (together.net_wh[key] == method.baseline(history, day, event_of(day))).all()


@pytest.mark.parametrize("method", BASELINE_METHODS.values(), ids=BASELINE_METHODS)
def test_baselines_of_goes_on_when_some_cannot_be_used(method):
    day = MarketDay.of(date(2016, 3, 16))
    good = random_history(73)
    histories = {
        "one day": random_history(2, first=date(2016, 3, 15)),
        "nothing": History(day.first_isp, np.empty(0, dtype=np.int64)),
        "never known": History(good.first_isp, good.net_wh, np.zeros(good.net_wh.size, dtype=bool)),
        "future": random_history(40, first=date(2016, 4, 1)),
        "good": good,
    }
    result = baselines_of(method, histories, day, event_of(day))
    assert set(result.net_wh) == {"good"}
    assert set(result.refused) == {"one day", "nothing", "never known", "future"}
    assert all(isinstance(e, InsufficientHistoryError) for e in result.refused.values())


@pytest.mark.parametrize("method", BASELINE_METHODS.values(), ids=BASELINE_METHODS)
def test_baseline_knows_nothing_of_the_event_and_later_when_history_goes_on(method):
    day = MarketDay.of(date(2016, 3, 16))
    history = random_history(90)
    changed = history.net_wh.copy()
    changed[event_of(day).start - history.first_isp :] += 10_000
    later = History(history.first_isp, changed)
    assert (method.baseline(history, day, event_of(day)) == method.baseline(later, day, event_of(day))).all()


def test_eligible_days_give_the_reason_when_days_are_left_out():
    day = MarketDay.of(date(2016, 4, 1))
    known = np.ones(90 * 96, dtype=bool)
    history = random_history(89)
    known = known[: history.net_wh.size]
    known[MarketDay.of(date(2016, 3, 31)).first_isp - history.first_isp] = False
    excluded = {date(2016, 3, 30): Exclusion.OUTAGE, date(2016, 3, 24): Exclusion.METER_CHANGE}
    excluded[date(2016, 3, 23)] = Exclusion.EVENT
    eligible = History(history.first_isp, history.net_wh, known, excluded=excluded).eligible_days(day, 3)
    assert eligible.days == (date(2016, 3, 29), date(2016, 3, 22), date(2016, 3, 21))
    assert eligible.left_out == {
        date(2016, 3, 31): Exclusion.MISSING,
        date(2016, 3, 30): Exclusion.OUTAGE,
        date(2016, 3, 28): Exclusion.HOLIDAY,  # Easter Monday
        date(2016, 3, 27): Exclusion.OTHER_TYPE,
        date(2016, 3, 26): Exclusion.OTHER_TYPE,
        date(2016, 3, 25): Exclusion.HOLIDAY,
        date(2016, 3, 24): Exclusion.METER_CHANGE,
        date(2016, 3, 23): Exclusion.EVENT,
    }
    assert eligible.summary() == " (left out: 2 holiday, 1 event, 1 outage, 1 meter change, 1 missing reading)"


def test_eligible_days_follow_the_holidays_given_when_elsewhere():
    day = MarketDay.of(date(2016, 3, 31))
    history = random_history(90, holidays=frozenset([date(2016, 3, 29)]))
    assert history.eligible_days(day, 2).days == (date(2016, 3, 30), date(2016, 3, 28))


def test_group_history_sums_what_all_cover_when_members_differ():
    one, other = random_history(30), random_history(30, 2, first=FIRST + timedelta(2))
    known = np.ones(one.net_wh.size, dtype=bool)
    known[400] = False
    one = History(one.first_isp, one.net_wh, known, excluded={date(2016, 1, 20): Exclusion.EVENT})
    group = group_history([one, other])
    assert (group.first_isp, group.net_wh.size) == (other.first_isp, 28 * 96)
    assert (group.net_wh == one.net_wh[192:] + other.net_wh[: 28 * 96]).all()
    assert np.flatnonzero(~group.known).tolist() == [400 - 192]
    assert group.excluded == {date(2016, 1, 20): Exclusion.EVENT}


def test_average_of_a_group_is_the_sum_of_its_members_up_to_rounding():
    members = [random_history(73, seed) for seed in range(20)]
    day = MarketDay.of(date(2016, 3, 16))
    method = baseline_method("average_10_of_10@1")
    parts = sum(method.baseline(member, day) for member in members)
    assert (abs(method.baseline(group_history(members), day) - parts) <= 10).all()


@pytest.mark.parametrize(
    "members",
    [
        [],
        [random_history(3), random_history(3, zone="Europe/Rome")],
        [random_history(3), random_history(3, first=date(2016, 6, 1))],
    ],
)
def test_group_history_raises_when_members_do_not_fit(members):
    with pytest.raises(DomainError):
        group_history(members)
