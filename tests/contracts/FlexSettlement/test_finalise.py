"""
finalise
├── no such order, cancelled, finalised → reverts FlexOrderNotOpen
├── nothing dispatched: until dispatchBy, to the second → reverts SettlementOpen; then finalised
├── all settled: from the end of the day
├── some unsettled: until settleBy, to the second → reverts SettlementOpen; then finalised
└── else, by anyone, paused or not → escrow by the share delivered, bond for the shortfall beyond the tolerance
    ├── what was not dispatched, or not settled, is shortfall; what is missing is not
    ├── an aggregator that fell silent → the same
    └── rest of the group's lock → to the aggregator; orders can no longer be settled
finaliseDirect
├── not a direct group, unknown → reverts NotDirectGroup; before all is settled or settleBy → reverts SettlementOpen
└── else → what is left of the compensation → to the DSO; twice → reverts GroupAlreadyFinalised
"""

import pytest

from offchain.domain.units import cost_down
from tests.reference.settlement import share_delivered
from tests.utils import clock, flexworld
from tests.utils.flexibility import ISP_COUNT, POINT, UP, curve
from tests.utils.flexworld import ORDERED, PRICE, issued, verdict_of
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

ORDERED_WH = sum(ORDERED.values())
ESCROW = cost_down(ORDERED_WH, PRICE)


def expected(world, credited, missing) -> tuple[int, int]:
    bond = world.market.flexOrder(world.order_id)["bond"]
    terms = world.request
    return share_delivered(ORDERED_WH, credited, missing, PRICE, terms.tolerance_bps, terms.penalty_rate, bond)


def finalise(world, credited, missing=0):
    """Finalises and checks event and money to the last digit."""
    actors = world.actors
    order = plain(world.market.flexOrder(world.order_id))
    lock = world.group_lock()
    before = world.free(actors.dso), world.free(actors.aggregator)
    tx = world.finalise()
    paid, penalty = expected(world, credited, missing)
    assert event(tx, "FlexOrderFinalised") == {
        "flexOrderId": world.order_id,
        "dso": actors.dso,
        "aggregator": actors.aggregator,
        "orderedWh": ORDERED_WH,
        "creditedWh": credited,
        "missingWh": missing,
        "paid": paid,
        "penalty": penalty,
        "escrowReturned": ESCROW - paid,
        "bondReturned": order["bond"] - penalty,
    }
    assert event(tx, "GroupFinalised") == {"groupId": world.order_id, "payerReturned": lock}
    assert event(tx, "FlexOrderClosed") == {"flexOrderId": world.order_id, "status": 3}
    assert world.free(actors.dso) - before[0] == ESCROW - paid + penalty
    assert world.free(actors.aggregator) - before[1] == paid + order["bond"] - penalty + lock
    house = world.core.house
    for lock_id in (world.market.escrowLockId(world.order_id), world.market.bondLockId(world.order_id)):
        assert house.lockOf(lock_id) == 0
    assert world.group_lock() == 0
    assert world.dispatch.group(world.order_id)["finalised"]
    return tx


def test_finalise_reverts_when_order_is_unknown(world):
    with reverts("FlexOrderNotOpen", 9, unchanged=world.contracts):
        world.finalise(9)


def test_finalise_reverts_when_order_was_cancelled(world, actors):
    world.market.cancelOrder(world.order_id, {"from": actors.dso})
    with reverts("FlexOrderNotOpen", world.order_id, unchanged=world.contracts):
        world.finalise()


def test_finalise_decides_by_the_second_when_nothing_was_dispatched(world):
    """A silent aggregator: all of its order is its shortfall."""
    last = world.request.dispatch_by
    clock.at(last)
    with reverts("SettlementOpen", world.order_id, last, unchanged=world.contracts):
        world.finalise()
    clock.at(last + 1)
    finalise(world, 0)
    with reverts("FlexOrderNotOpen", world.order_id, unchanged=world.contracts):
        world.finalise()


def test_finalise_waits_for_dispatchBy_when_everything_was_cancelled(world):
    world.cancel(world.issue(world.home, {72: 1_000}))
    last = world.request.dispatch_by
    clock.at(last)
    with reverts("SettlementOpen", world.order_id, last, unchanged=world.contracts):
        world.finalise()
    clock.at(last + 1)
    finalise(world, 0)


def test_finalise_decides_by_the_second_when_something_is_unsettled(world):
    orders = [world.issue(home, {72: 1_000}) for home in (world.home, world.other_home)]
    metered = world.finish_day({"home": {72: 1_000}, "other_home": {72: 1_000}})
    world.settle(orders[0], world.home, metered)
    until = world.end + flexworld.SETTLE_BY
    clock.at(until - 1)
    with reverts("SettlementOpen", world.order_id, until, unchanged=world.contracts):
        world.finalise()
    clock.at(until)
    finalise(world, 1_000)


def test_finalise_pays_at_once_when_all_is_settled(world):
    homes = [getattr(world, name) for name in flexworld.HOMES[:5]]
    quantities = {72: 800, 73: 800, 74: 800, 75: 400}
    orders = [world.issue(home, quantities) for home in homes]
    metered = world.finish_day({home.name: quantities for home in homes})
    for order, home in zip(orders, homes, strict=True):
        world.settle(order, home, metered)
    tx = finalise(world, 14_000)
    assert event(tx, "FlexOrderFinalised")["penalty"] == 0


@pytest.mark.parametrize("delivered", [1_000, 600, 0])
def test_finalise_pays_by_the_share_delivered(world, delivered):
    order = world.issue(world.home, {72: 1_000, 73: 1_000})
    metered = world.finish_day({"home": {72: delivered, 73: 1_000}})
    world.settle(order, world.home, metered)
    finalise(world, delivered + 1_000)


