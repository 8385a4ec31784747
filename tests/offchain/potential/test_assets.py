"""Each kind of asset against numbers worked out by hand, and the faults it refuses by name and position."""

from dataclasses import replace

import numpy as np
import pytest

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.appliance import ShiftableAppliance
from offchain.potential.generation import Generator, PvSystem
from offchain.potential.storage import Battery, ElectricVehicle
from offchain.potential.thermal import ThermalStore, water_heater

UP, DOWN = Direction.UP, Direction.DOWN


def idle(isps: int) -> np.ndarray:
    return np.zeros(isps, dtype=np.int64)


BATTERY = Battery(10_000, 5_000, 5_000, 5_000, idle(8), least_wh=1_000, charging=0.9, discharging=0.8)
VEHICLE = ElectricVehicle(
    40_000, 10_000, 16_000, 8_000, np.array([0, 2_000, 2_000, 2_000, 0, 0, 0, 0]), 1, 7, charging=1.0, discharging=1.0
)
HOUSE = ThermalStore(
    capacity_wh_per_k=10_000, loss_w_per_k=200, power_w=4_000, first_c=20.0, lowest_c=19.5, highest_c=21.0,
    outside_c=20.0, plan_wh=idle(4), factor=3.0,
)  # fmt: skip


def test_battery_gives_what_its_charge_and_losses_allow():
    up, down = BATTERY.envelope(UP), BATTERY.envelope(DOWN)
    # 1,250 Wh an ISP at 5 kW; 4,000 Wh above the least charge are 3,200 Wh at the meter: two ISPs in full
    assert up.margin_wh.tolist() == [1_250] * 8
    assert up.longest_isps.tolist() == [2, 2, 2, 2, 2, 2, 2, 1]
    assert up.sustained_wh(0, 4) == 800 and up.energy_limit_wh(range(8)) == 3_200
    # 5,000 Wh of room are 5,555 Wh at the meter
    assert down.sustained_wh(0, 5) == 1_111 and down.longest_isps[0] == 4


def test_battery_keeps_to_its_plan_after_the_order_when_it_needs_the_charge_later():
    late = replace(BATTERY, plan_wh=np.array([0, 0, 0, 0, 0, 0, -1_250, -1_250]))
    # the plan takes 3,125 Wh of the 4,000 above the least charge: 875 * 0.8 are left
    assert late.envelope(UP).margin_wh.tolist()[:6] == [700] * 6


def test_battery_costs_wear_and_losses_when_energy_is_bought_back():
    price = np.array([300_000, 100_000, 200_000, 200_000])
    battery = replace(BATTERY, plan_wh=idle(4), price_utoken_per_kwh=price, wear_utoken_per_kwh=20_000)
    # mean 200,000; bought back with 0.72: 277,778; saved 300,000 in the first ISP
    assert battery.envelope(UP).cost_utoken_per_kwh.tolist() == [-2_222, 197_778, 97_778, 97_778]
    assert battery.envelope(DOWN).cost_utoken_per_kwh.tolist() == [176_000, -24_000, 76_000, 76_000]


@pytest.mark.parametrize(
    ("plan", "position"), [([0, 0, 1_251, 0], 2), ([0, -1_251, 0, 0], 1), ([-1_250, -1_250, -1_250, -1_250], 2)]
)
def test_battery_raises_with_the_position_when_its_plan_is_impossible(plan, position):
    with pytest.raises(DomainError, match=f"position {position}"):
        replace(BATTERY, plan_wh=np.array(plan)).envelope(UP)


def test_vehicle_postpones_what_it_can_still_charge_until_departure():
    up = VEHICLE.envelope(UP)
    # planned at once: all of it can wait until positions 4 to 6
    assert up.margin_wh.tolist() == [0, 2_000, 2_000, 2_000, 0, 0, 0, 0]
    assert up.longest_isps.tolist() == [0, 3, 2, 1, 0, 0, 0, 0]
    early = replace(VEHICLE, departure=5)
    # leaves after position 4: only one full ISP is left to make up in
    assert early.envelope(UP).longest_isps.tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    assert early.envelope(UP).sustained_wh(1, 3) == 666
    assert replace(VEHICLE, departure=4).envelope(UP).margin_wh.sum() == 0


