"""Degradation against plants whose loss is known, in spite of outages, faults and soiling; validity indices and
year-on-year by hand are in tests/offchain."""

import numpy as np
import pytest

from offchain.degradation.performance import LeftOut, daily_performance
from offchain.degradation.plant import expected_wh
from offchain.degradation.year_on_year import degradation_rate
from tests.validation.aging_plants import PLANT, daily_index, metered_plant


@pytest.fixture(scope="module")
def plant():
    return metered_plant(-0.01, 4, seed=3)


def test_rate_is_found_with_metered_weather(plant):
    generation, first, weather = plant
    expected = expected_wh(PLANT, first, generation.size, weather)
    performance = daily_performance(generation, expected, first, inverter_w=PLANT.inverter_w)
    found = degradation_rate(performance)
    assert found.rate_per_year == pytest.approx(-0.01, abs=0.003)
    assert found.low < -0.01 < found.high and found.high - found.low < 0.02
    reasons = list(performance.left_out.values())
    assert reasons.count(LeftOut.OUTAGE) >= 30 and reasons.count(LeftOut.GAPS) == 4


def test_rate_is_found_with_the_clear_sky_alone(plant):
    generation, first, _ = plant
    expected = expected_wh(PLANT, first, generation.size)
    performance = daily_performance(generation, expected, first, clear_sky=True, inverter_w=PLANT.inverter_w)
    found = degradation_rate(performance)
    assert found.low < -0.01 < found.high
    assert found.rate_per_year == pytest.approx(-0.01, abs=0.008)


@pytest.mark.parametrize(("years", "least"), [(3, 0.85), (6, 0.95)])
def test_intervals_hold_the_true_rate(years, least):
    held, errors = [], []
    for seed in range(40):
        found = degradation_rate(daily_index(-0.007, years, np.random.default_rng(seed)))
        held.append(found.low <= -0.007 <= found.high)
        errors.append(found.rate_per_year + 0.007)
    assert np.mean(held) >= least
    assert abs(np.mean(errors)) < 0.0025


def test_a_plant_that_does_not_age_is_not_said_to():
    found = [degradation_rate(daily_index(0.0, 6, np.random.default_rng(s))) for s in range(20)]
    assert np.mean([f.low <= 0 <= f.high for f in found]) >= 0.95
