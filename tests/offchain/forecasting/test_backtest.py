"""backtest, parallel, verification: the same forecasts in any arrangement; scores against hand-computed examples."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.backtest import backtest, table
from offchain.forecasting.ensemble import combine
from offchain.forecasting.features import Issues
from offchain.forecasting.forecaster import Frame, predict
from offchain.forecasting.horizons import DAY_AHEAD, INTRADAY
from offchain.forecasting.parallel import InProcess, forecast_many, process_pool
from offchain.forecasting.scores import coverage, pinball, relative_crps, relative_mae, span
from offchain.forecasting.verification import Run, run_forecast, verify_run
from offchain.forecasting.weather import PvSystem, Weather, WeatherRun, clear_sky_w_m2, pv_energy_wh
from tests.offchain.forecasting.panels import QUICK, homes, isp_of_day

ISSUED = (isp_of_day(date(2016, 3, 9)) + 44) * SECONDS_PER_ISP


@pytest.fixture(scope="module")
def panel():
    return homes()


def test_backtest_beats_the_references_when_there_is_a_rhythm(panel):
    groups = {"one": panel.ids[:3], "two": panel.ids[3:]}
    results = backtest(
        panel, DAY_AHEAD, test_from_isp=isp_of_day(date(2016, 2, 29)), groups=groups, settings=QUICK, retrain_days=7
    )
    rows = table(results)
    assert rows.group.tolist() == ["one", "two"]
    assert (rows.relative_mae < rows.relative_mae_weekly_naive).all()
    assert (rows.relative_mae < rows.relative_mae_persistence).all()
    assert rows.coverage.between(0.7, 0.9).all()
    assert [len(r.models) for r in results] == [2, 2]
    assert results[0].measured.shape == results[0].p50.shape == (14, 24, 3)


def test_backtest_is_what_predict_would_have_said_when_issued_then(panel):
    (result,) = backtest(panel, DAY_AHEAD, test_from_isp=isp_of_day(date(2016, 3, 7)), settings=QUICK)
    issue = int(np.flatnonzero(result.first_isps[:, 0] == isp_of_day(date(2016, 3, 10)))[0])
    forecast = predict(result.models[0], panel, ISSUED)
    assert np.allclose(result.p50[issue], forecast.p50, rtol=0.05)


def test_backtest_raises_when_nothing_is_left_to_test(panel):
    with pytest.raises(DomainError, match="no readings after"):
        backtest(panel, DAY_AHEAD, test_from_isp=panel.end_isp, settings=QUICK)


def test_combine_follows_the_expert_that_was_right_when_errors_are_known():
    """Six experts, the fifth always right: from equal weights to nearly all of the weight."""
    panel = homes(2)
    frame = Frame(panel, DAY_AHEAD)
    issues = frame.all_issues(0)
    issues = issues.pick(issues.steps.max(axis=1) < len(frame.values_wh))
    truth = frame.measured(issues.steps) / 1_000
    experts = truth[..., None] + np.array([0.3, -0.3, 0.2, -0.2, 0.0, 0.25])
    widths = np.full((*truth.shape, 2), 0.05)
    values = np.full((frame.calendar.count, 2), np.nan)
    values[: len(frame.values_wh)] = frame.values_wh / 1_000
    result = combine(experts, widths, values, frame.calendar, issues, DAY_AHEAD)
    assert np.allclose(result.weights[0], 1 / 6)
    assert (result.weights[-1][..., 4] > 0.99).all()
    assert np.allclose(result.p50[-1], truth[-1], atol=1e-3)


def test_combine_covers_its_share_when_errors_are_random():
    panel = homes(4, first=date(2016, 1, 4), last=date(2016, 5, 30))
    frame = Frame(panel, DAY_AHEAD)
    issues = frame.all_issues(0)
    issues = issues.pick(issues.steps.max(axis=1) < len(frame.values_wh))
    rng = np.random.default_rng(3)
    values = rng.normal(size=(frame.calendar.count, 4)) * [1.0, 2.0, 5.0, 0.5]
    experts = np.zeros((*issues.steps.shape, 4, 6))
    widths = np.full((*issues.steps.shape, 4, 2), 0.7)
    result = combine(experts, widths, values, frame.calendar, issues, DAY_AHEAD)
    late = slice(len(issues.known_until) // 2, None)
    share = coverage(values[issues.steps[late]], result.p10[late], result.p90[late])
    assert share == pytest.approx(0.8, abs=0.03)


def test_combine_uses_no_error_that_was_not_known_when_issued():
    panel = homes(2)
    frame = Frame(panel, DAY_AHEAD)
    issues = frame.all_issues(0)
    issues = issues.pick(issues.steps.max(axis=1) < len(frame.values_wh))
    rng = np.random.default_rng(1)
    experts, widths = rng.normal(size=(*issues.steps.shape, 2, 6)), rng.random((*issues.steps.shape, 2, 2))
    values = rng.normal(size=(frame.calendar.count, 2))
    changed = values.copy()
    middle = len(issues.known_until) // 2
    changed[issues.known_until[middle] :] += 100
    one, other = (combine(experts, widths, v, frame.calendar, issues, DAY_AHEAD) for v in (values, changed))
    assert np.array_equal(one.p90[: middle + 1], other.p90[: middle + 1])
    assert not np.array_equal(one.p90[middle + 3 :], other.p90[middle + 3 :])


class Cluster:
    """Has ``submit`` alone, like the client of a Dask cluster."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(1)

    def submit(self, function, *args):
        return self.pool.submit(function, *args)


