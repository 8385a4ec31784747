from datetime import date, timedelta

import numpy as np
import pytest

from offchain.baseline.history import DayType, History, day_type, public_holidays
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay


def history_of(first: date, days: int, value_of=lambda day, position: 0, **more) -> History:
    values, start = [], MarketDay.of(first).first_isp
    for n in range(days):
        day = MarketDay.of(first + timedelta(n))
        values += [value_of(day.day, position) for position in range(day.isp_count)]
    return History(start, np.array(values, dtype=np.int64), **more)


@pytest.mark.parametrize(
    ("year", "easter_monday"),
    [
        (2000, date(2000, 4, 24)),
        (2008, date(2008, 3, 24)),
        (2011, date(2011, 4, 25)),
        (2016, date(2016, 3, 28)),
        (2024, date(2024, 4, 1)),
        (2038, date(2038, 4, 26)),
    ],
)
def test_public_holidays_follow_easter_when_year_differs(year, easter_monday):
    assert easter_monday in public_holidays(year)
    assert easter_monday - timedelta(days=3) in public_holidays(year)


@pytest.mark.parametrize(
    ("day", "kind"),
    [
        (date(2016, 2, 9), DayType.WORKING),
        (date(2016, 2, 13), DayType.FREE),
        (date(2016, 2, 14), DayType.FREE),
        (date(2016, 3, 25), DayType.FREE),
        (date(2016, 5, 5), DayType.FREE),
        (date(2016, 10, 3), DayType.FREE),
    ],
)
def test_day_type_is_free_when_weekend_or_holiday(day, kind):
    assert day_type(day) is kind


def test_similar_days_skips_weekends_and_holidays_when_working_day():
    history = history_of(date(2016, 3, 14), 20, lambda day, position: day.day)
    days = history.similar_days(MarketDay.of(date(2016, 3, 30)), 6)
    # 25 March is Good Friday, 26 and 27 the weekend, 28 Easter Monday
    assert days[:, 0].tolist() == [29, 24, 23, 22, 21, 18]


def test_similar_days_skips_a_day_when_a_reading_is_missing():
    full = history_of(date(2016, 2, 1), 14, lambda day, position: day.day)
    known = np.ones(full.net_wh.size, dtype=bool)
    known[MarketDay.of(date(2016, 2, 8)).first_isp - full.first_isp + 50] = False
    history = History(full.first_isp, full.net_wh, known)
    assert history.similar_days(MarketDay.of(date(2016, 2, 10)), 3)[:, 0].tolist() == [9, 5, 4]


def test_similar_days_never_uses_the_day_itself_or_later_when_history_goes_on():
    history = history_of(date(2016, 2, 1), 28, lambda day, position: day.day)
    assert history.similar_days(MarketDay.of(date(2016, 2, 10)), 2)[:, 0].tolist() == [9, 8]


def test_similar_days_raises_with_both_numbers_when_too_few():
    history = history_of(date(2016, 2, 1), 4)
    with pytest.raises(InsufficientHistoryError, match="working days before 2016-02-05") as caught:
        history.similar_days(MarketDay.of(date(2016, 2, 5)), 6)
    assert (caught.value.available, caught.value.required) == (4, 6)


def test_similar_days_ignores_a_day_when_history_starts_within_it():
    first = MarketDay.of(date(2016, 2, 1)).first_isp + 1
    history = History(first, np.zeros(3 * 96 - 1, dtype=np.int64))
    with pytest.raises(InsufficientHistoryError) as caught:
        history.similar_days(MarketDay.of(date(2016, 2, 4)), 3)
    assert caught.value.available == 2


def local_hour(day: date, position: int) -> int:
    from zoneinfo import ZoneInfo

    from offchain.domain.isp import isp_start

    return isp_start(MarketDay.of(day).first_isp + position).astimezone(ZoneInfo("Europe/Berlin")).hour


@pytest.mark.parametrize("target", [date(2016, 3, 27), date(2016, 10, 30)])
def test_aligned_values_keep_the_time_of_day_when_target_has_92_or_100_isps(target):
    before = target - timedelta(days=7)
    history = history_of(before, 1, local_hour)
    day = MarketDay.of(target)
    aligned = history.aligned_values_of(before, day)
    assert aligned.tolist() == [local_hour(target, p) for p in range(day.isp_count)]


@pytest.mark.parametrize("source", [date(2016, 3, 27), date(2016, 10, 30)])
def test_aligned_values_keep_the_time_of_day_when_source_has_92_or_100_isps(source):
    after = source + timedelta(days=7)
    history = history_of(source, 1, local_hour)
    aligned = history.aligned_values_of(source, MarketDay.of(after))
    expected = [local_hour(after, p) for p in range(96)]
    if source.month == 3:  # the missing hour takes the ISP before
        expected = [1 if hour == 2 else hour for hour in expected]
    assert aligned.tolist() == expected


@pytest.mark.parametrize("values", [np.zeros(96), np.zeros((96, 2), dtype=np.int64)])
def test_history_raises_when_not_one_row_of_integers(values):
    with pytest.raises(DomainError, match="one row of integers"):
        History(0, values)
