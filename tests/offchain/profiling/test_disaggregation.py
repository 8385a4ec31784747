"""disaggregate: components sum to the net; known parts come back; gaps, short, constant and bad input"""

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.baseline.history import History
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.profiling.days import history_of
from offchain.profiling.disaggregation import Appliance, Kind, disaggregate
from offchain.profiling.solar import solar_behind_meter
from tests.offchain.profiling.series import history

DAYS = 60
FIRST = history(date(2016, 4, 1), date(2016, 4, 1)).first_isp
AT = np.arange(DAYS * 96)
HOUR = AT % 96 / 4


def household_wh(seed: int = 5) -> np.ndarray:
    return 40 + 60 * np.random.default_rng(seed).gamma(0.5, 1.0, AT.size)


def sun_wh_per_w(seed: int = 6) -> np.ndarray:
    cloud = np.random.default_rng(seed).uniform(0.1, 1.0, DAYS)
    return 0.2 * np.maximum(np.sin((HOUR - 6) / 12 * np.pi), 0) * np.repeat(cloud, 96)


def heater_wh() -> np.ndarray:
    """2 kW for an hour and a half from 4 h on, every day."""
    return np.where((HOUR >= 4) & (HOUR < 5.5), 500.0, 0.0)


def charger_wh() -> np.ndarray:
    """11 kW for two hours from 19 h on, every third day."""
    return np.where((HOUR >= 19) & (HOUR < 21) & (AT // 96 % 3 == 0), 2_750.0, 0.0)


def test_components_sum_to_the_net():
    net = household_wh() + heater_wh() + charger_wh() - 5_000 * sun_wh_per_w()
    made = history_of(FIRST, net)
    parts = disaggregate(made, reference_wh_per_w=sun_wh_per_w()[:, None])
    np.testing.assert_allclose(parts.net_wh, made.net_wh, atol=1e-6)
    for name in ("base", "heating_cooling", "electric_vehicle", "water_heater", "other", "generation"):
        assert (getattr(parts, f"{name}_wh") >= -1e-9).all(), name


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 300, 10_000, 10**7]), st.integers(-5_000, 5_000), st.integers(0, 600))
def test_components_sum_to_the_net_whatever_the_series(seed, spread, level, gap):
    rng = np.random.default_rng(seed)
    net = level + spread * rng.standard_normal(15 * 96) * (rng.random(15 * 96) < 0.3)
    net[200 : 200 + gap] = np.nan
    made = history_of(FIRST, net)
    parts = disaggregate(made, reference_wh_per_w=sun_wh_per_w()[: net.size, None])
    known = ~np.isnan(net)
    np.testing.assert_allclose(parts.net_wh[known], made.net_wh[known], rtol=1e-9, atol=1e-3)
    for name in ("base", "heating_cooling", "electric_vehicle", "water_heater", "other", "generation"):
        assert (getattr(parts, f"{name}_wh")[known] >= -1e-3).all(), name


def test_disaggregate_finds_charger_and_water_heater():
    parts = disaggregate(history_of(FIRST, household_wh() + heater_wh() + charger_wh()))
    assert {a.kind for a in parts.appliances} == {Kind.ELECTRIC_VEHICLE, Kind.WATER_HEATER}
    assert np.abs(parts.electric_vehicle_wh - charger_wh()).sum() < 0.1 * charger_wh().sum()
    assert np.abs(parts.water_heater_wh - heater_wh()).sum() < 0.25 * heater_wh().sum()
    curtailable = parts.energy_kwh()["curtailable"]
    assert curtailable == pytest.approx((heater_wh() + charger_wh()).sum() / 1000, rel=0.15)


def test_disaggregate_uses_only_given_appliances():
    parts = disaggregate(
        history_of(FIRST, household_wh() + heater_wh() + charger_wh()),
        appliances=[Appliance(Kind.ELECTRIC_VEHICLE, 11_000)],
    )
    assert not parts.water_heater_wh.any()
    assert parts.electric_vehicle_wh.sum() == pytest.approx(charger_wh().sum(), rel=0.1)


