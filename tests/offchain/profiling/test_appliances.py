"""steady_powers: a power that comes back; running: separated when together; appliance_power: never above the load"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.profiling import appliances
from offchain.profiling.appliances import appliance_power, base_load, running, runs, steady_powers

DAYS = 120


def household(seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 150 + 250 * rng.gamma(0.5, 1.0, DAYS * 96)


def pulses(power: float, start: int, length: int, every_days: int = 1) -> np.ndarray:
    """The same run on every n-th day, half a quarter hour at both ends."""
    load = np.zeros(DAYS * 96)
    for day in range(0, DAYS, every_days):
        first = day * 96 + start
        load[first : first + length] = power
        load[[first - 1, first + length]] = power / 2
    return load


def test_steady_powers_finds_none_when_there_is_no_appliance():
    assert steady_powers(household()) == []


def test_steady_powers_finds_two_when_they_overlap():
    load = household() + pulses(7_200, 70, 8, 2) + pulses(2_000, 72, 10)
    found = steady_powers(load)
    assert {min((2_000, 7_200), key=lambda true: abs(true - f)) for f in found} == {2_000, 7_200}
    assert all(min(abs(f / true - 1) for true in (2_000, 7_200)) < 0.15 for f in found)


def test_running_separates_two_when_they_overlap():
    charger, heater = pulses(7_200, 70, 8, 2), pulses(2_000, 72, 10)
    load = household() + charger + heater
    base = base_load(load)
    on = running(load, base, [7_200.0, 2_000.0])
    power = appliance_power(load, base, [7_200.0, 2_000.0], on, [True, False])
    for found, true in zip(power.T, (charger, heater), strict=True):
        assert np.abs(found - true).sum() < 0.25 * true.sum()


def test_running_by_days_is_the_cheapest_path_of_the_whole_history(monkeypatch):
    load = (household() + pulses(7_200, 70, 40, 2) + pulses(2_000, 72, 10))[: 20 * 96]
    base = base_load(load)
    by_days = running(load, base, [7_200.0, 2_000.0])
    monkeypatch.setattr(appliances, "MARGIN", load.size)  # every window is the whole history, ends repeated
    assert (running(load, base, [7_200.0, 2_000.0]) == by_days).all()


def test_runs_gives_starts_and_ends():
    first, end = runs(np.array([True, False, True, True, False, True]))
    assert first.tolist() == [0, 2, 5] and end.tolist() == [1, 4, 6]


@pytest.mark.parametrize("level", [0.0, 500.0, 5_000.0])
def test_steady_powers_finds_none_when_the_load_is_constant(level):
    assert steady_powers(np.full(DAYS * 96, level)) == []


@given(st.lists(st.floats(0, 20_000), min_size=10, max_size=120))
def test_appliance_power_never_exceeds_the_load_above_its_base(values):
    load = np.array(values)
    base = base_load(load)
    on = running(load, base, [3_000.0, 1_500.0])
    power = appliance_power(load, base, [3_000.0, 1_500.0], on, [True, False])
    assert (power >= 0).all() and (base <= load).all()
    assert (power.sum(axis=1) <= load - base + 1e-6).all()
    assert (power <= np.array([3_000.0, 1_500.0]) + 1e-6).all()
