"""daily_performance: what is left out and why; degradation_rate: by hand, robust; outlook and corrections by hand"""

from datetime import date, timedelta

import numpy as np
import pytest

from offchain.degradation.generation import TrendCorrection, long_term_wh, yearly_outlook
from offchain.degradation.performance import LeftOut, Performance, daily_performance
from offchain.degradation.plant import PvPlant, Weather, expected_wh
from offchain.degradation.year_on_year import Degradation, degradation_rate
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay

FIRST = MarketDay.of(date(2015, 6, 1)).first_isp
SUN = np.maximum(np.sin((np.arange(96) - 24) / 48 * np.pi), 0) * 1_000


def days(index: np.ndarray, first: date = date(2015, 1, 1)) -> Performance:
    return Performance(tuple(first + timedelta(days=i) for i in range(index.size)), index, {})


def test_degradation_rate_by_hand_when_performance_steps_down_every_year():
    # 1.00, 0.99, 0.98 in three years of 365 days: every pair loses 0.01 in 365 of 365.25 days
    found = degradation_rate(days(np.repeat([1.0, 0.99, 0.98], 365)))
    slope = -0.01 * 365.25 / 365
    # the first year's median of 1 stands for its middle: half a year before it was 1 / (1 + slope / 2)
    reference = 1 / (1 + slope / 2)
    assert found.reference_index == pytest.approx(reference)
    assert found.rate_per_year == pytest.approx(slope / reference)
    assert found.low == found.high == found.rate_per_year
    # the last day is the partner of the seven days after the one a year before it, too
    assert found.pairs == 737 and found.first_day == date(2015, 1, 1)


def test_degradation_rate_is_exact_when_the_loss_is_linear():
    years = np.arange(5 * 365) / 365.25
    found = degradation_rate(days(0.95 * (1 - 0.007 * years)))
    assert found.rate_per_year == pytest.approx(-0.007, rel=1e-3)
    assert found.reference_index == pytest.approx(0.95, rel=1e-3)
    assert found.index_at(10.0) == pytest.approx(0.95 * 0.93, rel=2e-3)


def test_degradation_rate_ignores_a_season():
    years = np.arange(4 * 365) / 365.25
    found = degradation_rate(days((1 - 0.01 * years) * (1 + 0.1 * np.cos(2 * np.pi * years))))
    assert found.rate_per_year == pytest.approx(-0.01, abs=5e-4)


def test_degradation_rate_pairs_within_a_week_when_days_are_missing():
    index = 1 - 0.01 * np.arange(3 * 365) / 365.25
    whole = days(index)
    kept = np.arange(index.size) % 10 == 0
    sparse = Performance(tuple(np.array(whole.days)[kept]), index[kept], {})
    assert degradation_rate(sparse).rate_per_year == pytest.approx(-0.01, rel=1e-2)


def test_degradation_rate_takes_a_leap_day():
    index = 1 - 0.01 * np.arange(2 * 366) / 365.25
    assert degradation_rate(days(index, date(2016, 2, 29))).rate_per_year == pytest.approx(-0.01, rel=1e-2)


def test_degradation_rate_is_the_same_when_the_seed_is_the_same():
    performance = days(1 + np.random.default_rng(1).normal(0, 0.05, 1_200))
    assert degradation_rate(performance, seed=3) == degradation_rate(performance, seed=3)
    assert degradation_rate(performance, seed=3) != degradation_rate(performance, seed=4)


@pytest.mark.parametrize("count", [0, 1, 365, 400])
def test_degradation_rate_raises_when_there_are_not_two_years(count):
    with pytest.raises(InsufficientHistoryError, match="pairs of usable days a year apart"):
        degradation_rate(days(np.ones(count)))


def test_degradation_rate_refuses_a_confidence_of_one():
    with pytest.raises(DomainError, match="confidence 1 is not between"):
        degradation_rate(days(np.ones(800)), confidence=1)


def plant_days(count: int) -> tuple[np.ndarray, np.ndarray]:
    expected = np.tile(SUN, count)
    return 0.9 * expected, expected