def digests(result):
    return [forecast.digest() for forecast in result.forecasts]


def test_forecast_many_is_the_same_when_run_anywhere(panel):
    here = forecast_many(panel, DAY_AHEAD, ISSUED, settings=QUICK, part=3, executor=InProcess())
    with process_pool(1) as pool:
        there = forecast_many(panel, DAY_AHEAD, ISSUED, settings=QUICK, part=3, executor=pool)
    assert len(here.forecasts) == 2
    assert digests(here) == digests(there)
    assert digests(here) == digests(forecast_many(panel, DAY_AHEAD, ISSUED, settings=QUICK, part=3, executor=Cluster()))


def test_forecast_many_goes_on_when_a_part_has_no_history(panel):
    values = panel.values_wh.copy()
    values[:, :3] = np.nan
    result = forecast_many(replace(panel, values_wh=values), DAY_AHEAD, ISSUED, settings=QUICK, part=3)
    assert [f.ids for f in result.forecasts] == [panel.ids[3:]]
    assert set(result.problems) == set(panel.ids[:3])
    assert len(result.to_frame()) == 3 * 24


def test_verify_run_finds_nothing_when_data_and_method_are_the_same(panel):
    run, _ = run_forecast(panel, DAY_AHEAD, ISSUED, target="consumption", settings=QUICK, part=6)
    assert verify_run(Run.from_json(run.to_json()), panel) == []
    assert len(run.digest()) == 32


def test_verify_run_names_what_differs_when_something_does(panel):
    run, _ = run_forecast(panel, DAY_AHEAD, ISSUED, target="consumption", settings=QUICK, part=6)
    past = panel.values_wh.copy()
    past[50, 0] += 1
    assert verify_run(run, replace(panel, values_wh=past))[0].startswith("inputs: the readings at hand have digest")
    future = panel.values_wh.copy()
    future[-1, 0] += 1
    assert verify_run(run, replace(panel, values_wh=future)) == []
    assert verify_run(replace(run, outputs="00"), panel)[0].startswith("outputs: made again they have digest")
    assert run.method == "ensemble@2"
    assert "is not ensemble@2" in verify_run(replace(run, method="guess@1"), panel)[0]
    assert "is not ensemble@3" in verify_run(replace(run, horizon="hour_ahead"), panel)[0]
    assert verify_run(replace(run, horizon="year_ahead"), panel) == ["horizon 'year_ahead' is unknown"]
    with pytest.raises(DomainError, match="not the record of a forecast run"):
        Run.from_json("{}")


def test_scores_equal_hand_computed_examples():
    measured = np.array([[10.0], [20.0], [30.0], [40.0]])
    p50 = np.array([[12.0], [18.0], [30.0], [44.0]])
    assert relative_mae(measured, p50, np.array([20.0])) == pytest.approx(0.1)
    # errors -2, 2, 0, -4 at level 0.9: 0.2 + 1.8 + 0 + 0.4
    assert pinball(measured, p50, 0.9) == pytest.approx(0.6)
    assert coverage(measured, p50 - 3, p50 + 3) == pytest.approx(0.75)
    assert np.isnan(coverage(measured, p50, p50)).all()
    exact = relative_crps(measured, measured, measured, measured, np.array([20.0]))
    assert exact == pytest.approx(0.0)


