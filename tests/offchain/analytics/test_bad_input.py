"""What cannot be meant is said in one line: zones, countries, places, shapes, gaps."""

from datetime import date

import numpy as np
import pytest

from offchain.baseline.history import History
from offchain.baseline.method import baseline_method
from offchain.degradation.plant import PvPlant, expected_wh
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.forecasting.forecast import per_isp_wh
from offchain.forecasting.forecaster import train
from offchain.forecasting.horizons import DAY_AHEAD
from offchain.forecasting.panel import Panel, Site
from offchain.forecasting.prognosis import d_prognoses
from offchain.forecasting.weather import PvSystem, Weather, WeatherRun, pv_energy_wh
from offchain.profiling.days import day_curves, history_of
from offchain.store import open_store
from offchain.store.series import SeriesBlock, put_measurements, read_measurements

DAY = MarketDay.of(date(2016, 1, 28))
FIRST = MarketDay.of(date(2016, 1, 1)).first_isp
ONES = np.ones((20 * 96, 1))
ROOF = PvSystem(5_000, 30, 180, 51, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: MarketDay.of(DAY.day, "Mars/Base"), "no time zone 'Mars/Base'"),
        (lambda: Panel(("a",), FIRST, ONES, zone="Mars/Base"), "no time zone 'Mars/Base'"),
        (lambda: train(Panel(("a",), FIRST, ONES, country="XX"), DAY_AHEAD), "no public holidays of 'XX'"),
        (lambda: Site(123, 10), "no place at 123, 10"),
        (lambda: Weather([]), "weather without a run"),
        (lambda: Weather([WeatherRun(1, FIRST, {"a": np.ones(3), "b": np.ones(2)})]), "weather of 1 has shapes"),
        (lambda: Weather([WeatherRun(1, FIRST, {"a": np.ones((3, 2))})]), "weather of 1 has shapes"),
        (lambda: pv_energy_wh(ROOF, np.arange(4), np.ones(3), np.ones(4), np.ones(4)), "differ in length"),
        (lambda: pv_energy_wh(ROOF, np.arange(4), -np.ones(4), np.ones(4), np.ones(4)), "irradiance is negative"),
        (lambda: d_prognoses(np.ones((4, 2)), {"a": [7]}), "connection 7 is not among 2 forecasts"),
        (lambda: d_prognoses(np.full((4, 2), np.nan), {"a": [0]}), "8 of 8 expected values are missing"),
        (lambda: per_isp_wh(np.ones(24), 4), "whole Wh are expected"),
        (lambda: expected_wh(PvPlant(48, 11, 1_000), FIRST, -1), "yield over -1 ISPs"),
        (lambda: day_curves(history_of(FIRST, ONES[:, 0], "Mars/Base")), "no time zone 'Mars/Base'"),
        (
            lambda: baseline_method("weighted_10@1").baseline(
                History(FIRST, np.ones(27 * 96, int), zone="Mars/Base"), DAY
            ),
            "no time zone 'Mars/Base'",
        ),
    ],
)
def test_one_line_says_what_is_wrong(wrong, message):
    with pytest.raises(DomainError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda c: read_measurements(c, ["a"], "net_wh", FIRST, -5), "a run of -5 ISPs"),
        (
            lambda c: put_measurements(
                c, SeriesBlock(("a", "b"), FIRST, ONES), quantity="net_wh", belief_time=1, source="x"
            ),
            "2 series, but values of shape",
        ),
    ],
)
def test_store_says_what_is_wrong(tmp_path, work, message):
    with open_store(tmp_path / "s.db") as store, store.write() as connection, pytest.raises(DomainError, match=message):
        work(connection)


def test_pv_energy_is_missing_where_the_weather_is():
    warm, calm = np.full(4, 20.0), np.ones(4)
    noon = DAY.first_isp + 48 + np.arange(4)
    found = pv_energy_wh(ROOF, noon, np.array([300.0, np.nan, 300.0, 300.0]), warm, calm)
    assert np.isnan(found[1]) and (found[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize("wh", [[7, -7, 0, 1], [4, 3, -2, -1]])
def test_per_isp_wh_keeps_the_sum_of_every_step(wh):
    laid = per_isp_wh(np.array(wh), 4).reshape(4, 4)
    assert laid.sum(axis=1).tolist() == wh and (np.ptp(laid, axis=1) <= 1).all()
