from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.baseline.history import DayType, History, day_type
from offchain.baseline.method import baseline_method, baselines, method_id
from offchain.baseline.rounding import rounded_mean_wh
from offchain.baseline.x_of_y import Choice, LinearlyWeighted, XOfY
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

MID_4_OF_6 = baseline_method("mid_4_of_6@1")
DAY = MarketDay.of(date(2016, 2, 9))
FIRST = MarketDay.of(date(2016, 2, 1)).first_isp
WORKING_OFFSETS = (0, 1, 2, 3, 4, 7)  # 1 to 5 and 8 February


def history_with(day_values) -> History:
    values = np.zeros((8, 96), dtype=np.int64)
    values[list(WORKING_OFFSETS)] = np.asarray(day_values).reshape(6, -1)
    return History(FIRST, values.ravel())


def test_baseline_is_mean_of_the_middle_four_when_worked_example():
    history = history_with([[v] * 96 for v in (10, 80, 20, 30, 41, 50)])
    assert MID_4_OF_6.baseline(history, DAY).tolist() == [35] * 96


def test_baseline_ranks_whole_days_when_single_isps_differ():
    days = np.full((6, 96), 100)
    days[0, 5] = 10_000  # highest energy: the whole day goes
    days[1, :] = 90  # lowest energy: goes too
    days[1, 7] = 500
    assert MID_4_OF_6.baseline(history_with(days), DAY).tolist() == [100] * 96


def test_baseline_is_negative_when_connection_injects():
    history = history_with([[v] * 96 for v in (-10, -80, -20, -30, -41, -50)])
    assert MID_4_OF_6.baseline(history, DAY).tolist() == [-35] * 96


@given(st.permutations([10, 80, 20, 30, 41, 50]))
def test_baseline_does_not_depend_on_the_order_of_days_when_permuted(values):
    assert MID_4_OF_6.baseline(history_with([[v] * 96 for v in values]), DAY)[0] == 35


def test_baseline_raises_when_five_days():
    history = History(FIRST + 96, np.zeros(7 * 96, dtype=np.int64))
    with pytest.raises(InsufficientHistoryError) as caught:
        MID_4_OF_6.baseline(history, DAY)
    assert (caught.value.available, caught.value.required) == (5, 6)


@given(st.integers(-(10**12), 10**12), st.integers(1, 50))
def test_rounded_mean_wh_is_nearest_with_halves_up_when_any_integers(total, count):
    from fractions import Fraction
    from math import floor

    exact = floor(Fraction(total, count) + Fraction(1, 2))
    assert rounded_mean_wh(np.array([total]), count)[0] == exact


def test_baseline_method_is_found_by_its_identifier_when_known():
    assert method_id(baseline_method("mid_4_of_6@1")) == "mid_4_of_6@1"


def test_baseline_method_raises_with_names_when_unknown():
    with pytest.raises(DomainError, match="one of mid_4_of_6@1, "):
        baseline_method("high_5_of_10@2")


def test_baselines_equals_single_ones_when_many_connections(quiet):
    first = MarketDay.of(date(2016, 4, 25)).first_isp
    net_wh = quiet.net_wh(range(first, quiet.day.first_isp))
    many = baselines(MID_4_OF_6, first, net_wh, quiet.day)
    assert many.shape == (96, len(quiet.connections)) and many.dtype == np.int64
    assert (many[:, 3] == MID_4_OF_6.baseline(History(first, net_wh[:, 3]), quiet.day)).all()


@pytest.mark.parametrize("name", ["quiet", "evening"])
def test_baseline_has_small_bias_when_group_of_consumers(name, request):
    """Placebo events from 17 to 19 h on all working days: hardly any bias, error as published."""
    scenario = request.getfixturevalue(name)
    consumers = [i for i, a in enumerate(scenario.assets) if a.kind in ("household", "business")]
    group_wh = scenario.asset_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))[:, consumers].sum(axis=1)
    history = History(YEAR_FIRST_ISP, group_wh)
    expected, metered = [], []
    for offset in range(20, 366):
        day = MarketDay.of(date(2016, 1, 1) + timedelta(offset))
        if day_type(day.day) is DayType.WORKING:
            expected.append(MID_4_OF_6.baseline(history, day)[68:76])
            metered.append(history.values_of(day)[68:76])
    error = np.array(expected) - np.array(metered)
    mean = np.mean(metered)
    assert len(expected) > 240
    assert abs(error.mean()) / mean < 0.015
    assert np.sqrt((error**2).mean()) / mean < 0.30


def first_mid_4_of_6(history: History, day: MarketDay) -> np.ndarray:
    """The rule as it was first written: agreements refer to it as mid_4_of_6@1."""
    earliest_first = history.similar_days(day, 6)[::-1]
    ranked = earliest_first[np.argsort(earliest_first.sum(axis=1), kind="stable")]
    middle = ranked[1:-1]
    return (2 * middle.sum(axis=0) + 4) // 8


def test_mid_4_of_6_equals_its_first_version_when_a_year_of_simbench(quiet):
    net_wh = quiet.net_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))[:, ::9]
    for offset in [*range(20, 366, 13), 86, 303]:  # the last two have 92 and 100 ISPs
        day = MarketDay.of(date(2016, 1, 1) + timedelta(offset))
        many = baselines(MID_4_OF_6, YEAR_FIRST_ISP, net_wh, day)
        for n, column in enumerate(net_wh.T):
            assert (many[:, n] == first_mid_4_of_6(History(YEAR_FIRST_ISP, column), day)).all()


def test_highest_ranks_by_the_event_when_one_is_named(working_days):
    evening = np.zeros((10, 96), dtype=np.int64)
    evening[:5, :68] = 1_000  # high days, low evenings
    evening[5:, 68:76] = 100
    history = working_days(evening)
    day = MarketDay.of(date(2016, 1, 18))
    method = baseline_method("high_5_of_10@1")
    event = range(day.first_isp + 68, day.first_isp + 76)
    assert method.baseline(history, day, event)[68:76].tolist() == [100] * 8
    assert method.baseline(history, day)[68:76].tolist() == [0] * 8


def test_average_does_not_depend_on_an_event_when_one_is_named(working_days):
    history = working_days(range(1, 11))
    day = MarketDay.of(date(2016, 1, 18))
    method = baseline_method("average_10_of_10@1")
    assert method.baseline(history, day, range(day.first_isp, day.first_isp + 4)).tolist() == [6] * 96  # 5.5 rounds up


@pytest.mark.parametrize(("x", "y", "choice"), [(4, 7, Choice.MIDDLE), (0, 3, Choice.HIGHEST), (4, 3, Choice.HIGHEST)])
def test_x_of_y_raises_when_days_cannot_be_chosen(x, y, choice):
    with pytest.raises(DomainError, match=f"{x} of {y}"):
        XOfY("wrong", 1, x=x, y=y, choice=choice)


def test_weighted_counts_late_days_more_when_worked_example(working_days):
    day = MarketDay.of(date(2016, 1, 7))
    assert LinearlyWeighted("weighted_3", 1, days=3).baseline(working_days([10, 20, 30]), day).tolist() == [23] * 96
