"""day_curves: whole days of 96 columns; 92 and 100 quarter hours, leap day, gaps, ends; history_of: NaN, bad values"""

from datetime import date, timedelta

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.profiling.days import ProfileDay, Season, day_curves, extended, history_of, profile_day, season
from tests.offchain.profiling.series import history

SPRING, AUTUMN = date(2016, 3, 27), date(2016, 10, 30)


def test_day_curves_has_96_columns_when_clocks_change():
    spring = day_curves(history(SPRING, SPRING, lambda at: at))
    autumn = day_curves(history(AUTUMN, AUTUMN, lambda at: at))
    # 02:00 does not come in spring: the value of 01:45 stands for it, 03:00 is the ninth quarter hour
    assert spring.wh[0, :13].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 8]
    # 02:00 comes twice in autumn: the first one counts, 03:00 is the seventeenth quarter hour
    assert autumn.wh[0, 7:13].tolist() == [7, 8, 9, 10, 11, 16]
    assert spring.wh.shape == autumn.wh.shape == (1, 96)


def test_day_curves_keeps_every_day_when_the_year_is_a_leap_year():
    curves = day_curves(history(date(2016, 1, 1), date(2016, 12, 31)))
    assert len(curves.days) == 366 and date(2016, 2, 29) in curves.days and not curves.unusable


def test_day_curves_names_days_that_it_leaves_out():
    whole = history(date(2016, 5, 1), date(2016, 5, 4), lambda at: at)
    known = np.ones(whole.net_wh.size, dtype=bool)
    known[100:103] = False
    curves = day_curves(History(whole.first_isp, whole.net_wh[:-1], known[:-1]))
    assert curves.days == (date(2016, 5, 1), date(2016, 5, 3))
    assert curves.unusable == {
        date(2016, 5, 2): "3 of 96 readings missing",
        date(2016, 5, 4): "not covered to its end",
    }


def test_day_curves_raises_when_no_day_is_complete():
    with pytest.raises(InsufficientHistoryError):
        day_curves(History(MarketDay.of(SPRING).first_isp, np.zeros(50, dtype=np.int64)))
    with pytest.raises(InsufficientHistoryError):
        day_curves(History(0, np.zeros(0, dtype=np.int64)))


def test_day_curves_follows_the_zone():
    utc = day_curves(history(SPRING, SPRING, lambda at: at, zone="UTC"))
    assert utc.wh[0].tolist() == list(range(96))


def test_day_curves_refuses_an_unknown_zone():
    with pytest.raises(DomainError, match="no time zone 'Mars/Base'"):
        day_curves(history_of(0, np.zeros(96), "Mars/Base"))


def test_history_of_marks_missing_and_rounds():
    made = history_of(5, np.array([1.5, np.nan, -2.5]))
    assert made.net_wh.tolist() == [2, 0, -2] and made.known.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2)), "one row"),
        (np.array([0.0, np.inf]), "at ISP 8 is impossible"),
        (np.array([1e12]), "at ISP 7 is impossible"),
    ],
)
def test_history_of_says_what_is_wrong(values, message):
    with pytest.raises(DomainError, match=message):
        history_of(7, values)


def test_extended_prefers_metered_values():
    metered = history_of(10, np.array([1.0, np.nan, 3.0]))
    joined = extended(metered, history_of(11, np.array([20.0, 30.0, 40.0])))
    assert joined.first_isp == 10
    assert joined.net_wh.tolist() == [1, 20, 3, 40] and joined.known.all()


def test_extended_leaves_gaps_between_unknown():
    joined = extended(history_of(0, np.array([1.0])), history_of(3, np.array([4.0])))
    assert joined.known.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2016, 3, 25), ProfileDay.SUNDAY),  # Good Friday
        (date(2016, 3, 26), ProfileDay.SATURDAY),
        (date(2016, 3, 29), ProfileDay.WORKING),
    ],
)
def test_profile_day(day, expected):
    assert profile_day(day) is expected


def test_season_changes_on_its_four_days():
    changes = [date(2015, 12, 31) + timedelta(days=i) for i in range(1, 367)]
    first = [d for d in changes if season(d) is not season(d - timedelta(days=1))]
    assert first == [date(2016, 3, 21), date(2016, 5, 15), date(2016, 9, 15), date(2016, 11, 1)]
    assert season(date(2016, 7, 1)) is Season.SUMMER
