"""train, predict: better than naive on a rhythm; whatever one series is like, the others get their forecast."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.forecast import GROUP_PROFILE, GROUP_SCALED, OWN_HISTORY
from offchain.forecasting.forecaster import Frame, predict, predict_issues, train
from offchain.forecasting.horizons import DAY_AHEAD, HORIZONS, HOUR_AHEAD, INTRADAY
from offchain.forecasting.model_store import load_model, save_model, versions
from offchain.forecasting.panel import Panel, Site
from tests.offchain.forecasting.panels import QUICK, homes, isp_of_day

LAST = date(2016, 3, 14)


def at(day: date, hour: int) -> int:
    """Seconds of a full hour, local winter time."""
    return isp_of_day(day) * SECONDS_PER_ISP + hour * 3_600


@pytest.fixture(scope="module")
def panel():
    return homes()


@pytest.fixture(scope="module")
def model(panel):
    return train(panel.until(isp_of_day(date(2016, 3, 7))), DAY_AHEAD, target="consumption", settings=QUICK)


@pytest.fixture(scope="module")
def hourly():
    """Three homes, and a model of their next hour."""
    panel = homes(3, last=date(2016, 2, 20))
    return panel, train(panel.until(isp_of_day(date(2016, 2, 18))), HOUR_AHEAD, settings=QUICK)


def with_column(panel: Panel, values: np.ndarray, name: str = "odd") -> Panel:
    return replace(panel, ids=(*panel.ids, name), values_wh=np.column_stack([panel.values_wh, values]))


def test_predict_covers_the_next_day_when_day_ahead(panel, model):
    forecast = predict(model, panel, at(date(2016, 3, 9), 11))
    assert forecast.first_isp == isp_of_day(date(2016, 3, 10))
    assert forecast.p50.shape == (24, 6) and forecast.step_isps == 4
    assert (forecast.p10 <= forecast.p50).all() and (forecast.p50 <= forecast.p90).all() and (forecast.p10 >= 0).all()
    assert set(forecast.basis) == {OWN_HISTORY} and not forecast.problems
    assert np.allclose(sum(forecast.weights.values()), 1)


@pytest.mark.parametrize(("day", "hours"), [(date(2016, 3, 27), 23), (date(2016, 10, 30), 25), (date(2016, 2, 29), 24)])
def test_predict_has_all_hours_when_clocks_change_or_leap_day(day, hours):
    first = date(day.year, day.month - 1, 1) if day.month > 2 else date(2016, 1, 4)
    panel = homes(3, first=first, last=day)
    before = panel.until(isp_of_day(day) - 60)
    forecast = predict(train(before, DAY_AHEAD, settings=QUICK), before, (isp_of_day(day) - 52) * SECONDS_PER_ISP)
    assert forecast.p50.shape == (hours, 3) and np.isfinite(forecast.p50).all()


@pytest.mark.parametrize("of", [INTRADAY, HOUR_AHEAD], ids=lambda h: h.name)
def test_predict_covers_what_follows_when_shorter_horizon(of):
    panel = homes(3, last=date(2016, 2, 20))
    cut = isp_of_day(date(2016, 2, 18))
    model = train(panel.until(cut), of, settings=QUICK)
    forecast = predict(model, panel, (cut + 41) * SECONDS_PER_ISP)
    assert forecast.first_isp == (cut + 42 if of is INTRADAY else cut + 41)
    assert forecast.p50.shape == (of.steps, 3)


def test_experts_take_the_trees_of_each_lead_when_hour_ahead(hourly):
    panel, model = hourly
    frame = Frame(panel, HOUR_AHEAD)
    features = frame.features(frame.all_issues(0).pick(slice(-9, -4)), model.scale_wh, 0, None)
    rows = np.arange(3)
    values, widths = model.experts.values(features, rows)
    assert {level: len(texts) for level, texts in model.experts.boosters.items()} == {0.5: 4, 0.1: 4, 0.9: 4}
    turned = {level: (*texts[:2], texts[3], texts[2]) for level, texts in model.experts.boosters.items()}
    other, wide = replace(model.experts, boosters=turned, _loaded={}).values(features, rows)
    assert (other[:, :2] == values[:, :2]).all() and (wide[:, :2] == widths[:, :2]).all()
    assert (other[:, 2:, :, -1] != values[:, 2:, :, -1]).any(axis=(0, 2)).all()


def test_predict_beats_weekly_naive_when_there_is_a_rhythm(panel, model):
    frame = Frame(panel, DAY_AHEAD)
    issues = frame.all_issues(0)
    issues = issues.pick(issues.steps[:, 0] >= frame.position(isp_of_day(date(2016, 3, 8)) // 4))
    issues = issues.pick(issues.steps.max(axis=1) < len(frame.values_wh))
    issued = predict_issues(model, frame, issues)
    measured = frame.measured(issues.steps)
    error = np.abs(issued.p50 - measured).mean()
    assert error < 0.8 * np.abs(issued.experts[..., 0] - measured).mean()


def test_predict_is_the_same_when_repeated_and_when_the_future_changes(panel, model):
    issued_at = at(date(2016, 3, 9), 11)
    changed = panel.values_wh.copy()
    changed[isp_of_day(date(2016, 3, 9)) + 44 - panel.first_isp :] = 1e6
    one = predict(model, panel, issued_at)
    assert one.digest() == predict(model, replace(panel, values_wh=changed), issued_at).digest()
    again = train(panel.until(isp_of_day(date(2016, 3, 7))), DAY_AHEAD, target="consumption", settings=QUICK)
    assert again.model_id == model.model_id
    assert predict(again, panel, issued_at).digest() == one.digest()


def test_predict_differs_when_the_past_changes(panel, model):
    changed = panel.values_wh * 1.5
    issued_at = at(date(2016, 3, 9), 11)
    assert (
        predict(model, replace(panel, values_wh=changed), issued_at).digest()
        != predict(model, panel, issued_at).digest()
    )


def test_predict_takes_the_group_profile_and_says_so_when_a_prosumer_is_new(panel, model):
    nothing = np.full(len(panel.values_wh), np.nan)
    little = nothing.copy()
    until = isp_of_day(date(2016, 3, 9)) + 40 - panel.first_isp
    little[until - 3 * 96 : until] = 10 * panel.values_wh[until - 3 * 96 : until, 0]
    more = with_column(with_column(panel, nothing, "new"), little, "young")
    forecast = predict(model, more, at(date(2016, 3, 9), 11))
    assert forecast.basis[-2:] == (GROUP_PROFILE, GROUP_SCALED)
    others = forecast.p50[:, :6].mean(axis=0)
    assert others.min() < forecast.p50[:, 6].mean() < others.max()
    assert forecast.p50[:, 7].mean() == pytest.approx(10 * forecast.p50[:, 0].mean(), rel=0.25)
    width = (forecast.p90 - forecast.p10).mean(axis=0) / forecast.p50.mean(axis=0)
    assert width[6] > 0.9 * width[:6].mean()


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (lambda n: np.zeros(n), 0, 0.1),
        (lambda n: np.full(n, 250.0), 990, 1_010),
        (lambda n: -np.abs(np.sin(np.arange(n) / 96 * 2 * np.pi)) * 500, -2_100, 10),
    ],
    ids=["zero", "constant", "negative"],
)
def test_predict_follows_when_a_series_is_odd(panel, values, low, high):
    odd = with_column(panel, values(len(panel.values_wh)))
    cut = isp_of_day(date(2016, 3, 7))
    forecast = predict(train(odd.until(cut), DAY_AHEAD, settings=QUICK), odd, at(date(2016, 3, 9), 11))
    assert forecast.ids == odd.ids
    assert (forecast.p50[:, -1] >= low).all() and (forecast.p50[:, -1] <= high).all()


def test_predict_goes_on_when_one_series_is_unusable(panel, model):
    broken = panel.values_wh[:, 0].copy()
    broken[100] = np.inf
    forecast = predict(model, with_column(panel, broken), at(date(2016, 3, 9), 11))
    assert forecast.ids == panel.ids
    assert forecast.problems == {"odd": f"value at ISP {panel.first_isp + 100} is infinite"}
    alone = predict(model, panel, at(date(2016, 3, 9), 11))
    assert np.allclose(alone.p50, forecast.p50)


def test_train_goes_on_when_readings_have_gaps(panel):
    values = panel.values_wh.copy()
    rng = np.random.default_rng(1)
    values[rng.random(values.shape) < 0.02] = np.nan
    values[1_000:1_700, 2] = np.nan
    gaps = replace(panel, values_wh=values)
    forecast = predict(train(gaps.until(isp_of_day(date(2016, 3, 7))), DAY_AHEAD, settings=QUICK), gaps, at(LAST, -13))
    assert np.isfinite(forecast.p50).all() and len(forecast.ids) == 6


def test_train_raises_when_there_is_one_day_of_history(panel):
    with pytest.raises(InsufficientHistoryError, match="readings of the group"):
        train(panel.until(panel.first_isp + 96), DAY_AHEAD, settings=QUICK)


def test_train_raises_when_nothing_was_metered(panel):
    with pytest.raises(InsufficientHistoryError):
        train(replace(panel, values_wh=np.full_like(panel.values_wh, np.nan)), DAY_AHEAD, settings=QUICK)


def test_train_raises_when_the_target_is_unknown(panel):
    with pytest.raises(DomainError, match="unknown target"):
        train(panel, DAY_AHEAD, target="happiness", settings=QUICK)


def test_predict_raises_when_issued_before_the_training_ended(panel, model):
    with pytest.raises(DomainError, match="train with the readings that were known by then"):
        predict(model, panel, at(date(2016, 3, 1), 11))


def test_predict_is_zero_when_it_is_night_and_production():
    isps = np.arange(isp_of_day(date(2016, 4, 1)), isp_of_day(date(2016, 5, 10)))
    rng = np.random.default_rng(1)
    sun = np.clip(np.sin((isps % 96 - 20) / 56 * np.pi), 0, None) * (isps % 96 >= 20) * (isps % 96 <= 76)
    values = sun[:, None] * 1_000 * rng.uniform(0.3, 1, (isps.size // 96 + 1, 3)).repeat(96, axis=0)[: isps.size]
    panel = Panel(("a", "b", "c"), int(isps[0]), values, site=Site(51.0, 10.0))
    cut = isp_of_day(date(2016, 5, 5))
    forecast = predict(train(panel.until(cut), DAY_AHEAD, target="production", settings=QUICK), panel, (cut + 40) * 900)
    assert (forecast.p90[:3] == 0).all() and (forecast.p50[11:14] > 0).all()


def test_load_model_forecasts_the_same_when_saved(tmp_path, panel, model):
    save_model(tmp_path, "homes", model)
    save_model(tmp_path, "homes", model)
    assert [p.name for p in versions(tmp_path, "homes")] == ["v0001.npz", "v0002.npz"]
    back = load_model(tmp_path, "homes", 1)
    issued_at = at(date(2016, 3, 9), 11)
    assert back.model_id == model.model_id
    assert predict(back, panel, issued_at).digest() == predict(model, panel, issued_at).digest()
    with pytest.raises(DomainError, match="no model offices"):
        load_model(tmp_path, "offices")


def test_load_model_forecasts_the_same_when_every_lead_has_trees(tmp_path, hourly):
    panel, model = hourly
    save_model(tmp_path, "homes", model)
    issued_at = at(date(2016, 2, 19), 11)
    back = load_model(tmp_path, "homes")
    assert back.experts.boosters == model.experts.boosters and back.model_id.startswith("ensemble@3:")
    assert predict(back, panel, issued_at).digest() == predict(model, panel, issued_at).digest()


@pytest.mark.parametrize("fitted", ["day", "hour"])
def test_explain_adds_up_when_all_features_are_asked(fitted, model, hourly):
    parts = (model if fitted == "day" else hourly[1]).explain(1_000)
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert parts[0][1] >= parts[1][1]


def test_to_frame_has_units_and_times_with_zone_when_asked(panel, model):
    frame = predict(model, panel, at(date(2016, 3, 9), 11)).to_frame()
    assert len(frame) == 6 * 24 and str(frame.event_start.dt.tz) == "UTC"
    assert {"p10_wh", "p50_wh", "p90_wh", "belief_time", "source", "basis"} <= set(frame.columns)


@pytest.mark.parametrize("name", HORIZONS)
def test_horizons_fill_a_day_when_regular(name):
    assert HORIZONS[name].steps_per_day * HORIZONS[name].step_isps == 96
