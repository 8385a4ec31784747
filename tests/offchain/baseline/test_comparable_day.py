from datetime import date

import numpy as np

from offchain.baseline.comparable_day import ComparableDay
from offchain.baseline.history import History
from offchain.domain.isp import MarketDay

DAY = MarketDay.of(date(2016, 1, 6))
EVENT = range(DAY.first_isp + 68, DAY.first_isp + 76)


def history_of(mornings, evenings, today) -> History:
    """Working days from 4 January back in time are not needed: ten days of January 2016 over New Year."""
    days = []
    for morning, evening in zip(mornings, evenings, strict=True):
        day = np.full(96, evening)
        day[:68] = morning
        days.append(day)
    first = DAY.first_isp - 96 * len(days)
    return History(first, np.concatenate([*days, np.full(68, today)]), holidays=frozenset())


def test_baseline_is_mean_of_the_days_with_nearest_afternoon_when_worked_example():
    # 23 December to 5 January; 26, 27 December and 2, 3 January are weekends
    mornings = [10, 20, 30, 0, 0, 40, 50, 60, 70, 80, 0, 0, 90, 100]
    evenings = [1, 2, 3, 0, 0, 4, 5, 6, 7, 8, 0, 0, 9, 11]
    curve = ComparableDay("comparable", 1, nearest=3).baseline(history_of(mornings, evenings, 55), DAY, EVENT)
    # nearest to 55: 50 and 60 (5 off), then 70 and 40 (15 off): the later of the two, 70; (5 + 6 + 7) / 3
    assert curve[68:76].tolist() == [6] * 8


def test_baseline_is_exact_when_differences_do_not_fit_64_bits():
    mornings = [2**30, -(2**31) + 1, 0, 0, 0] * 2 + [2**31 - 1] * 4
    evenings = range(14)
    huge = ComparableDay("comparable", 1, nearest=1).baseline(history_of(mornings, evenings, 2**31 - 1), DAY, EVENT)
    assert huge[68] == 13