def test_span_is_one_when_constant():
    assert span(np.full((100, 1), 5.0)).tolist() == [1.0]
    assert span(np.arange(101.0)[:, None]).tolist() == [98.0]


def test_relative_crps_ranks_forecasts_like_the_crps_when_normal():
    """A sharp, calibrated forecast scores better than a wide and than a biased one."""
    measured = np.random.default_rng(1).normal(size=(5_000, 1))
    one, z = np.ones((5_000, 1)), 1.2816

    def score(centre, width):
        return float(
            relative_crps(measured, (centre - z * width) * one, centre * one, (centre + z * width) * one, one[0])[0]
        )

    assert score(0, 1) < score(0, 3) and score(0, 1) < score(1, 1)
    # twice the mean expected pinball loss of a standard normal: density over the three quantiles
    density = [math.exp(-q * q / 2) / math.sqrt(2 * math.pi) for q in (z, 0.0, z)]
    assert score(0, 1) == pytest.approx(2 * sum(density) / 3, rel=0.03)


def test_weather_known_takes_the_latest_run_when_it_was_known():
    runs = [WeatherRun(100, 0, {"t": np.array([1.0, 1.0, 1.0])}), WeatherRun(200, 1, {"t": np.array([2.0, np.nan])})]
    isps = np.array([[0, 1, 2, 3]] * 3)
    found = Weather(runs).known("t", isps, np.array([99, 150, 200]))
    assert np.isnan(found[0]).all()
    assert found[1, :3].tolist() == [1.0, 1.0, 1.0]
    assert found[2, :3].tolist() == [1.0, 2.0, 1.0] and np.isnan(found[2, 3])


def test_train_learns_from_weather_when_it_drives_consumption():
    panel = homes(4)
    days = len(panel.values_wh) // 96
    cold = np.random.default_rng(5).uniform(0, 1, days + 3).repeat(96)
    driven = replace(panel, values_wh=panel.values_wh * 0.2 + 500 * cold[: len(panel.values_wh), None])
    weather = Weather([WeatherRun(0, panel.first_isp, {"cold": cold})])
    begin = isp_of_day(date(2016, 3, 1))
    blind, seeing = (
        backtest(driven, DAY_AHEAD, test_from_isp=begin, weather=given, settings=QUICK)[0] for given in (None, weather)
    )
    assert seeing.scores()["relative_mae"] < 0.9 * blind.scores()["relative_mae"]
    assert seeing.models[0].explain(1)[0][0] == "cold"
    with pytest.raises(DomainError, match="trained with weather"):
        predict(seeing.models[0], driven, ISSUED)


def test_pv_energy_is_what_the_sun_gives_when_clear():
    first = isp_of_day(date(2016, 6, 21))
    isps = np.arange(first, first + 96)
    sky = clear_sky_w_m2(isps, 51.0, 10.0)
    system = PvSystem(10_000.0, 30.0, 180.0, 51.0, 10.0)
    calm = np.ones(96)
    energy = pv_energy_wh(system, isps, sky, 20 * calm, calm)
    assert energy[:12].sum() == 0 and energy.argmax() in range(44, 54)
    assert 45_000 < energy.sum() < 75_000, "4.5 to 7.5 kWh per kWp on the longest day"
    assert pv_energy_wh(system, isps, 0.3 * sky, 20 * calm, calm).sum() < 0.5 * energy.sum()
    assert pv_energy_wh(system, isps, sky, 40 * calm, calm).sum() < energy.sum(), "hot modules yield less"
    with pytest.raises(DomainError, match="irradiance is negative"):
        pv_energy_wh(system, isps, -calm, calm, calm)


def test_backtest_of_short_horizon_gets_worse_when_it_reaches_further():
    panel = homes(3, last=date(2016, 2, 22))
    (result,) = backtest(panel, INTRADAY, test_from_isp=isp_of_day(date(2016, 2, 15)), every=7, settings=QUICK)
    assert isinstance(result.scores(lead=-1)["relative_mae"], float)
    assert result.measured.shape[1] == 8


def test_issues_pick_keeps_both_parts_when_some_are_chosen():
    issues = Issues(np.array([1, 2, 3]), np.array([[1], [2], [3]]))
    assert issues.pick(np.array([2])).steps.tolist() == [[3]]
