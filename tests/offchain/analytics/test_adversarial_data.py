"""Hostile data beside healthy data, through every package: whoever cannot be used is named in one line, nobody else
is stopped. The period holds a leap day and a day of 92 quarter hours.

gaps; all missing; infinite; beyond a curve; negative (a plant); constant; zero; a meter change to another level; a
meter that counts a thousandfold for a day; one day of history
"""

from datetime import date

import numpy as np
import pytest

from offchain.baseline.evaluation import evaluate
from offchain.baseline.history import Exclusion, History
from offchain.baseline.method import BASELINE_METHODS, baseline_method, baselines_of
from offchain.clustering.vectors import Scale, scale_rows
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay, isp_start
from offchain.forecasting.horizons import DAY_AHEAD, HOUR_AHEAD, INTRADAY
from offchain.forecasting.panel import Panel
from offchain.forecasting.parallel import forecast_many
from offchain.profiling.batch import for_each
from offchain.profiling.days import day_curves, history_of
from offchain.profiling.disaggregation import disaggregate
from offchain.profiling.profiles import load_profile
from offchain.store.cleaning import clean
from tests.offchain.forecasting.panels import QUICK, homes

FIRST, LAST = date(2016, 2, 1), date(2016, 4, 4)
HEALTHY = homes(4, first=FIRST, last=LAST)
ISPS = len(HEALTHY.values_wh)
DAY = MarketDay.of(LAST)


