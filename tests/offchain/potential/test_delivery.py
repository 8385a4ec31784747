"""Every margin that is offered is delivered: assets of all kinds, simulated on their own."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.appliance import ShiftableAppliance
from offchain.potential.generation import Generator, PvSystem
from offchain.potential.storage import Battery, ElectricVehicle
from offchain.potential.thermal import ThermalStore, water_heater
from tests.offchain.potential import simulations

ISPS = 24


@st.composite
def batteries(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    capacity, power = draw(st.sampled_from([(10_000, 5_000), (6_000, 10_000), (500, 8_000)]))
    least = draw(st.sampled_from([0, capacity // 5]))
    charging, discharging = draw(st.sampled_from([(1.0, 1.0), (0.95, 0.95), (0.8, 0.9)]))
    first = stored = float(rng.integers(least, capacity + 1))
    plan = []
    for _ in range(ISPS):
        high = min(power / 4, (capacity - stored) / charging)
        low = -min(power / 4, (stored - least) * discharging)
        net = int(rng.uniform(low, high)) if rng.random() < 0.7 else 0
        stored += net * charging if net > 0 else net / discharging
        plan.append(net)
    return Battery(
        capacity, first, power, power, np.array(plan), least_wh=least, charging=charging, discharging=discharging
    )


@st.composite
def vehicles(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    arrival = draw(st.integers(0, 8))
    departure = draw(st.integers(arrival + 1, ISPS))
    discharge = draw(st.sampled_from([0, 0, 7_000]))
    first, stored, plan = 10_000.0, 10_000.0, np.zeros(ISPS, dtype=np.int64)
    for n in range(arrival, departure):
        low = -int(min(discharge / 4, (stored - 8_000) * 0.92)) if stored > 8_000 else 0
        plan[n] = rng.integers(low, int(min(11_000 / 4, (40_000 - stored) / 0.92)) + 1) if rng.random() < 0.6 else 0
        stored += plan[n] * 0.92 if plan[n] > 0 else plan[n] / 0.92
    required = draw(st.sampled_from([0.0, stored, stored * 0.9]))
    return ElectricVehicle(
        40_000,
        first,
        required,
        11_000,
        plan,
        arrival,
        departure,
        discharge_w=discharge,
        reserve_wh=8_000 * (discharge > 0),
    )


@st.composite
def heat_stores(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        plan = rng.integers(0, 751, ISPS)
        drawn = rng.integers(0, 800, ISPS) * (rng.random(ISPS) < 0.2)
        return water_heater(
            litres=200,
            loss_w_per_k=1.5,
            power_w=3_000,
            first_c=float(rng.uniform(48, 62)),
            lowest_c=45,
            highest_c=65,
            outside_c=18.0,
            plan_wh=plan,
            drawn_wh=drawn,
        )
    factor = rng.uniform(2, 4, ISPS)
    return ThermalStore(
        capacity_wh_per_k=float(rng.choice([3_000, 12_000, 500])),
        loss_w_per_k=200,
        power_w=4_000,
        first_c=float(rng.uniform(19.5, 22.5)),
        lowest_c=19.5,
        highest_c=23,
        outside_c=rng.uniform(-10, 10, ISPS),
        plan_wh=rng.integers(0, 1_001, ISPS),
        factor=factor,
    )


@st.composite
def generators(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ramp = draw(st.sampled_from([None, 2_000, 12_000]))
    if draw(st.booleans()):
        plan = np.cumsum(rng.integers(-500, 501, ISPS)).clip(0, 1_500) + 1_000
    else:
        plan = np.zeros(ISPS, dtype=np.int64)
    return Generator(plan, 4_000, 10_000, ramp_w=ramp, fuel_wh=draw(st.sampled_from([None, 5_000.0])))


KINDS = [
    (batteries(), simulations.battery),
    (vehicles(), simulations.vehicle),
    (heat_stores(), simulations.heat_store),
    (generators(), simulations.generator),
]


@pytest.mark.parametrize(("assets", "simulate"), KINDS, ids=["battery", "vehicle", "heat store", "generator"])
@pytest.mark.parametrize("direction", Direction)
class TestDelivery:
    @given(data=st.data())
    def test_margin_is_delivered_when_ordered_alone(self, assets, simulate, direction, data):
        asset = data.draw(assets)
        margin = asset.envelope(direction).margin_wh
        for n in np.flatnonzero(margin):
            ordered = np.zeros(ISPS, dtype=np.int64)
            ordered[n] = margin[n]
            assert simulate(asset, direction, ordered)[n] == margin[n]

    @given(data=st.data())
    def test_longest_is_delivered_when_margins_are_ordered_in_a_row(self, assets, simulate, direction, data):
        asset = data.draw(assets)
        envelope = asset.envelope(direction)
        for start in np.flatnonzero(envelope.longest_isps):
            stop = start + envelope.longest_isps[start]
            ordered = np.zeros(ISPS, dtype=np.int64)
            ordered[start:stop] = envelope.margin_wh[start:stop]
            assert (simulate(asset, direction, ordered)[start:stop] == ordered[start:stop]).all()

    @given(data=st.data())
    def test_sustained_is_delivered_when_ordered_as_a_block(self, assets, simulate, direction, data):
        asset = data.draw(assets)
        envelope = asset.envelope(direction)
        start = data.draw(st.integers(0, ISPS - 1))
        isps = data.draw(st.integers(1, ISPS - start))
        energy_wh = envelope.sustained_wh(start, isps)
        ordered = np.zeros(ISPS, dtype=np.int64)
        ordered[start : start + isps] = energy_wh
        assert envelope.deliverable(ordered)
        assert (simulate(asset, direction, ordered)[start : start + isps] == energy_wh).all()

    @given(data=st.data())
    def test_order_is_delivered_when_called_deliverable(self, assets, simulate, direction, data):
        """Any pattern; what the envelope calls undeliverable is not looked at here, but must not be everything."""
        asset = data.draw(assets)
        envelope = asset.envelope(direction)
        share = data.draw(st.sampled_from([0.05, 0.3, 1.0]))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        wanted = rng.uniform(0, 1, ISPS) * envelope.margin_wh * share * (rng.random(ISPS) < 0.5)
        ordered = np.maximum(wanted, envelope.least_wh * (wanted > 0)).astype(np.int64)
        assume(envelope.deliverable(ordered))
        moved = simulate(asset, direction, ordered)
        assert (moved[ordered > 0] == ordered[ordered > 0]).all()

    @given(data=st.data())
    def test_energy_limit_is_delivered_when_spent_in_any_pattern(self, assets, simulate, direction, data):
        asset = data.draw(assets)
        envelope = asset.envelope(direction)
        window = range(data.draw(st.integers(0, 10)), data.draw(st.integers(11, ISPS)))
        left = envelope.energy_limit_wh(window)
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        ordered = np.zeros(ISPS, dtype=np.int64)
        for n in rng.permutation(list(window)):
            share = int(min(left, envelope.margin_wh[n]) * rng.choice([0.3, 1.0]))
            if share >= envelope.least_wh[n]:
                ordered[n] = share
                left -= share
        assert envelope.deliverable(ordered)
        assert (simulate(asset, direction, ordered)[ordered > 0] == ordered[ordered > 0]).all()


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 4), st.data())
def test_appliance_moves_at_least_the_block_when_sustained(run_isps, before, after, data):
    run = np.array(data.draw(st.lists(st.integers(0, 600), min_size=run_isps, max_size=run_isps)), dtype=np.int64)
    start = before + data.draw(st.integers(0, 3))
    appliance = ShiftableAppliance(run, start, before, min(start + run_isps + after, ISPS), ISPS)
    for direction in Direction:
        envelope = appliance.envelope(direction)
        begin = data.draw(st.integers(0, ISPS - 1))
        isps = data.draw(st.integers(1, ISPS - begin))
        ordered = np.zeros(ISPS, dtype=np.int64)
        ordered[begin : begin + isps] = envelope.sustained_wh(begin, isps)
        assert envelope.deliverable(ordered)
        for n in np.flatnonzero(envelope.longest_isps):
            ordered = np.zeros(ISPS, dtype=np.int64)
            ordered[n : n + envelope.longest_isps[n]] = envelope.margin_wh[n : n + envelope.longest_isps[n]]
            assert envelope.deliverable(ordered)


def test_pv_can_be_curtailed_to_nothing_for_any_time_and_never_raised():
    pv = PvSystem(np.array([0, 100, 800]), value_utoken_per_kwh=80_000)
    down, up = pv.envelope(Direction.DOWN), pv.envelope(Direction.UP)
    assert down.margin_wh.tolist() == [0, 100, 800] and down.longest_isps.tolist() == [0, 2, 1]
    assert down.cost_utoken_per_kwh.tolist() == [80_000] * 3
    assert not up.margin_wh.any() and up.sustained_wh(0, 3) == 0


def test_simulation_notices_when_a_battery_is_asked_for_more_than_it_has():
    """The guard itself: one Wh beyond the margin breaks a limit."""
    asset = Battery(1_000, 500, 8_000, 8_000, np.zeros(4, dtype=np.int64), charging=1.0, discharging=1.0)
    for direction in Direction:
        ordered = np.array([0, asset.envelope(direction).margin_wh[1] + 1, 0, 0])
        with pytest.raises(AssertionError):
            simulations.battery(asset, direction, ordered)


def test_envelope_raises_when_the_order_has_another_shape():
    envelope = Battery(1_000, 500, 8_000, 8_000, np.zeros(4, dtype=np.int64)).envelope(Direction.UP)
    for ordered in (np.zeros(5, dtype=np.int64), np.zeros(4), np.array([0, -1, 0, 0])):
        with pytest.raises(DomainError, match="4 non-negative integers"):
            envelope.deliverable(ordered)
    with pytest.raises(DomainError, match="not within a horizon"):
        envelope.sustained_wh(3, 2)