@pytest.mark.parametrize("undelivered", [700, 701, 725])
def test_finalise_penalises_the_shortfall_beyond_the_tolerance_to_the_wh(world, undelivered):
    """14,001 Wh ordered, 5% or 700 Wh are tolerated."""
    quantities = {72: 800, 73: 800, 74: 800, 75: 400}
    orders = []
    for name in flexworld.HOMES[:5]:
        orders.append((getattr(world, name), world.issue(getattr(world, name), quantities)))
    short = {72: 800 - (undelivered - 1), 73: 800, 74: 800, 75: 400}
    days = {home.name: quantities for home, _ in orders} | {"home": short}
    metered = world.finish_day(days)
    for home, order in orders:
        world.settle(order, home, metered)
    tx = finalise(world, 14_001 - undelivered)
    assert event(tx, "FlexOrderFinalised")["penalty"] == cost_down(undelivered - 700, world.request.penalty_rate)


def test_finalise_counts_missing_energy_neither_paid_nor_short(world):
    order = world.issue(world.home, {72: 1_000, 73: 1_000})
    metered = world.finish_day({"home": {72: None, 73: 1_000}})
    world.settle(order, world.home, metered)
    finalise(world, 1_000, missing=1_000)


def test_finalise_takes_no_more_than_the_bond(core, actors, world):
    """The bond is 50,001 a kWh and the penalty 40,003, so the whole order short costs less than the bond."""
    clock.at(world.request.dispatch_by + 1)
    tx = finalise(world, 0)
    assert event(tx, "FlexOrderFinalised")["penalty"] == cost_down(ORDERED_WH - 700, 40_003)


def test_finalise_pays_replacements_as_delivered(world):
    """Taken over and delivered by standby counts for the flex order; the pot's rest stays with the payer."""
    world.list_standby(world.standby)
    order = world.issue(world.home, {72: 1_000, 74: 501})
    (replacement,) = issued(world.reassign(order, world.home, 72, 300, world.standby))
    metered = world.finish_day({"home": {72: 300, 74: 151}, "standby": {74: 350}})
    failed = verdict_of(world.settle(order, world.home, metered, takenWh=curve({74: 350})))
    stood_in = verdict_of(world.settle(replacement, world.standby, metered))
    assert stood_in["bonus"] == failed["penalty"]
    finalise(world, 300 + 151 + 350)


def test_finalise_works_when_everything_is_paused(world, actors):
    for contract in (world.dispatch, world.market, world.core.house, world.agreements):
        contract.pause({"from": actors.guardian})
    clock.at(world.request.dispatch_by + 1)
    finalise(world, 0)


def test_finalise_lets_nothing_be_dispatched_or_reassigned_afterwards(world):
    world.list_standby(world.standby)
    order = world.issue(world.home, {72: 1_000, 74: 501})
    clock.move_to(world.end + flexworld.SETTLE_BY)
    world.finalise()
    with reverts("FlexOrderClosed", world.order_id, unchanged=world.contracts):
        world.replace(order, world.standby, {75: 1})


# ---------------------------------------------------------------------- direct groups


@pytest.fixture
def direct(world, actors):
    """An order of 1,000 Wh by the regime, compensated with 150 uToken a Wh."""
    home = world.home
    tx = world.dispatch.issueDirect(
        actors.dso,
        POINT,
        UP,
        world.day,
        ISP_COUNT,
        150_000,
        world.commitment_ids[actors.aggregator.address],
        [(home.connection_id, curve({72: 1_000}), home.packed_baseline, world.proof(home))],
        {"from": actors.module},
    )
    return issued(tx)[0]


def finalise_direct(world, group_id):
    return world.settlement.finaliseDirect(group_id, {"from": world.actors.outsider})


@pytest.mark.parametrize("group_id", [1, 2**63 - 1, 2**63 + 1])
def test_finaliseDirect_reverts_when_group_is_not_direct(world, direct, group_id):
    world.issue(world.other_home, {72: 1})
    with reverts("NotDirectGroup", group_id, unchanged=world.contracts):
        finalise_direct(world, group_id)


@pytest.mark.parametrize(("delivered", "paid"), [(1_000, 150_000), (2_000, 150_000), (400, 60_000), (-9, 0)])
def test_finaliseDirect_returns_what_was_not_earned(world, direct, actors, delivered, paid):
    group_id = direct.fields["groupId"]
    metered = world.finish_day({"home": {72: delivered}})
    verdict = verdict_of(world.settle(direct, world.home, metered))
    assert (verdict["reward"], verdict["penalty"], verdict["net"]) == (paid, 0, paid)
    free = world.free(actors.dso)
    tx = finalise_direct(world, group_id)
    assert event(tx, "GroupFinalised") == {"groupId": group_id, "payerReturned": 150_000 - paid}
    assert world.free(actors.dso) == free + 150_000 - paid
    with reverts("GroupAlreadyFinalised", group_id, unchanged=world.contracts):
        finalise_direct(world, group_id)


def test_finaliseDirect_decides_by_the_second_when_something_is_unsettled(world, direct):
    group_id = direct.fields["groupId"]
    until = world.end + flexworld.SETTLE_BY
    clock.at(until - 1)
    with reverts("SettlementOpen", group_id, until, unchanged=world.contracts):
        finalise_direct(world, group_id)
    clock.at(until)
    finalise_direct(world, group_id)


def test_finalise_reverts_when_group_is_direct(world, direct):
    with reverts("FlexOrderNotOpen", direct.fields["groupId"], unchanged=world.contracts):
        world.finalise(direct.fields["groupId"])
