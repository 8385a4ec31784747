from datetime import date, timedelta

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.forecasting.method import forecast_method, forecasts, method_id, round_forecast_wh
from offchain.forecasting.prognosis import d_prognoses
from offchain.forecasting.weekly_naive import WeeklyNaive
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

DAY = MarketDay.of(date(2016, 2, 9))
FIRST = MarketDay.of(date(2016, 1, 11)).first_isp


def test_forecast_is_last_week_when_complete():
    values = np.arange(40 * 96)
    expected = WeeklyNaive().forecast(History(FIRST, values), DAY)
    start = DAY.first_isp - 7 * 96 - FIRST
    assert expected.tolist() == list(range(start, start + 96))


def test_forecast_is_the_week_before_when_last_week_misses_a_reading():
    values = np.arange(40 * 96)
    known = np.ones(values.size, dtype=bool)
    start = DAY.first_isp - 7 * 96 - FIRST
    known[start + 3] = False
    assert WeeklyNaive().forecast(History(FIRST, values, known), DAY)[0] == start - 7 * 96


def test_forecast_raises_when_no_week_is_covered():
    history = History(DAY.first_isp - 5 * 96, np.zeros(5 * 96, dtype=np.int64))
    with pytest.raises(InsufficientHistoryError, match="Tuesdays before 2016-02-09"):
        WeeklyNaive().forecast(history, DAY)


def test_forecast_has_92_isps_when_clocks_change():
    day = MarketDay.of(date(2016, 3, 27))
    history = History(MarketDay.of(date(2016, 3, 20)).first_isp, np.arange(7 * 96))
    assert WeeklyNaive().forecast(history, day).tolist() == [*range(8), *range(12, 96)]


def test_forecast_method_is_found_by_its_identifier_when_known():
    assert method_id(forecast_method("weekly_naive@1")) == "weekly_naive@1"
    with pytest.raises(DomainError, match="one of weekly_naive@1"):
        forecast_method("oracle@1")


def test_forecast_error_is_near_the_published_floor_when_households(quiet):
    """Median relative MAE (by P99 - P1) of households, day-ahead in hours, November and December: 0.160."""
    grid, method, errors = quiet.grid, WeeklyNaive(), []
    for name in (n for n in grid.profile_name if n.startswith("H0")):
        power_mw = np.rint(grid.profile_p[:, grid.profile_index(name)] * 1e6).astype(np.int64)
        history, absolute = History(YEAR_FIRST_ISP, power_mw), []
        for offset in range(304, 366):
            day = MarketDay.of(date(2016, 1, 1) + timedelta(offset))
            error = method.forecast(history, day) - history.values_of(day)
            absolute.append(np.abs(error.reshape(24, 4).mean(axis=1)).mean())
        hourly = power_mw.reshape(YEAR_ISPS // 4, 4).mean(axis=1)
        errors.append(np.mean(absolute) / (np.quantile(hourly, 0.99) - np.quantile(hourly, 0.01)))
    assert len(errors) == 5
    assert np.median(errors) == pytest.approx(0.160, abs=0.01)


def test_round_forecast_wh_rounds_halves_up_when_any_sign():
    assert round_forecast_wh([0.5, 1.49, -0.5, -1.5, -1.51, 2.0]).tolist() == [1, 1, 0, -1, -2, 2]


def test_d_prognoses_equal_the_sum_of_rounded_members_when_fractions():
    expected_wh = np.array([[0.5, 0.5, 0.5], [1.2, -1.2, 10.0]])
    groups = d_prognoses(expected_wh, {"a": [0, 1], "b": [2], "none": []})
    assert groups["a"].tolist() == [2, 0]
    assert groups["b"].tolist() == [1, 10]
    assert groups["none"].tolist() == [0, 0]


def test_d_prognoses_raises_when_a_connection_is_in_two_groups():
    with pytest.raises(DomainError, match="connection 1 is counted twice"):
        d_prognoses(np.zeros((96, 3)), {"a": [0, 1], "b": [1, 2]})


def test_forecasts_predict_the_evening_congestion_when_default_day(evening):
    """What the pilot relies on: last week's evening announces this one's overload."""
    first = MarketDay.of(date(2016, 2, 15)).first_isp
    net_wh = evening.net_wh(range(first, evening.day.first_isp))
    expected = forecasts(WeeklyNaive(), first, net_wh, evening.day).sum(axis=1)
    metered = evening.net_wh(evening.day).sum(axis=1)
    assert expected[76:88].max() > 0.9 * metered[76:88].max()
