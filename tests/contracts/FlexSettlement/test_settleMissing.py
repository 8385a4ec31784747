"""
settleMissing
├── order unknown, settled → reverts ProsumerOrderUnknown, OrderNotIssued; other terms → TermsMismatch
├── other quantities or taken curve → reverts CurveHashMismatch; group finalised → reverts SettlementClosed
├── readings not yet due, to the second → reverts ReadingsNotYetDue
└── else, by anyone → nothing earned; by the agreed rule nothing or all of it short; what was taken over is penalised
"""

import pytest

from tests.utils import clock, flexworld
from tests.utils.flexibility import curve
from tests.utils.flexworld import issued, verdict_of
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

QUANTITIES = {72: 1_000, 74: 501}


@pytest.fixture
def due(world):
    return world.end + flexworld.READINGS_DUE


def test_settleMissing_reverts_when_readings_are_not_yet_due(world, due):
    order = world.issue(world.home, QUANTITIES)
    clock.at(due - 1)
    with reverts("ReadingsNotYetDue", due, due - 1, unchanged=world.contracts):
        world.settle_missing(order)
    clock.at(due)
    world.settle_missing(order)


def test_settleMissing_reverts_when_order_is_unknown_changed_or_settled(world, due):
    order = world.issue(world.home, QUANTITIES)
    clock.move_to(due)
    with reverts("ProsumerOrderUnknown", 9, unchanged=world.contracts):
        world.settle_missing(order._replace(id=9))
    terms = (*order.terms[:8], 0, *order.terms[9:])
    with reverts("TermsMismatch", order.id, unchanged=world.contracts):
        world.settle_missing(order._replace(terms=terms))
    with reverts("CurveHashMismatch", "quantities", unchanged=world.contracts):
        world.settle_missing(order._replace(quantities=curve({72: 1})))
    with reverts("CurveHashMismatch", "taken", unchanged=world.contracts):
        world.settle_missing(order, taken=curve({72: 1}))
    world.settle_missing(order)
    with reverts("OrderNotIssued", order.id, 3, unchanged=world.contracts):
        world.settle_missing(order)


def test_settleMissing_reverts_when_group_is_finalised(world):
    order = world.issue(world.home, QUANTITIES)
    clock.move_to(world.end + flexworld.SETTLE_BY)
    world.finalise()
    with reverts("SettlementClosed", world.order_id, unchanged=world.contracts):
        world.settle_missing(order)


@pytest.mark.parametrize(("rule", "penalty"), [(False, 0), (True, 450_310)])
def test_settleMissing_follows_the_agreed_rule(world, due, rule, penalty):
    home = flexworld.amend(world, world.home, missing_is_shortfall=rule)
    order = world.issue(home, QUANTITIES)
    lock = world.group_lock()
    clock.move_to(due)
    tx = world.settle_missing(order)
    verdict = {
        "creditedWh": 0,
        "rewardedWh": 0,
        "penalisedWh": 1_501 if rule else 0,
        "missingWh": 1_501,
        "reward": 0,
        "penalty": penalty,
        "bonus": 0,
        "net": -penalty,
    }
    assert event(tx, "ProsumerSettled") == {
        "prosumerOrderId": order.id,
        "groupId": world.order_id,
        "prosumer": home.account,
        "version": 0,
        "verdict": verdict,
    }
    assert plain(tx.return_value) == verdict
    assert world.group_lock() == lock + penalty
    assert world.bond(home) == home.terms.bond - penalty
    group = plain(world.dispatch.group(world.order_id))
    assert (group["creditedWh"], group["missingWh"], group["settled"]) == (0, 1_501, 1)


@pytest.mark.parametrize("rule", [False, True])
def test_settleMissing_penalises_what_standby_took_over(world, due, rule):
    home = flexworld.amend(world, world.home, missing_is_shortfall=rule)
    world.list_standby(world.standby)
    order = world.issue(home, QUANTITIES)
    (replacement,) = issued(world.reassign(order, home, 72, 300, world.standby))
    clock.move_to(due)
    with reverts("SettleReplacedFirst", order.id, unchanged=world.contracts):
        world.settle_missing(replacement)
    verdict = verdict_of(world.settle_missing(order, taken=curve({74: 350})))
    assert verdict["penalisedWh"] == (1_501 if rule else 350)
    assert verdict["missingWh"] == 1_151
    assert world.dispatch.reassignment(order.id)["pot"] == verdict["penalty"] > 0
    assert verdict_of(world.settle_missing(replacement))["bonus"] == 0
