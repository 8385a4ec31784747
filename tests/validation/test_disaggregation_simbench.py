"""Disaggregation against the known parts of SimBench mixes. All mixes are in `benchmarks/bench_disaggregation.py`;
the limits here are what the method must not fall behind of, and the last test what it is known not to do."""

import numpy as np
import pytest

from offchain.grid.simbench_data import YEAR_FIRST_ISP
from offchain.profiling.days import history_of
from offchain.profiling.disaggregation import Kind, disaggregate
from tests.validation.simbench_mixes import errors, grid_data, mix


@pytest.fixture(scope="module")
def data():
    return grid_data()


def split(parts):
    return disaggregate(history_of(YEAR_FIRST_ISP, parts.net_wh), reference_wh_per_w=parts.reference_wh_per_w)


@pytest.mark.parametrize("household", ["H0-B", "H0-L"])
def test_nothing_is_found_in_a_household_without_appliances(data, household):
    found = split(mix(data, household))
    assert not found.curtailable_wh.any() and not found.generation_wh.any()


@pytest.mark.parametrize("charger", ["HLS_A_3.7", "HLS_A_11.0"])
def test_charger_is_found(data, charger):
    parts = mix(data, "H0-C", charger)
    found = split(parts)
    share, error = errors(found.electric_vehicle_wh, parts.charger_wh)
    assert 0.88 < share < 1.05 and error < 0.15
    assert not found.heating_cooling_wh.any()


def test_heat_pump_is_found(data):
    parts = mix(data, "H0-G", None, "Soil_Alternative_1")
    found = split(parts)
    share, error = errors(found.heating_cooling_wh, parts.heat_pump_wh)
    assert 0.8 < share < 1.1 and error < 0.25
    assert {a.kind for a in found.appliances} == {Kind.HEATING_COOLING}


def test_charger_and_heat_pump_and_plant_are_separated(data):
    parts = mix(data, "H0-B", "HLS_A_11.0", "Air_Parallel_1", "PV3")
    found = split(parts)
    for estimated, true, most in (
        (found.electric_vehicle_wh, parts.charger_wh, 0.3),
        (found.heating_cooling_wh, parts.heat_pump_wh, 0.4),
        (found.generation_wh, parts.generation_wh, 0.25),
    ):
        share, error = errors(estimated, true)
        assert 0.75 < share < 1.25 and error < most
    np.testing.assert_allclose(found.net_wh, np.floor(parts.net_wh + 0.5), atol=1e-6)


@pytest.mark.parametrize("plant", ["PV1", "PV4"])
def test_generation_is_found_by_plants_nearby(data, plant):
    parts = mix(data, "H0-A", None, None, plant)
    share, error = errors(split(parts).generation_wh, parts.generation_wh)
    assert 0.85 < share < 1.15 and error < 0.3


def test_charger_and_heat_pump_of_like_power_are_confused(data):
    parts = mix(data, "H0-B", "HLS_B_3.7", "Soil_Alternative_1")
    found = split(parts)
    assert errors(found.electric_vehicle_wh, parts.charger_wh)[1] > 0.5
    # together they are still right, and so is what can be curtailed
    assert errors(found.curtailable_wh, parts.charger_wh + parts.heat_pump_wh)[1] < 0.3