def test_daily_performance_names_what_it_leaves_out():
    generation, expected = plant_days(100)
    generation, expected = generation.reshape(-1, 96), expected.reshape(-1, 96)
    generation[3, 40:70] = np.nan
    generation[5] = 0
    generation[7] *= 0.5
    generation[9] *= 0.05
    expected[9] *= 0.05
    generation[11, 44:52] = 0
    found = daily_performance(generation.ravel(), expected.ravel(), FIRST)
    day = [date(2015, 6, 1) + timedelta(days=i) for i in range(100)]
    assert found.left_out == {
        day[3]: LeftOut.GAPS,
        day[5]: LeftOut.OUTAGE,
        day[7]: LeftOut.OUTLIER,
        day[9]: LeftOut.DULL,
        day[11]: LeftOut.OUTAGE,
    }
    np.testing.assert_allclose(found.index, 0.9)


def test_daily_performance_does_not_count_quarter_hours_at_the_inverter_limit():
    generation, expected = plant_days(20)
    cut = np.minimum(generation, 800.0)
    found = daily_performance(cut, expected, FIRST, inverter_w=3_200)
    np.testing.assert_allclose(found.index, 0.9)
    assert daily_performance(cut, expected, FIRST).index.max() < 0.9


def test_daily_performance_keeps_clear_days_only_when_expected_is_the_clear_sky():
    generation, expected = plant_days(20)
    cloudy = generation.reshape(-1, 96)
    cloudy[1::2] *= np.random.default_rng(0).uniform(0.3, 1, (10, 96))
    found = daily_performance(cloudy.ravel(), expected, FIRST, clear_sky=True)
    assert len(found.days) == 10 and set(found.left_out.values()) == {LeftOut.CLOUDY}


def test_daily_performance_takes_clock_changes_and_part_days():
    start = MarketDay.of(date(2016, 3, 26))
    end = MarketDay.of(date(2016, 3, 28)).end_isp
    sun = np.tile(SUN, 4)[: end - start.first_isp - 30]
    found = daily_performance(sun, sun, start.first_isp)
    assert found.days[:2] == (date(2016, 3, 26), date(2016, 3, 27))
    np.testing.assert_allclose(found.index, 1.0)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_daily_performance_is_empty_when_nothing_is_generated(value):
    found = daily_performance(np.full(96 * 10, value), np.tile(SUN, 10), FIRST)
    assert not found.days and len(found.left_out) == 10


@pytest.mark.parametrize(
    ("generation", "message"), [(np.full(96, -1.0), "generation is negative"), (np.ones(95), "differ in shape")]
)
def test_daily_performance_says_what_is_wrong(generation, message):
    with pytest.raises(DomainError, match=message):
        daily_performance(generation, SUN, FIRST)


# expected yield

PLANT = PvPlant(latitude=48.1, longitude=11.6, rated_w=5_000)


def test_expected_wh_is_zero_at_night_and_highest_near_noon():
    day = MarketDay.of(date(2016, 6, 21))
    yields = expected_wh(PLANT, day.first_isp, day.isp_count)
    assert yields[:16].sum() == 0 and 50 <= yields.argmax() <= 56  # the sun is highest at 13:15 summer time
    assert 4_000 < yields.max() * 4 < 5_000


def test_expected_wh_follows_irradiance():
    day = MarketDay.of(date(2016, 6, 21))
    flat = np.ones(day.isp_count)
    dark = expected_wh(PLANT, day.first_isp, day.isp_count, Weather(0 * flat, 20 * flat))
    hot, cold = (
        expected_wh(PLANT, day.first_isp, day.isp_count, Weather(400 * flat, t * flat))[50] for t in (30.0, 10.0)
    )
    assert not dark.any() and cold / hot == pytest.approx(1.08, abs=0.02)


