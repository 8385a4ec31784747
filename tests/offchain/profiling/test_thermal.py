"""fit_thermal: known slopes and limits come back; nothing where the weather explains nothing; within_days: bounds"""

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.profiling.days import ProfileDay
from offchain.profiling.thermal import fit_thermal, within_days

RNG = np.random.default_rng(8)
TEMPERATURE = 11 + 11 * np.sin(np.linspace(-1.5, 4.7, 365)) + RNG.normal(0, 3, 365)


def test_fit_thermal_finds_slopes_and_limits():
    load = 6_000 + 900 * np.maximum(15 - TEMPERATURE, 0) + 400 * np.maximum(TEMPERATURE - 22, 0)
    model = fit_thermal(load + RNG.normal(0, 60, 365), TEMPERATURE)
    assert model.heating_wh_per_k == pytest.approx(900, rel=0.05)
    assert model.cooling_wh_per_k == pytest.approx(400, rel=0.15)
    assert (model.heating_limit_c, model.cooling_limit_c) == pytest.approx((15, 22), abs=1)
    assert model.base_wh_per_day == pytest.approx(6_000, rel=0.03)


@pytest.mark.parametrize("load", [RNG.normal(8_000, 500, 365), np.full(365, 8_000.0), np.zeros(365)])
def test_fit_thermal_finds_nothing_when_the_weather_explains_nothing(load):
    model = fit_thermal(load, TEMPERATURE)
    assert not model.thermal_wh_per_day(TEMPERATURE).any()


def test_fit_thermal_finds_nothing_when_there_are_few_days():
    load = 900 * np.maximum(15 - TEMPERATURE, 0)
    assert not fit_thermal(load[:59], TEMPERATURE[:59]).thermal_wh_per_day(TEMPERATURE).any()


def test_within_days_stays_between_zero_and_the_load():
    load = RNG.gamma(1.0, 100.0, (40, 96))
    energy = RNG.uniform(0, 2 * load.sum(axis=1))
    laid = within_days(load, energy, [ProfileDay.WORKING] * 40)
    assert (laid >= 0).all() and (laid <= load + 1e-9).all()
    assert (laid.sum(axis=1) <= energy + 1e-6).all()


@pytest.mark.parametrize(
    ("load", "message"), [(np.ones(364), "must be rows alike"), (np.full(365, np.nan), "has gaps")]
)
def test_fit_thermal_says_what_is_wrong(load, message):
    with pytest.raises(DomainError, match=message):
        fit_thermal(load, TEMPERATURE)
