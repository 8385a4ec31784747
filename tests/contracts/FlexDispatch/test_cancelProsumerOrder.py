"""
cancelProsumerOrder
├── unknown → reverts ProsumerOrderUnknown; cancelled, settled → reverts OrderNotIssued
├── other terms → reverts TermsMismatch; other curve → reverts CurveMismatch
├── not by its aggregator → reverts NotAggregatorOf; aggregator suspended → reverts MissingRole
├── direct order, flex order closed → reverts FlexOrderClosed
├── partly taken over by standby, or itself a replacement → reverts AlreadyReplaced
├── notice time has begun, to the second → reverts NoticeTooShort
└── else, also while paused → frees ISPs, weekly count, sums and locked reward, emits ProsumerOrderCancelled
"""

import brownie
import pytest

from tests.reference.settlement import largest_reward
from tests.utils import clock, flexworld
from tests.utils.flexibility import UP, curve
from tests.utils.flexworld import issued
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status

QUANTITIES = {72: 1_000, 74: 501}


@pytest.fixture
def order(world):
    return world.issue(world.home, QUANTITIES)


def test_cancelProsumerOrder_reverts_when_order_is_unknown(world, order):
    with reverts("ProsumerOrderUnknown", 9, unchanged=world.contracts):
        world.cancel(order._replace(id=9))


def test_cancelProsumerOrder_reverts_when_order_was_cancelled(world, order):
    world.cancel(order)
    with reverts("OrderNotIssued", order.id, 2, unchanged=world.contracts):
        world.cancel(order)


def test_cancelProsumerOrder_reverts_when_terms_differ(world, order):
    terms = (*order.terms[:8], order.terms[8] + 1, *order.terms[9:])
    with reverts("TermsMismatch", order.id, unchanged=world.contracts):
        world.cancel(order._replace(terms=terms))


def test_cancelProsumerOrder_reverts_when_curve_differs(world, order):
    other = curve({72: 1_000})
    hashes = (brownie.web3.keccak(other), brownie.web3.keccak(order.quantities))
    with reverts("CurveMismatch", *map(bytes, hashes), unchanged=world.contracts):
        world.cancel(order._replace(quantities=other))


def test_cancelProsumerOrder_reverts_when_caller_is_not_its_aggregator(world, order, actors):
    for sender in (world.home.account, actors.outsider, world.other_aggregator):
        with reverts("NotAggregatorOf", world.order_id, sender, unchanged=world.contracts):
            world.cancel(order, sender=sender)


def test_cancelProsumerOrder_reverts_when_aggregator_is_suspended(world, order, actors):
    world.core.participants.setStatus(actors.aggregator, Status.SUSPENDED, b"\x01" * 32, {"from": actors.registrar})
    with reverts("MissingRole", actors.aggregator, Role.AGGREGATOR, Status.SUSPENDED, unchanged=world.contracts):
        world.cancel(order)


@pytest.mark.parametrize(("notice_seconds", "late"), [(0, 1), (3_600, 0)])
def test_cancelProsumerOrder_goes_by_the_notice_the_order_was_issued_with(world, order, notice_seconds, late):
    """900 s before 72, whatever the agreement says by now."""
    flexworld.amend(world, world.home, notice_seconds=notice_seconds)
    clock.at(world.start(71) + late)
    if not late:
        world.cancel(order)
        return
    earliest = world.start(72) + 1
    with reverts("NoticeTooShort", world.home.agreement_id, world.start(72), earliest, unchanged=world.contracts):
        world.cancel(order)


def test_cancelProsumerOrder_reverts_when_order_is_direct(world, actors):
    home = world.home
    tx = world.dispatch.issueDirect(
        actors.dso,
        world.request.congestion_point_id,
        UP,
        world.day,
        96,
        1_000,
        world.commitment_ids[home.terms.aggregator],
        [(home.connection_id, curve(QUANTITIES), home.packed_baseline, world.proof(home))],
        {"from": actors.module},
    )
    (direct,) = issued(tx)
    with reverts("FlexOrderClosed", direct.fields["groupId"], unchanged=world.contracts):
        world.cancel(direct, sender=actors.dso)


def test_cancelProsumerOrder_reverts_when_standby_took_part_of_it_over(world, order):
    world.list_standby(world.standby)
    (replacement,) = issued(world.reassign(order, world.home, 72, 0, world.standby))
    for bound in (order, replacement):
        with reverts("AlreadyReplaced", bound.id, unchanged=world.contracts):
            world.cancel(bound)


def test_cancelProsumerOrder_reverts_when_notice_time_has_begun(world, order):
    last = world.start(72) - world.home.terms.notice_seconds
    clock.at(last + 1)
    with reverts(
        "NoticeTooShort", world.home.agreement_id, world.start(72), world.start(72) + 1, unchanged=world.contracts
    ):
        world.cancel(order)


def test_cancelProsumerOrder_cancels_in_the_last_second_before_notice(world, order):
    clock.at(world.start(72) - world.home.terms.notice_seconds)
    world.cancel(order)
    assert world.dispatch.prosumerOrder(order.id)["status"] == 2


def test_cancelProsumerOrder_frees_all_that_the_order_took(world, order, actors):
    other = world.issue(world.other_home, {72: 3})
    free = world.free(actors.aggregator)
    reward = largest_reward([1_000, 501], [], order.fields)
    tx = world.cancel(order)
    assert world.free(actors.aggregator) == free + reward
    assert world.group_lock() == largest_reward([3], [], other.fields)
    assert event(tx, "ProsumerOrderCancelled") == {
        "prosumerOrderId": order.id,
        "groupId": world.order_id,
        "rewardReleased": reward,
    }
    assert plain(world.dispatch.dispatchedWh(world.order_id)) == curve({72: 3})
    assert world.dispatch.orderedIsps(world.home.connection_id, world.day) == 0
    assert world.dispatch.group(world.order_id)["issued"] == 1
    assert world.dispatch.prosumerOrder(order.id)["status"] == 2


def test_cancelProsumerOrder_gives_the_activation_of_the_week_back(world, order):
    for position in (73, 75):
        world.issue(world.home, {position: 1})
    world.cancel(order)
    world.issue(world.home, QUANTITIES)
    with reverts(
        "WeeklyLimitReached", world.home.agreement_id, (world.day // 96 + 3) // 7, 3, unchanged=world.contracts
    ):
        world.issue(world.home, {76: 1})


def test_cancelProsumerOrder_works_when_paused(world, order, actors):
    for contract in (world.dispatch, world.core.house):
        contract.pause({"from": actors.guardian})
    world.cancel(order)
    assert world.group_lock() == 0


def test_cancelProsumerOrder_lets_the_dso_give_up_when_nothing_is_left(world, order, actors):
    world.cancel(order)
    world.market.cancelOrder(world.order_id, {"from": actors.dso})
    assert world.market.flexOrder(world.order_id)["status"] == 2
