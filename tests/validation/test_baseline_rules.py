"""Rules of system operators, with the numbers worked out by hand next to each.

.. [1] NYISO, "Day-Ahead Demand Response Program Manual": weekday CBL is the mean of the five of the last ten eligible
   weekdays with the highest energy in the event's hours; in-day adjustment by the ratio of metered to expected energy
   in the two hours that begin four hours before the event, between 0.8 and 1.2.
.. [2] CAISO, "Fifth Replacement Electronic Tariff", section 4.13.4: ten-in-ten, the mean of the last ten eligible days;
   load point adjustment by the ratio over the three hours that end one hour before the event, at most 20%.
.. [3] PJM, "Manual 11: Energy and Ancillary Services Market Operations", section 10: the four highest of the last five
   weekdays, symmetric additive adjustment by the mean difference over the three hours that end one hour before.
.. [4] ERCOT, "Emergency Response Service: Default Baseline Methodologies": middle 8 of 10 preceding like days, without
   the day of highest and the one of lowest energy.
.. [5] ISO New England, "Manual M-MVDR": the first methods weighted the baseline of the day before with 0.9 and the last
   day with 0.1; the linear weights here are of the same family, late days counting more.
"""

from datetime import date, timedelta

import numpy as np
import pytest

from offchain.baseline.adjustment import Adjusted, Adjustment
from offchain.baseline.history import History, day_type
from offchain.baseline.method import baseline_method
from offchain.baseline.x_of_y import Choice, XOfY
from offchain.domain.isp import MarketDay

DAY = MarketDay.of(date(2016, 6, 15))
EVENT = range(DAY.first_isp + 56, DAY.first_isp + 72)  # 14 to 18 h
HIGH_5_OF_10 = baseline_method("high_5_of_10@1")

IN_EVENT_WH = [500, 520, 480, 610, 590, 470, 550, 530, 450, 600]
"""Energy per ISP from 14 to 18 h of ten working days, earliest first."""
BEFORE_WH = [400, 410, 390, 450, 440, 380, 420, 430, 370, 460]
"""Energy per ISP before 14 h."""


def history(today_wh: int) -> History:
    days, laid, n = [], {}, len(IN_EVENT_WH)
    day = DAY.day
    while n:
        day -= timedelta(1)
        if day_type(day) is day_type(DAY.day):
            n -= 1
            laid[day] = np.r_[np.full(56, BEFORE_WH[n]), np.full(16, IN_EVENT_WH[n]), np.full(24, 300)]
    while day < DAY.day:
        days.append(laid.get(day, np.full(96, 9_999)))
        day += timedelta(1)
    return History(MarketDay.of(DAY.day - timedelta(len(days))).first_isp, np.concatenate([*days, [today_wh] * 56]))


def in_event(method, today_wh: int = 0) -> int:
    values = set(method.baseline(history(today_wh), DAY, EVENT)[56:72].tolist())
    assert len(values) == 1
    return values.pop()


def test_high_5_of_10_equals_nyiso_rule_when_worked_by_hand():
    # 610, 600, 590, 550, 530: 2880 / 5
    assert in_event(HIGH_5_OF_10) == 576


@pytest.mark.parametrize(
    ("today_wh", "adjusted_wh"),
    [
        (484, 634),  # before on the same five days: (450 + 460 + 440 + 420 + 430) / 5 = 440; 484 / 440 = 1.1; 633.6
        (600, 691),  # 1.36, limited to 1.2: 691.2
        (110, 461),  # 0.25, limited to 0.8: 460.8
    ],
)
def test_high_5_of_10_ratio_equals_nyiso_in_day_adjustment_when_worked_by_hand(today_wh, adjusted_wh):
    nyiso = Adjusted("nyiso", 1, HIGH_5_OF_10, Adjustment.RATIO, cap_bps=2_000, from_isps=16, until_isps=8)
    assert in_event(nyiso, today_wh) == adjusted_wh


@pytest.mark.parametrize(
    ("today_wh", "adjusted_wh"),
    [
        (415, 530),  # mean in event 5300 / 10 = 530; before 4150 / 10 = 415; ratio 1
        (456, 582),  # 456 / 415 = 1.09880; 582.36
        (498, 636),  # exactly 1.2: 636
        (800, 636),
    ],
)
def test_average_10_of_10_ratio_equals_caiso_ten_in_ten_when_worked_by_hand(today_wh, adjusted_wh):
    assert in_event(baseline_method("average_10_of_10_ratio@1"), today_wh) == adjusted_wh


def test_high_4_of_5_additive_equals_pjm_rule_when_worked_by_hand():
    # last five: 470, 550, 530, 450, 600 without 450: 2150 / 4 = 537.5, rounded half up; before on the same four days:
    # (380 + 420 + 430 + 460) / 4 = 422.5, 423; 500 - 423 = +77
    pjm = Adjusted("pjm", 1, baseline_method("high_4_of_5@1"), Adjustment.ADDITIVE, cap_bps=10_000)
    assert in_event(baseline_method("high_4_of_5@1")) == 538
    assert in_event(pjm, 500) == 615


def test_mid_8_of_10_equals_ercot_rule_when_worked_by_hand():
    # by 56 * before + 16 * in event the lowest is day 9 (370 and 450 Wh), the highest day 10 (460 and 600 Wh)
    assert in_event(baseline_method("mid_8_of_10@1")) == round((5_300 - 450 - 600) / 8)  # 531.25


def test_weighted_10_equals_the_sum_when_worked_by_hand():
    # 1*500 + 2*520 + 3*480 + 4*610 + 5*590 + 6*470 + 7*550 + 8*530 + 9*450 + 10*600 = 29330; / 55 = 533.27
    assert in_event(baseline_method("weighted_10@1")) == 533


def test_comparable_day_3_equals_the_match_day_average_when_worked_by_hand():
    # nearest to 425 before the event: 420 and 430 (5 off), then 410 and 440 (15 off), the later one is 440: day 5
    assert in_event(baseline_method("comparable_day_3@1"), 425) == round((550 + 530 + 590) / 3)


def test_average_of_all_days_is_what_highest_and_middle_become_when_x_equals_y():
    highest = XOfY("all", 1, x=10, y=10, choice=Choice.HIGHEST)
    assert in_event(highest) == in_event(baseline_method("average_10_of_10@1")) == 530