def test_vehicle_may_leave_with_less_when_it_has_more_than_it_needs():
    assert (
        replace(VEHICLE, departure=4, required_wh=14_500).envelope(UP).margin_wh.tolist()[:4]
        == [0, 1_500] + [1_500] * 2
    )


def test_vehicle_charges_earlier_or_more_when_moved_down():
    down = VEHICLE.envelope(DOWN)
    assert down.margin_wh.tolist() == [0, 0, 0, 0, 2_000, 2_000, 2_000, 0]
    assert replace(VEHICLE, capacity_wh=17_000).envelope(DOWN).sustained_wh(4, 2) == 500


def test_vehicle_discharges_down_to_its_reserve_when_it_can():
    # what leaves the battery has to be back at departure
    up = replace(VEHICLE, discharge_w=8_000, reserve_wh=9_000).envelope(UP)
    assert up.margin_wh.tolist() == [0, 3_000, 4_000, 4_000, 2_000, 2_000, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival": 2}, "position 1"),
        ({"departure": 9}, "from 1 until 9"),
        ({"required_wh": 20_000}, "position 6"),
        ({"charge_w": 7_000}, "position 1"),
        ({"capacity_wh": 15_000}, "position 3"),
        ({"capacity_wh": 0}, "above zero"),
        ({"plan_wh": np.zeros(8)}, "one row of integers"),
    ],
)
def test_vehicle_raises_when_its_plan_is_impossible(change, message):
    with pytest.raises(DomainError, match=message):
        replace(VEHICLE, **change).envelope(UP)


def test_house_holds_back_heat_until_comfort_ends():
    # outside is as warm as inside: nothing changes without heat; 1 K of room up, 0.5 K down
    down = HOUSE.envelope(DOWN)
    # 10,000 Wh of heat are 3,333 Wh of electricity; losses let 0.5% go in each ISP
    assert down.margin_wh.tolist() == [1_000] * 4 and down.longest_isps.tolist() == [3, 3, 2, 1]
    assert down.sustained_wh(0, 4) == int(10_000 / (3 * (1 + 0.995 + 0.995**2 + 0.995**3)))
    assert not HOUSE.envelope(UP).margin_wh.any()  # nothing is on that could be taken off


def test_house_takes_heat_off_when_it_is_warm_enough():
    heated = replace(HOUSE, plan_wh=np.full(4, 1_000), first_c=19.5, highest_c=30.0)
    # 3,000 Wh warm by 0.3 K an ISP: in the first only that much may be missing
    assert heated.envelope(UP).margin_wh[0] == 1_000
    assert heated.temperatures_c()[0] == pytest.approx(19.5 + 0.3 + 0.0025)
    cold = replace(heated, first_c=18.0)
    assert cold.envelope(UP).margin_wh.tolist() == [0] * 4


def test_house_counts_comfort_by_kelvin_hours():
    """1 kWh makes 3 kWh of heat; at 200 W/K its kelvin-hours add up to 3,000 / 200 = 15 until it has leaked."""
    house = replace(HOUSE, comfort_utoken_per_kelvin_hour=1_000, price_utoken_per_kwh=300_000)
    assert house.envelope(UP).comfort_utoken_per_kwh.tolist() == [15_000] * 4
    assert house.envelope(UP).cost_utoken_per_kwh.tolist() == [-300_000] * 4
    assert house.envelope(DOWN).cost_utoken_per_kwh.tolist() == [300_000] * 4
    # the same by adding up a course of one kelvin-hour sums
    deviation, total = 3_000 / 10_000, 0.0
    for _ in range(5_000):
        total += deviation * 0.25
        deviation *= house.retention
    assert total == pytest.approx(15)


def test_water_heater_holds_heat_by_its_litres():
    tank = water_heater(
        litres=100,
        loss_w_per_k=1.0,
        power_w=2_000,
        first_c=50,
        lowest_c=50,
        highest_c=60,
        outside_c=50,
        plan_wh=idle(3),
    )
    # 1,163 Wh for ten kelvin
    assert tank.envelope(DOWN).margin_wh.tolist() == [500] * 3
    assert tank.envelope(DOWN).sustained_wh(0, 3) == 388


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity_wh_per_k": 40}, "cold in a quarter hour"),
        ({"plan_wh": np.array([0, 1_001, 0, 0])}, "outside 0..1000 Wh at position 1"),
        ({"outside_c": np.array([1.0, 2.0])}, "outside temperature has 2 values, the plan 4"),
        ({"outside_c": np.array([1.0, 2.0, np.nan, 1.0])}, "outside temperature is not a number at position 2"),
        ({"loss_w_per_k": 0}, "loss_w_per_k must be above zero"),
    ],
)
def test_house_raises_when_a_parameter_cannot_be(change, message):
    with pytest.raises(DomainError, match=message):
        replace(HOUSE, **change).envelope(UP)