def hostile() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    usual = HEALTHY.values_wh[:, 0]
    cases = {
        "gaps": np.where(rng.random(ISPS) < 0.02, np.nan, usual),
        "long gap": np.where(np.arange(ISPS) // 96 % 30 < 9, np.nan, usual),
        "all missing": np.full(ISPS, np.nan),
        "infinite": np.where(np.arange(ISPS) == 700, np.inf, usual),
        "beyond a curve": np.where(np.arange(ISPS) == 700, 1e12, usual),
        "negative": -usual,
        "constant": np.full(ISPS, 250.0),
        "zero": np.zeros(ISPS),
        "meter change": np.where(np.arange(ISPS) < ISPS // 2, usual, 7 * usual),
        "thousandfold": np.where(np.arange(ISPS) // 96 == 20, 1_000 * usual, usual),
        "one day": np.where(np.arange(ISPS) < ISPS - 96, np.nan, usual),
    }
    return cases


CASES = hostile()
EVERY = Panel((*HEALTHY.ids, *CASES), HEALTHY.first_isp, np.column_stack([HEALTHY.values_wh, *CASES.values()]))


def one_line(reason) -> bool:
    return "\n" not in str(reason) and 10 < len(str(reason)) < 250


def histories(which: dict[str, np.ndarray]) -> dict[str, History]:
    """As the commands make them: whole Wh, NaN marked as missing, what cannot be whole left out by the import."""
    cleaned, _ = clean(tuple(which), np.column_stack(list(which.values())))
    return {name: history_of(HEALTHY.first_isp, cleaned[:, n]) for n, name in enumerate(which)}


HOMES = dict(zip(HEALTHY.ids, HEALTHY.values_wh.T, strict=True))


@pytest.mark.parametrize("of", [DAY_AHEAD, INTRADAY, HOUR_AHEAD], ids=lambda of: of.name)
def test_forecasts_of_all_others_are_there_when_some_cannot_be_used(of):
    issued_at = (EVERY.end_isp - 52) * SECONDS_PER_ISP
    result = forecast_many(EVERY, of, issued_at, settings=QUICK)
    (forecast,) = result.forecasts
    assert set(result.problems) == {"infinite", "beyond a curve"}
    assert all(one_line(reason) for reason in result.problems.values())
    assert set(forecast.ids) == set(EVERY.ids) - set(result.problems)
    assert np.isfinite(forecast.p50).all() and (forecast.p10 <= forecast.p50).all()
    at = {name: forecast.p50[:, column].mean() for column, name in enumerate(forecast.ids)}
    size = of.step_isps
    assert at["constant"] == pytest.approx(250 * size, rel=0.02) and at["zero"] == pytest.approx(0, abs=size)
    assert at["negative"] < 0 < at["home-0"]
    basis = dict(zip(forecast.ids, forecast.basis, strict=True))
    assert basis["home-0"] == "own history" and basis["all missing"] == "group profile"
    assert basis["one day"] != "own history"


@pytest.mark.parametrize("name", ["weighted_10@1", "mid_4_of_6@1", "least_squares@1", "comparable_day_3@1"])
def test_baselines_of_all_others_are_the_same_when_some_cannot_be_used(name):
    method, today, day, event = baseline_method(name), histories(HOMES | CASES), DAY, None
    if method.same_day:
        day = MarketDay.of(date(2016, 4, 1))
        event = range(day.first_isp + 68, day.first_isp + 76)
    together, alone = baselines_of(method, today, day, event), baselines_of(method, histories(HOMES), day, event)
    for home in HOMES:
        assert np.array_equal(together.net_wh[home], alone.net_wh[home])
    assert {"all missing", "one day"} <= set(together.refused)
    assert all(one_line(refusal) for refusal in together.refused.values())
    assert together.net_wh["constant"].tolist() == [250] * 96 and not together.net_wh["zero"].any()
    assert (together.net_wh["negative"] < 0).all()


def test_baseline_knows_only_the_new_meter_when_the_change_is_named():
    """Days before the change are another level; the day of the change is left out by its reason."""
    change = isp_start(HEALTHY.first_isp + ISPS // 2).date()
    plain = histories({"meter change": CASES["meter change"]})["meter change"]
    told = History(plain.first_isp, plain.net_wh, plain.known, excluded={change: Exclusion.METER_CHANGE})
    after = baseline_method("weighted_10@1").baseline(told, DAY).sum()
    usual = baselines_of(baseline_method("weighted_10@1"), histories(HOMES), DAY).net_wh["home-0"].sum()
    assert after == pytest.approx(7 * usual, rel=0.05)


def test_evaluation_names_who_has_no_placebo_events_when_some_cannot_be_used():
    methods = [m for m in BASELINE_METHODS.values() if m.name in ("weighted_10", "mid_4_of_6")]
    found = evaluate(methods, histories(HOMES | CASES), range(68, 76))
    assert set(HOMES) <= set(found.quality) and {"all missing", "one day"} <= set(found.refused)
    assert all(one_line(refusal) for refusal in found.refused.values())


def test_profiles_and_curves_of_all_others_are_the_same_when_some_cannot_be_used():
    every = histories(HOMES | CASES)
    together, alone = for_each(every, load_profile), for_each(histories(HOMES), load_profile)
    for home in HOMES:
        assert together.results[home].frame().equals(alone.results[home].frame())
    assert set(together.unusable) == {"all missing"} and one_line(together.unusable["all missing"])
    curves = for_each(every, day_curves).results
    names, rows, left_out = scale_rows(curves, Scale.WEEKLY)
    assert set(HOMES) <= set(names) and "one day" in left_out
    assert np.isfinite(rows).all() and all(one_line(reason) for reason in left_out.values())


def test_disaggregation_goes_on_when_some_cannot_be_used():
    batch = for_each(histories({"home-0": HOMES["home-0"]} | CASES), disaggregate)
    assert "home-0" in batch.results and {"all missing", "one day"} <= set(batch.unusable)
    assert all(one_line(reason) for reason in batch.unusable.values())
    for name, parts in batch.results.items():
        known = ~np.isnan(parts.net_wh)
        values = clean((name,), CASES.get(name, HOMES["home-0"])[:, None])[0][:, 0]
        assert np.allclose(parts.net_wh[known], np.floor(values[known] + 0.5), atol=1.01)


def test_cleaning_reports_what_it_took_out_when_a_meter_counts_wrong():
    cleaned, report = clean(EVERY.ids, EVERY.values_wh)
    assert report.changes["infinite"] == {"infinite, now missing": 1}
    assert report.changes["beyond a curve"] == {"far beyond all others, now missing": 1}
    assert "meter change" not in report.changes
    assert report.changes["thousandfold"]["far beyond all others, now missing"] == 96
    assert np.isnan(cleaned[20 * 96 : 21 * 96, EVERY.ids.index("thousandfold")]).all()
    assert "the same value other than zero" in report.remarks["constant"][0]
    untouched = [n for n, name in enumerate(EVERY.ids) if name not in report.changes]
    assert np.array_equal(cleaned[:, untouched], EVERY.values_wh[:, untouched], equal_nan=True)
    assert set(HOMES) <= {EVERY.ids[n] for n in untouched}
    for line in report.lines():
        assert one_line(line)