def test_disaggregate_follows_temperature_when_given():
    temperature = np.repeat(np.linspace(2, 22, DAYS), 96)
    heating = 60 * np.maximum(16 - temperature, 0) * (0.5 + 0.5 * np.cos(HOUR / 12 * np.pi))
    parts = disaggregate(history_of(FIRST, household_wh() + heating), appliances=[], temperature_c=temperature)
    assert parts.thermal.heating_wh_per_k > 0
    assert parts.heating_cooling_wh.sum() == pytest.approx(heating.sum(), rel=0.15)


def test_disaggregate_keeps_gaps_as_nan():
    net = household_wh() + charger_wh()
    net[1000:1100] = np.nan
    parts = disaggregate(history_of(FIRST, net))
    assert (
        np.isnan(parts.other_wh[1000:1100]).all() and not np.isnan(np.delete(parts.other_wh, slice(1000, 1100))).any()
    )
    assert np.isfinite(list(parts.energy_kwh().values())).all()


@pytest.mark.parametrize("level", [0, 300, -300])
def test_disaggregate_takes_constant_series(level):
    parts = disaggregate(history(date(2016, 3, 20), date(2016, 4, 20), lambda at: at * 0 + level))
    assert not parts.appliances and not parts.curtailable_wh.any()
    assert parts.generation_wh.max() == max(-level, 0) and parts.base_wh.max() == max(level, 0)


def test_disaggregate_sees_exports_only_without_reference():
    net = household_wh() - 5_000 * sun_wh_per_w()
    parts = disaggregate(history_of(FIRST, net))
    np.testing.assert_allclose(parts.generation_wh, np.maximum(-np.floor(net + 0.5), 0))


def test_disaggregate_raises_when_history_is_short():
    with pytest.raises(InsufficientHistoryError, match="13 days available, 14 required"):
        disaggregate(history_of(FIRST, household_wh()[: 13 * 96]))


def test_disaggregate_raises_when_most_readings_are_missing():
    net = household_wh()
    net[: AT.size * 2 // 3] = np.nan
    with pytest.raises(DomainError, match="readings are missing"):
        disaggregate(history_of(FIRST, net))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature_c": np.zeros(5)}, "temperature must be 5760 values"),
        ({"temperature_c": np.full(DAYS * 96, np.nan)}, "without gaps"),
        ({"reference_wh_per_w": np.zeros(DAYS * 96)}, r"expected \(5760, n_references\)"),
        ({"reference_wh_per_w": np.full((DAYS * 96, 1), -1.0)}, "missing or negative"),
        ({"appliances": [Appliance(Kind.WATER_HEATER, 0.0)]}, "must be positive"),
    ],
)
def test_disaggregate_says_what_is_wrong(arguments, message):
    with pytest.raises(DomainError, match=message):
        disaggregate(history_of(FIRST, household_wh()), **arguments)


def test_solar_behind_meter_finds_the_size_of_a_plant():
    net = household_wh() - 4_000 * sun_wh_per_w()
    found = solar_behind_meter(net, FIRST, sun_wh_per_w()[:, None], "Europe/Berlin")
    assert found.rated_w == pytest.approx(4_000, rel=0.03)
    assert found.shares.tolist() == [1.0]


def test_solar_behind_meter_finds_none_when_there_is_none():
    found = solar_behind_meter(household_wh(), FIRST, sun_wh_per_w()[:, None], "Europe/Berlin")
    assert found.rated_w == 0 and not found.generation_wh.any()


def test_solar_behind_meter_finds_none_when_the_reference_is_dark():
    found = solar_behind_meter(household_wh(), FIRST, np.zeros((AT.size, 2)), "Europe/Berlin")
    assert found.rated_w == 0


def test_disaggregate_takes_clock_changes():
    spring = history(date(2016, 3, 14), date(2016, 4, 3), lambda at: 50 + at % 7)
    np.testing.assert_allclose(disaggregate(spring).net_wh, spring.net_wh)
    assert isinstance(spring, History)