def test_expected_wh_stops_at_the_inverter():
    day = MarketDay.of(date(2016, 6, 21))
    assert expected_wh(PvPlant(48.1, 11.6, 5_000, inverter_w=3_000), day.first_isp, 96).max() == 750


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PvPlant(91, 0, 1_000), "not on Earth"),
        (lambda: PvPlant(48, 11, 0), "must be positive"),
        (lambda: PvPlant(48, 11, 1_000, per_k=-0.4), "temperature coefficient"),
        (lambda: expected_wh(PLANT, FIRST, 3, Weather(np.zeros(2), np.zeros(3))), "irradiance .* must be 3 values"),
        (lambda: expected_wh(PLANT, FIRST, 1, Weather(np.zeros(1), np.array([np.nan]))), "temperature .* without gaps"),
    ],
)
def test_plant_says_what_is_wrong(make, message):
    with pytest.raises(DomainError, match=message):
        make()


# generation to expect

AGED = Degradation(-0.01, -0.015, -0.005, 0.95, 700, date(2016, 1, 1), 1.0)


def test_long_term_wh_loses_one_percent_a_year():
    later = MarketDay.of(date(2026, 1, 1), "UTC").first_isp
    assert long_term_wh(np.array([1_000.0]), later, AGED)[0] == pytest.approx(900, abs=0.1)


def test_yearly_outlook_by_hand():
    table = yearly_outlook(1e6, AGED, 2025, 2)
    # the middle of 2025 is 9.5 years after the first day
    assert table.generation_wh.tolist() == pytest.approx([905_000, 895_000], abs=100)
    assert table.low_wh.tolist() == pytest.approx([857_500, 842_500], abs=100)
    with pytest.raises(DomainError, match="at least 1"):
        yearly_outlook(1e6, AGED, 2025, 0)


def test_index_at_never_falls_below_zero():
    assert AGED.index_at(200.0) == 0


def test_trend_correction_learns_how_long_departures_last():
    # every day is a constant share of the forecast: what departs now departs for the whole day
    rng = np.random.default_rng(2)
    forecast = np.tile(SUN, 60)
    metered = forecast * np.repeat(rng.uniform(0.4, 1.4, 60), 96)
    trend = TrendCorrection.fit(metered, forecast)
    np.testing.assert_allclose(trend.persistence, 1.0, atol=1e-9)
    made = trend.correct(0.5 * SUN[44:48], SUN[44:48], SUN[48:70])
    assert made.departure == pytest.approx(-0.5) and not made.unusual
    np.testing.assert_allclose(made.generation_wh[:16], 0.5 * SUN[48:64])
    np.testing.assert_allclose(made.generation_wh[16:], SUN[64:70])


def test_trend_correction_learns_nothing_when_departures_are_noise():
    rng = np.random.default_rng(2)
    forecast = np.tile(SUN, 200)
    trend = TrendCorrection.fit(forecast * rng.uniform(0, 2, forecast.size), forecast)
    assert trend.persistence[5:].max() < 0.15


def test_trend_correction_flags_what_it_has_not_seen():
    forecast = np.tile(SUN, 60)
    metered = forecast * np.repeat(np.random.default_rng(2).uniform(0.95, 1.05, 60), 96)
    trend = TrendCorrection.fit(metered, forecast)
    assert trend.correct(0 * SUN[44:48], SUN[44:48], SUN[48:52]).unusual


@pytest.mark.parametrize("recent", [np.zeros(4), np.full(4, np.nan)])
def test_trend_correction_changes_nothing_at_night_or_without_readings(recent):
    trend = TrendCorrection(np.ones(16), 0.1, 100.0)
    made = trend.correct(recent, np.zeros(4), SUN[:20])
    assert made.departure == 0 and (made.generation_wh == SUN[:20]).all()


def test_trend_correction_says_what_is_wrong():
    with pytest.raises(InsufficientHistoryError):
        TrendCorrection.fit(SUN, SUN)
    with pytest.raises(DomainError, match="the last 4 quarter hours"):
        TrendCorrection(np.ones(16), 0.1, 1.0).correct(np.ones(3), np.ones(3), SUN)
    with pytest.raises(DomainError, match="differ in shape"):
        TrendCorrection.fit(SUN, SUN[:5])