def test_generator_starts_with_its_least_power_when_it_stands():
    standing = Generator(idle(4), 4_000, 10_000, fuel_wh=4_500, fuel_utoken_per_kwh=250_000)
    up = standing.envelope(UP)
    assert up.margin_wh.tolist() == [2_500] * 4 and up.least_wh.tolist() == [1_000] * 4
    assert up.deliverable(np.array([0, 1_000, 2_500, 0])) and not up.deliverable(np.array([0, 999, 0, 0]))
    assert up.sustained_wh(0, 4) == 1_125 and up.longest_isps.tolist() == [1, 1, 1, 1]
    assert not standing.envelope(DOWN).margin_wh.any()
    assert up.cost_utoken_per_kwh.tolist() == [250_000] * 4


def test_generator_leaves_room_for_its_ramp_when_neighbours_are_not_ordered():
    running = Generator(np.array([1_000, 1_500, 1_500, 1_000]), 4_000, 10_000, ramp_w=4_000)
    assert running.envelope(UP).margin_wh.tolist() == [1_000, 500, 500, 1_000]
    assert running.envelope(DOWN).margin_wh.tolist() == [0, 500, 500, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_wh": np.array([0, 500])}, "position 1"),
        ({"output_wh": np.array([0, 2_501])}, "position 1"),
        ({"output_wh": np.array([1_000, 2_500]), "ramp_w": 4_000.0}, "more than 1000 Wh at position 1"),
        ({"least_w": 11_000}, "position 0"),
    ],
)
def test_generator_raises_when_its_plan_is_impossible(change, message):
    with pytest.raises(DomainError, match=message):
        replace(Generator(idle(2), 4_000, 10_000), **change).envelope(UP)


def test_pv_raises_when_production_is_negative():
    with pytest.raises(DomainError, match="negative at position 1"):
        PvSystem(np.array([1, -1])).envelope(DOWN)


def test_appliance_moves_its_run_as_a_whole():
    washing = ShiftableAppliance(np.array([500, 100]), 1, 0, 6, 8, comfort_utoken_per_kwh=5_000)
    up, down = washing.envelope(UP), washing.envelope(DOWN)
    assert up.margin_wh.tolist() == [0, 500, 100, 0, 0, 0, 0, 0]
    assert up.longest_isps.tolist() == [0, 2, 1, 0, 0, 0, 0, 0]
    assert up.sustained_wh(1, 2) == 100
    assert down.margin_wh.tolist() == [500, 0, 400, 500, 500, 100, 0, 0]
    assert down.deliverable(np.array([0, 0, 0, 500, 100, 0, 0, 0]))
    assert not down.deliverable(np.array([0, 0, 0, 500, 500, 0, 0, 0]))
    assert up.comfort_utoken_per_kwh.tolist() == [5_000] * 8


def test_appliance_without_another_time_moves_nothing():
    fixed = ShiftableAppliance(np.array([500, 100]), 1, 1, 3, 8).envelope(UP)
    assert not fixed.margin_wh.any() and fixed.sustained_wh(1, 1) == 0 and not fixed.longest_isps.any()


@pytest.mark.parametrize(("start", "earliest", "end"), [(0, 1, 4), (3, 1, 4), (1, 0, 9), (1, -1, 4)])
def test_appliance_raises_when_the_run_is_not_in_its_window(start, earliest, end):
    with pytest.raises(DomainError, match="is not within"):
        ShiftableAppliance(np.array([500, 100]), start, earliest, end, 8).envelope(UP)


@pytest.mark.parametrize("isps", [92, 96, 100])
def test_assets_cover_the_day_when_it_has_92_or_100_isps(isps):
    assert replace(BATTERY, plan_wh=idle(isps)).envelope(UP).margin_wh.shape == (isps,)
