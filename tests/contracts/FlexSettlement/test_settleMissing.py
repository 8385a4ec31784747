"""
settleMissing
├── order unknown, settled → reverts ProsumerOrderUnknown, OrderNotIssued; other terms → TermsMismatch
├── other quantities or taken curve → reverts CurveHashMismatch; group finalised → reverts SettlementClosed
├── readings not yet due, to the second → reverts ReadingsNotYetDue
│   └── while a batch of the meter's operator stands for the day, challengeable or not → due later; rejected, of another
│       length, of another operator → not later
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


def test_settleMissing_waits_longer_while_a_batch_stands(world):
    """Readings may be in it, so they keep the right of way; whoever has them can settle."""
    order = world.issue(world.home, QUANTITIES)
    metered = world.finish_day({"home": {72: 1_000, 74: 501}})
    later = world.end + (flexworld.READINGS_DUE + flexworld.SETTLE_BY) // 2
    assert world.settlement.missingFrom(*order.terms[4:5], *order.terms[6:8]) == later
    clock.at(later - 1)
    with reverts("ReadingsNotYetDue", later, later - 1, unchanged=world.contracts):
        world.settle_missing(order)
    brought = verdict_of(world.settle(order, world.home, metered))
    assert brought["creditedWh"] == 1_501


def test_settleMissing_settles_when_the_day_is_in_no_batch_that_stands(world):
    """The batch is there, the meter's day is not in it: there is a way out before the group closes."""
    order = world.issue(world.home, QUANTITIES)
    world.finish_day({}, without=["home"])
    later = world.end + (flexworld.READINGS_DUE + flexworld.SETTLE_BY) // 2
    clock.at(later)
    assert verdict_of(world.settle_missing(order))["missingWh"] == 1_501


def test_settleMissing_does_not_wait_for_a_batch_that_is_rejected(world, due, actors):
    order = world.issue(world.home, QUANTITIES)
    clock.move_to(due - 60)
    metered = world.anchor({"home": {72: 1_000, 74: 501}})
    day, proof = metered.days["home"], metered.proofs["home"]
    reading = world.reading(world.home, 72, 7)
    world.metering.challengeContradiction(actors.meter_operator, day, proof, reading, {"from": actors.outsider})
    clock.at(due)
    world.settle_missing(order)


def test_settleMissing_does_not_wait_for_another_batch(world, due, actors):
    """Of the same operator for a day of another length, and of another operator for the day."""
    order = world.issue(world.home, QUANTITIES)
    other = actors.other_meter_operator
    world.core.token.approve(world.core.house, flexworld.OPERATOR_BOND, {"from": actors.treasury})
    world.core.house.deposit(other, flexworld.OPERATOR_BOND, {"from": actors.treasury})
    world.metering.postBond(flexworld.OPERATOR_BOND, {"from": other})
    clock.move_to(world.end + 3_600)
    for operator, isp_count in ((actors.meter_operator, 100), (other, 96)):
        root = world.metering.address + "00" * 12
        world.metering.anchorDay(world.day, isp_count, root, 1, b"\x01" * 32, {"from": operator})
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
