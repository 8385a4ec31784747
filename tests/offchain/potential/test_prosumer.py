import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.generation import Generator, PvSystem
from offchain.potential.prosumer import Potential, Prosumer, potential, potentials
from offchain.potential.storage import Battery
from tests.offchain.potential.test_delivery import ISPS, batteries, generators, heat_stores, vehicles

UP, DOWN = Direction.UP, Direction.DOWN
FLAT = np.full(4, 200, dtype=np.int64)


def battery(cost: float, power_w: float = 2_000, stored: float = 10_000) -> Battery:
    plan = np.zeros(4, dtype=np.int64)
    return Battery(20_000, stored, power_w, power_w, plan, charging=1.0, discharging=1.0, wear_utoken_per_kwh=cost)


def test_potential_is_limited_by_the_connection_when_assets_could_do_more():
    prosumer = Prosumer("p", FLAT, {"a": battery(1), "b": battery(2)}, import_limit_w=4_000, export_limit_w=1_000)
    assert potential(prosumer, UP).margin_wh.tolist() == [450] * 4  # 250 to export and the 200 of the baseline
    assert potential(prosumer, DOWN).margin_wh.tolist() == [800] * 4
    assert potential(Prosumer("p", FLAT, {"a": battery(1), "b": battery(2)}), UP).margin_wh.tolist() == [1_000] * 4


def test_potential_is_nothing_when_the_baseline_is_beyond_the_connection():
    prosumer = Prosumer("p", -FLAT, {"a": battery(1)}, export_limit_w=400)
    assert potential(prosumer, UP).margin_wh.tolist() == [0] * 4


def test_cost_is_the_mean_by_energy_rounded_up_when_assets_differ():
    prosumer = Prosumer("p", FLAT, {"a": battery(10), "b": battery(31, power_w=1_000)})
    assert potential(prosumer, UP).cost_utoken_per_kwh.tolist() == [17] * 4


def test_longest_ends_when_the_first_asset_is_empty():
    prosumer = Prosumer("p", FLAT, {"a": battery(1), "b": battery(1, stored=1_000)})
    assert potential(prosumer, UP).longest_isps.tolist() == [2, 2, 2, 1]


def test_split_takes_the_cheapest_first_when_an_order_is_below_the_possible():
    found = potential(Prosumer("p", FLAT, {"dear": battery(9), "cheap": battery(1)}), UP)
    assert found.split(0, 2, 700) == {"cheap": 500, "dear": 200}
    assert found.split(0, 2, 300) == {"cheap": 300}
    assert found.split(0, 2, 0) == {}


def test_split_makes_room_for_the_least_power_when_a_generator_is_needed():
    generator = Generator(np.zeros(4, dtype=np.int64), 2_000, 4_000, fuel_utoken_per_kwh=400_000)
    found = potential(Prosumer("p", FLAT, {"battery": battery(1), "generator": generator}), UP)
    assert found.split(0, 1, 600) == {"battery": 100, "generator": 500}
    alone = potential(Prosumer("p", FLAT, {"generator": generator}), UP)
    with pytest.raises(DomainError, match="300 of 300 Wh are less than the least power"):
        alone.split(0, 1, 300)


def test_split_raises_when_more_is_ordered_than_can_be_sustained():
    found = potential(Prosumer("p", FLAT, {"a": battery(1)}), UP)
    with pytest.raises(DomainError, match="501 Wh cannot be moved for 2 ISPs from position 1: 500 Wh can"):
        found.split(1, 2, 501)


def test_potential_names_the_asset_and_goes_on_when_its_data_cannot_be_used():
    assets = {"bad": PvSystem(np.array([1, -1, 0, 0])), "short": PvSystem(np.array([1])), "good": battery(1)}
    found = potential(Prosumer("p", FLAT, assets), DOWN)
    assert set(found.refused) == {"bad", "short"} and set(found.assets) == {"good"}
    assert found.margin_wh.tolist() == [500] * 4


def test_potentials_go_on_when_a_prosumer_cannot_be_used():
    people = [Prosumer("nan", np.array([1.0, np.nan]), {}), Prosumer("good", FLAT, {"a": battery(1)})]
    found, refused = potentials(people, UP)
    assert set(found) == {"good"} and "baseline of nan" in str(refused["nan"])


def test_potential_is_empty_when_there_are_no_assets():
    found = potential(Prosumer("p", FLAT, {}), UP)
    assert not found.margin_wh.any() and found.sustained_wh(0, 4) == 0 and not found.longest_isps.any()


@given(st.data())
def test_split_shares_add_up_and_can_be_delivered_when_any_assets(data):
    assets = {
        name: data.draw(kind)
        for name, kind in (("b", batteries()), ("v", vehicles()), ("h", heat_stores()), ("g", generators()))
    }
    direction = data.draw(st.sampled_from(Direction))
    found: Potential = potential(Prosumer("p", np.zeros(ISPS, dtype=np.int64), assets), direction)
    start = data.draw(st.integers(0, ISPS - 1))
    isps = data.draw(st.integers(1, min(8, ISPS - start)))
    energy_wh = data.draw(st.integers(0, found.sustained_wh(start, isps)))
    try:
        shares = found.split(start, isps, energy_wh)
    except DomainError as refusal:
        assert "least power" in str(refusal)
        return
    assert sum(shares.values()) == energy_wh
    for name, share in shares.items():
        ordered = np.zeros(ISPS, dtype=np.int64)
        ordered[start : start + isps] = share
        assert found.assets[name].deliverable(ordered)
