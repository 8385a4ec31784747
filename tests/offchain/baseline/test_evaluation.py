from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offchain.baseline.evaluation import Quality, evaluate, recommend
from offchain.baseline.history import DayType, Exclusion, History
from offchain.baseline.method import BASELINE_METHODS, baseline_method
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.grid.simbench_data import YEAR_FIRST_ISP, YEAR_ISPS

AVERAGE, MIDDLE = baseline_method("average_10_of_10@1"), baseline_method("mid_4_of_6@1")
EVENING = range(68, 76)


def test_evaluate_gives_bias_cv_and_mape_when_worked_by_hand(working_days):
    """Ten days of 100 Wh, then 110 and 90 in turns ten times; each baseline from the ten days before."""
    values = [100] * 10 + [110, 90] * 5
    quality = evaluate([AVERAGE], {"meter": working_days(values)}, EVENING).quality["meter"]["average_10_of_10@1"]
    baselines = [round_half_up(sum(values[n - 10 : n]) / 10) for n in range(10, 20)]
    errors = [b - v for b, v in zip(baselines, values[10:], strict=True)]
    assert baselines == [100, 101, 100, 101, 100, 101, 100, 101, 100, 101]
    assert (quality.events, quality.isps, quality.mean_wh) == (10, 80, 100.0)
    assert quality.bias_percent == pytest.approx(sum(errors) / 10)
    assert quality.cv_rmse_percent == pytest.approx((sum(e * e for e in errors) / 10) ** 0.5)
    assert quality.mape_percent == pytest.approx(10 * sum(abs(e) / v for e, v in zip(errors, values[10:], strict=True)))


def round_half_up(value: float) -> int:
    return int(value + 0.5)


def test_evaluate_equals_baselines_one_by_one_when_a_meter_of_simbench(quiet):
    net_wh = quiet.net_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + 96 * 120))[:, 40]
    history = History(YEAR_FIRST_ISP, net_wh)
    methods = list(BASELINE_METHODS.values())
    result = evaluate(methods, {"meter": history}, EVENING, at_most=12).quality["meter"]
    eligible = history.eligible_days(MarketDay.of(date(2016, 5, 2)), 12)
    for method in methods:
        errors = []
        for day in eligible.days:
            market_day = MarketDay.of(day)
            event = range(market_day.first_isp + 68, market_day.first_isp + 76)
            curve = method.baseline(history, market_day, event)[68:76]
            errors.append(curve - history.values_of(market_day)[68:76])
        quality = result[f"{method.name}@1"]
        assert quality.bias_percent == pytest.approx(100 * np.mean(errors) / quality.mean_wh)


def test_evaluate_leaves_events_out_when_days_had_one(working_days):
    values = [100] * 30
    values[20] = 10_000
    history = working_days(values)
    event_day = date(2016, 2, 1)
    assert history.values_of(MarketDay.of(event_day))[0] == 10_000
    marked = replace(history, excluded={event_day: Exclusion.EVENT})
    assert evaluate([AVERAGE], {"m": marked}, EVENING).quality["m"]["average_10_of_10@1"].bias_percent == 0
    assert evaluate([AVERAGE], {"m": history}, EVENING).quality["m"]["average_10_of_10@1"].cv_rmse_percent > 0


def test_evaluate_refuses_by_name_when_a_meter_is_too_short(working_days):
    result = evaluate([AVERAGE], {"long": working_days([5] * 20), "short": working_days([5] * 19)}, EVENING)
    assert set(result.quality) == {"long"}
    assert isinstance(result.refused["short"], InsufficientHistoryError)
    assert (result.refused["short"].available, result.refused["short"].required) == (19, 20)


@pytest.mark.parametrize("value", [0, -40, 7])
def test_evaluate_is_without_error_when_the_series_is_constant(working_days, value):
    result = evaluate(list(BASELINE_METHODS.values()), {"m": working_days([value] * 22)}, EVENING)
    for quality in result.quality["m"].values():
        assert (quality.bias_percent, quality.cv_rmse_percent, quality.mape_percent) == (0, 0, 0)


def test_evaluate_is_infinite_when_nothing_was_metered_and_something_expected(working_days):
    quality = evaluate([AVERAGE], {"m": working_days([100] * 10 + [0] * 10)}, EVENING).quality["m"]
    assert quality["average_10_of_10@1"].bias_percent == float("inf")
    assert recommend(quality)[0].unexplained_bias_percent == float("inf")


