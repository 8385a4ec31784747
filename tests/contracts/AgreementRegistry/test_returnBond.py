"""
returnBond
├── unknown → reverts AgreementUnknown
├── in force, or held after its end, to the second → reverts BondStillBound
├── nothing left → reverts NoBond
├── lowered, to the second after it was held → the excess goes to the prosumer, the agreed bond stays
└── else, whoever calls, also paused → what penalties left goes to the prosumer, emits BondReturned
"""

import pytest

from offchain.chain.agreements import Action
from tests.utils import clock
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


def test_returnBond_reverts_when_agreement_is_unknown(agreements, actors):
    with reverts("AgreementUnknown", 1, unchanged=agreements):
        agreements.returnBond(1, {"from": actors.outsider})


@pytest.mark.parametrize("by_notice", [True, False])
def test_returnBond_decides_by_the_second(flex, agreements, house, actors, by_notice):
    terms = fx.make_terms(flex)
    fx.register(flex, terms)
    end = terms.valid_until
    if by_notice:
        end = flex.now + 10 + 24 * fx.HOUR
        clock.at(flex.now + 10)
        agreements.give(1, Action.TERMINATE, {"from": actors.prosumer})
    house.release(agreements.bondLockId(1), actors.aggregator, 1_000_001, {"from": actors.module})
    agreements.pause({"from": actors.guardian})
    house.pause({"from": actors.guardian})
    free = house.balanceOf(actors.prosumer)
    until = end + fx.BOND_HOLD
    clock.at(until - 1)
    with reverts("BondStillBound", 1, until, unchanged=(agreements, house)):
        agreements.returnBond(1, {"from": actors.outsider})

    clock.at(until)
    tx = agreements.returnBond(1, {"from": actors.outsider})
    left = terms.bond - 1_000_001
    assert event(tx, "BondReturned") == {"agreementId": 1, "prosumer": actors.prosumer, "amount": left}
    assert house.balanceOf(actors.prosumer) == free + left
    assert house.lockOf(agreements.bondLockId(1)) == 0


def test_returnBond_reverts_when_nothing_is_left(flex, agreements, house, actors):
    terms = fx.make_terms(flex)
    fx.register(flex, terms)
    clock.move_to(terms.valid_until + fx.BOND_HOLD)
    agreements.returnBond(1, {"from": actors.outsider})
    with reverts("NoBond", 1, unchanged=(agreements, house)):
        agreements.returnBond(1, {"from": actors.outsider})


def test_returnBond_returns_the_excess_of_a_lowered_bond(flex, agreements, house, actors):
    """2,000,001 stay agreed; of the rest a penalty took 1,000,000 meanwhile."""
    terms = fx.make_terms(flex, valid_until=flex.now + 3 * fx.BOND_HOLD)
    fx.register(flex, terms)
    lowered = fx.make_terms(flex, valid_until=terms.valid_until, bond=2_000_001)
    clock.at(flex.now + 10)
    agreements.amend(1, lowered.as_tuple(), *fx.signed(flex, lowered), {"from": actors.outsider})
    house.release(agreements.bondLockId(1), actors.aggregator, 1_000_000, {"from": actors.module})
    until = flex.now + 10 + fx.BOND_HOLD
    clock.at(until - 1)
    with reverts("BondStillBound", 1, until, unchanged=(agreements, house)):
        agreements.returnBond(1, {"from": actors.outsider})
    clock.at(until)
    tx = agreements.returnBond(1, {"from": actors.outsider})
    assert event(tx, "BondReturned")["amount"] == terms.bond - 1_000_000 - lowered.bond
    assert house.lockOf(agreements.bondLockId(1)) == lowered.bond
    clock.at(until + 1)
    with reverts("BondStillBound", 1, terms.valid_until + fx.BOND_HOLD, unchanged=(agreements, house)):
        agreements.returnBond(1, {"from": actors.outsider})


def test_bondHoldSeconds_is_what_was_deployed(agreements):
    assert agreements.bondHoldSeconds() == fx.BOND_HOLD
