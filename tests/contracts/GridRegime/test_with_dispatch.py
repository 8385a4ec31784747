"""
orderDirect, with the real market, dispatch and settlement instead of their doubles
├── connection ordered at the ISP already, at another point, baseline not proven → reverts as dispatch does
├── dispatch paused → reverts EnforcedPause; regime no module of dispatch → reverts NotModule
└── else → a group at the regulated rate, paid by the DSO, settled by readings, the rest returned by finaliseDirect
setRegime
└── Orange only for a request that fell short; Red closes the market, also for the offers of a request
"""

import pytest

from offchain.domain.units import cost_down
from tests.utils import clock, flexworld
from tests.utils.flexibility import OTHER_POINT, POINT, REGULATED_RATE, UP, curve
from tests.utils.flexworld import issued, verdict_of
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

ORANGE, RED = 2, 3
QUANTITIES = {74: 1_000, 75: 501}
UNSOLD = {74: 700}


@pytest.fixture(scope="module")
def direction():
    return UP


@pytest.fixture(scope="module")
def world(core, actors, direction):
    """Orange from the start of ISP 70 to the end of the day."""
    opened = flexworld.open_world(core, actors, direction=direction, unsold=UNSOLD)
    clock.at(opened.start(70))
    opened.regime.setRegime(
        POINT, ORANGE, opened.day + 96, opened.request_id, "market fell short", {"from": actors.dso}
    )
    return opened


def order_direct(world, *homes, **changed):
    parts = []
    for home in homes:
        fields = {
            "connectionId": home.connection_id,
            "quantitiesWh": curve(QUANTITIES),
            "baselineWh": home.packed_baseline,
            "baselineProof": world.proof(home),
        }
        parts.append(tuple((fields | changed).values()))
    commitment_id = world.commitment_ids[world.actors.aggregator.address]
    return world.regime.orderDirect(POINT, commitment_id, parts, "overload", {"from": world.actors.dso})


def test_orderDirect_issues_locks_settles_and_returns(world, actors):
    free = world.free(actors.dso)
    tx = order_direct(world, world.home, world.other_home)
    opened = event(tx, "DirectGroupOpened")
    assert (opened["payer"], opened["congestionPointId"], opened["rate"]) == (actors.dso, POINT, REGULATED_RATE)
    group_id = opened["groupId"]
    assert event(tx, "DirectControlUsed")["connections"] == 2
    orders = issued(tx)
    assert [order.fields["prosumer"] for order in orders] == [world.home.account, world.other_home.account]
    for order in orders:
        assert (order.fields["direction"], order.fields["rewardRate"]) == (world.direction, REGULATED_RATE)
        assert (order.fields["agreementId"], order.fields["penaltyRate"]) == (0, 0)
    compensation = cost_down(1_501, REGULATED_RATE)
    assert world.group_lock(group_id) == 2 * compensation
    assert world.free(actors.dso) == free - 2 * compensation
    assert world.dispatch.orderedIsps(world.home.connection_id, world.day) == 0b11 << 74

    metered = world.finish_day({"home": QUANTITIES, "other_home": {74: 400}})
    assert verdict_of(world.settle(orders[0], world.home, metered))["net"] == compensation
    assert verdict_of(world.settle(orders[1], world.other_home, metered))["net"] == cost_down(400, REGULATED_RATE)
    world.settlement.finaliseDirect(group_id, {"from": actors.outsider})
    assert world.group_lock(group_id) == 0
    assert world.free(actors.dso) == free - compensation - cost_down(400, REGULATED_RATE)


def test_orderDirect_reverts_when_connection_is_ordered_already(world):
    order_direct(world, world.home)
    with reverts("AlreadyOrdered", world.home.connection_id, 74, unchanged=[*world.contracts, world.regime]):
        order_direct(world, world.other_home, world.home)


def test_orderDirect_reverts_when_connection_is_at_another_point(world, actors):
    world.core.grid.moveConnection(world.home.connection_id, OTHER_POINT, {"from": actors.dso})
    with reverts("OtherCongestionPoint", world.home.connection_id, OTHER_POINT, unchanged=world.contracts):
        order_direct(world, world.home)


def test_orderDirect_reverts_when_baseline_is_not_the_committed_one(world, actors):
    other = world.other_home
    leaf = plain(world.commitments.baselineLeaf(world.home.device.meter_id, world.day, 96, other.baseline_hash))
    commitment_id = world.commitment_ids[actors.aggregator.address]
    with reverts("LeafNotCommitted", commitment_id, leaf, unchanged=world.contracts):
        order_direct(world, world.home, baselineWh=other.packed_baseline)


def test_orderDirect_reverts_when_dispatch_is_paused(world, actors):
    world.dispatch.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=world.contracts):
        order_direct(world, world.home)


def test_orderDirect_reverts_when_regime_is_no_module_of_dispatch(world, actors):
    world.dispatch.setModule(world.regime, False, {"from": actors.admin})
    with reverts("NotModule", world.regime, unchanged=world.contracts):
        order_direct(world, world.home)


def test_orderDirect_reverts_when_dso_cannot_pay(world, actors):
    world.core.house.withdraw(actors.outsider, world.free(actors.dso), {"from": actors.dso})
    due = cost_down(1_501, REGULATED_RATE)
    with reverts("InsufficientBalance", actors.dso, 0, due, unchanged=world.contracts):
        order_direct(world, world.home)


def test_setRegime_red_closes_the_market(world, actors):
    world.regime.setRegime(POINT, RED, world.day + 96, 0, "emergency", {"from": actors.dso})
    with reverts("MarketClosed", POINT, RED, unchanged=world.contracts):
        world.market.publishRequest(world.request.as_tuple(), curve({95: 1}), {"from": actors.dso})