def test_evaluate_measures_all_methods_on_the_same_days_when_they_need_different_history(working_days):
    quality = evaluate([AVERAGE, MIDDLE], {"m": working_days(range(25))}, EVENING, first=date(2016, 1, 5)).quality["m"]
    assert {q.events for q in quality.values()} == {15}


def test_evaluate_does_not_look_at_the_day_before_when_it_is_not_over(working_days):
    """Values rise by one a working day: a mean of ten lags by 5.5 days, by 6.5 where the day before is unknown."""
    history = working_days(range(100, 140))
    found = {}
    for unknown in (0, 1):
        quality = evaluate([AVERAGE], {"m": history}, EVENING, at_most=10, unknown_days=unknown).quality["m"]
        q = quality["average_10_of_10@1"]
        found[unknown] = q.bias_percent * q.mean_wh / 100
    assert found[0] == -5  # 5.5 less, rounded half up
    # Mondays know the Friday before: two of ten events
    assert found[1] == -5.8


def test_evaluate_takes_free_days_when_asked(working_days):
    history = working_days([100] * 100)
    quality = evaluate([MIDDLE], {"m": history}, EVENING, kind=DayType.FREE).quality["m"]["mid_4_of_6@1"]
    assert quality.events == 38 and quality.mean_wh == 200 / 38  # Ascension Day and Whit Monday have 100 Wh


def test_evaluate_calls_progress_until_all_are_done_when_some_are_refused(working_days):
    seen = []
    histories = {"a": working_days([1] * 20), "b": working_days([1] * 3), "c": working_days([2] * 21)}
    evaluate([AVERAGE], histories, EVENING, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize("window", [range(0), range(90, 100), range(0, 8, 2), range(-1, 3)])
def test_evaluate_raises_when_the_window_is_no_part_of_a_day(working_days, window):
    with pytest.raises(DomainError, match="event window"):
        evaluate([AVERAGE], {"m": working_days([1] * 20)}, window)


def quality_of(method, bias, cv, *, error=0.1, same_day=False) -> Quality:
    return Quality(method, same_day, 50, 400, 100.0, bias, error, cv, cv)


def test_recommend_puts_bias_before_spread_when_methods_differ():
    ranked = recommend(
        {
            "a": quality_of("a", 5.0, 10),
            "b": quality_of("b", -0.9, 30),
            "c": quality_of("c", 0.2, 25),
            "d": quality_of("d", -1.3, 12),
        }
    )
    assert [q.method for q in ranked] == ["c", "b", "d", "a"]


def test_recommend_ignores_bias_that_chance_explains_when_it_is_small():
    ranked = recommend({"a": quality_of("a", 3.0, 10, error=2.5), "b": quality_of("b", 0.1, 12)})
    assert ranked[0].method == "a"


def test_recommend_takes_methods_that_need_the_day_itself_only_when_allowed():
    quality = {"a": quality_of("a", 0, 10, same_day=True), "b": quality_of("b", 0, 20)}
    assert recommend(quality)[0].method == "b"
    assert recommend(quality, same_day=True)[0].method == "a"
    with pytest.raises(DomainError, match="readings of the day itself"):
        recommend({"a": quality["a"]})


@pytest.mark.parametrize("name", ["quiet", "evening"])
@pytest.mark.parametrize("window", [EVENING, range(48, 56)], ids=["17 to 19 h", "12 to 14 h"])
def test_methods_without_ranking_have_a_bias_within_one_percent_when_groups_of_consumers(name, window, request):
    """As settled: the sum of single baselines. Ranked days (mid 4 of 6) miss the aim of 1% for the group itself."""
    scenario = request.getfixturevalue(name)
    consumers = [i for i, a in enumerate(scenario.assets) if a.kind in ("household", "business")]
    group_wh = scenario.asset_wh(range(YEAR_FIRST_ISP, YEAR_FIRST_ISP + YEAR_ISPS))[:, consumers].sum(axis=1)
    methods = [AVERAGE, baseline_method("weighted_10@1"), MIDDLE]
    quality = evaluate(methods, {"group": History(YEAR_FIRST_ISP, group_wh)}, window).quality["group"]
    assert abs(quality["average_10_of_10@1"].bias_percent) < 0.5
    assert abs(quality["weighted_10@1"].bias_percent) < 0.5
    assert quality["weighted_10@1"].cv_rmse_percent < quality["mid_4_of_6@1"].cv_rmse_percent
