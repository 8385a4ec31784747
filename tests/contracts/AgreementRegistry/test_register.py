"""
register
├── paused → reverts EnforcedPause
├── terms break a rule → reverts InvalidTerms with the field
├── connection
│   ├── never registered or decommissioned → reverts ConnectionUnknown
│   ├── owned by another → reverts NotOwner
│   └── its latest agreement has not ended → reverts ConnectionTaken, whoever the other aggregator is
├── party without role or in bad standing → reverts MissingRole
├── signatures
│   ├── deadline over → reverts SignatureExpired; in the last second → registers
│   ├── other signer, other terms, other chain, other contract, used before → reverts InvalidSignature
│   └── of an ERC-1271 wallet → registers, unless its owner did not sign
├── prosumer cannot pay the bond → reverts InsufficientBalance
└── else, whoever sends it → stores the terms, locks the bond, raises the nonce, emits AgreementRegistered
    └── former agreement ended by notice or validity, to the second → registers
"""

from dataclasses import replace

import brownie
import pytest

from offchain.chain.agreements import Action, Terms, isp_bits
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts


def call(flex, terms, **changed):
    arguments = fx.signed(flex, terms, **changed)
    return flex.agreements.register(terms.as_tuple(), *arguments, {"from": flex.actors.outsider})


def test_register_reverts_when_paused(flex, agreements, actors):
    arguments = fx.signed(flex, fx.make_terms(flex))
    agreements.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=agreements):
        agreements.register(fx.make_terms(flex).as_tuple(), *arguments, {"from": actors.outsider})


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"max_up_w": 0, "max_down_w": 0}, "maxUpW"),
        ({"multiplier_bps": 0}, "multiplierBps"),
        ({"tolerance_bps": 10_001}, "toleranceBps"),
        ({"weekly_activations": 0}, "weeklyActivations"),
        ({"working_day_isps": 0, "weekend_isps": 0}, "workingDayIsps"),
        ({"working_day_isps": 1 << 100}, "workingDayIsps"),
        ({"weekend_isps": 1 << 127}, "workingDayIsps"),
    ],
)
def test_register_reverts_when_terms_break_a_rule(flex, agreements, house, changed, field):
    with reverts("InvalidTerms", field, unchanged=(agreements, house)):
        call(flex, fx.make_terms(flex, **changed))


def test_register_reverts_when_validity_is_empty(flex, agreements):
    with reverts("InvalidTerms", "validFrom", unchanged=agreements):
        call(flex, fx.make_terms(flex, valid_from=flex.now + 9, valid_until=flex.now + 9))


def test_register_decides_by_the_second_when_validity_is_over(flex, agreements):
    terms = fx.make_terms(flex, valid_until=flex.now + 100)
    clock.at(flex.now + 100)
    with reverts("InvalidTerms", "validUntil", unchanged=agreements):
        call(flex, terms)
    later = fx.make_terms(flex, valid_until=flex.now + 111)
    clock.at(flex.now + 110)
    call(flex, later)


@pytest.mark.parametrize(
    "changed",
    [
        {"max_up_w": 0},
        {"max_down_w": 0},
        {"tolerance_bps": 10_000},
        {"working_day_isps": 0},
        {"weekend_isps": 0, "working_day_isps": isp_bits([99])},
        {"bond": 0},
        {"weekly_activations": 255},
    ],
)
def test_register_accepts_when_terms_are_at_their_limits(flex, agreements, changed):
    terms = fx.make_terms(flex, **changed)
    assert fx.register(flex, terms) == 1
    assert fx.terms_of(agreements.termsOf(1)) == terms


def test_register_reverts_when_connection_was_never_registered(flex, agreements):
    unknown = system.id_of("nowhere")
    with reverts("ConnectionUnknown", unknown, unchanged=agreements):
        call(flex, fx.make_terms(flex, connection_id=unknown))


def test_register_reverts_when_connection_is_decommissioned(flex, agreements, grid, actors):
    grid.decommissionConnection(fx.CONNECTION, {"from": actors.dso})
    with reverts("ConnectionUnknown", fx.CONNECTION, unchanged=agreements):
        call(flex, fx.make_terms(flex))


def test_register_reverts_when_prosumer_does_not_own_the_connection(flex, agreements, actors):
    terms = fx.make_terms(flex, prosumer=actors.other_prosumer.address)
    with reverts("NotOwner", fx.CONNECTION, actors.other_prosumer, unchanged=agreements):
        call(flex, terms, prosumer=actors.other_prosumer)


@pytest.mark.parametrize(
    ("party", "role"), [("prosumer", system.Role.PROSUMER), ("aggregator", system.Role.AGGREGATOR)]
)
def test_register_reverts_when_a_party_is_suspended(flex, agreements, actors, party, role):
    account = getattr(actors, party)
    fx.suspend(flex, account)
    with reverts("MissingRole", account, role, system.Status.SUSPENDED, unchanged=agreements):
        call(flex, fx.make_terms(flex))


def test_register_reverts_when_aggregator_has_another_role_only(flex, agreements, actors):
    terms = fx.make_terms(flex, aggregator=actors.dso.address)
    with reverts("MissingRole", actors.dso, system.Role.AGGREGATOR, system.Status.ACTIVE, unchanged=agreements):
        call(flex, terms, aggregator=actors.dso)


@pytest.mark.parametrize("same_aggregator", [True, False])
def test_register_reverts_when_connection_is_taken(flex, agreements, house, same_aggregator):
    fx.register(flex)
    aggregator = flex.actors.aggregator if same_aggregator else flex.other_aggregator
    terms = fx.make_terms(flex, aggregator=aggregator.address)
    with reverts("ConnectionTaken", fx.CONNECTION, 1, unchanged=(agreements, house)):
        call(flex, terms, aggregator=aggregator)


def test_register_reverts_when_agreement_in_the_way_is_suspended_or_under_notice(flex, agreements, actors):
    fx.register(flex)
    agreements.give(1, Action.SUSPEND, {"from": actors.prosumer})
    agreements.give(1, Action.TERMINATE, {"from": actors.prosumer})
    terms = fx.make_terms(flex, aggregator=flex.other_aggregator.address)
    with reverts("ConnectionTaken", fx.CONNECTION, 1, unchanged=agreements):
        call(flex, terms, aggregator=flex.other_aggregator)


@pytest.mark.parametrize("by_notice", [True, False])
def test_register_decides_by_the_second_when_former_agreement_ends(flex, agreements, actors, by_notice):
    fx.register(flex)
    end = flex.now + 240 * fx.HOUR
    if by_notice:
        end = flex.now + 24 * fx.HOUR + 5
        clock.at(flex.now + 5)
        agreements.give(1, Action.TERMINATE, {"from": actors.aggregator})
    terms = fx.make_terms(flex, aggregator=flex.other_aggregator.address, valid_until=end + fx.HOUR)
    clock.at(end - 1)
    with reverts("ConnectionTaken", fx.CONNECTION, 1, unchanged=agreements):
        call(flex, terms, aggregator=flex.other_aggregator)
    clock.at(end)
    tx = call(flex, terms, aggregator=flex.other_aggregator)
    assert tx.return_value == agreements.agreementOf(fx.CONNECTION) == 2


def test_register_decides_by_the_second_when_signatures_expire(flex, agreements):
    terms, deadline = fx.make_terms(flex), flex.now + 60
    clock.at(deadline + 1)
    with reverts("SignatureExpired", deadline, deadline + 1, unchanged=agreements):
        call(flex, terms, deadline=deadline)
    clock.at(deadline + 10)
    assert call(flex, terms, deadline=deadline + 10).return_value == 1


@pytest.mark.parametrize("missing", ["prosumer", "aggregator"])
def test_register_reverts_when_an_outsider_signed_for_a_party(flex, agreements, actors, missing):
    with reverts("InvalidSignature", getattr(actors, missing), unchanged=agreements):
        call(flex, fx.make_terms(flex), **{missing: actors.outsider})


def test_register_reverts_when_other_terms_were_signed(flex, agreements, actors):
    terms = fx.make_terms(flex)
    arguments = fx.signed(flex, terms)
    dearer = replace(terms, reward_rate=terms.reward_rate + 1)
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.register(dearer.as_tuple(), *arguments, {"from": actors.outsider})


def test_register_reverts_when_deadline_is_not_the_signed_one(flex, agreements, actors):
    terms = fx.make_terms(flex)
    _, *signatures = fx.signed(flex, terms, deadline=flex.now + fx.HOUR)
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.register(terms.as_tuple(), flex.now + 2 * fx.HOUR, *signatures, {"from": actors.outsider})


@pytest.mark.parametrize("changed", ["chain_id", "verifying_contract"])
def test_register_reverts_when_signed_for_another_chain_or_contract(flex, agreements, actors, changed):
    other = {"chain_id": brownie.chain.id + 1, "verifying_contract": actors.outsider.address}[changed]
    domain = replace(flex.domain, **{changed: other})
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        call(flex, fx.make_terms(flex), domain=domain)


def test_register_reverts_when_signatures_were_used_before(flex, agreements, actors):
    terms = fx.make_terms(flex, termination_notice_seconds=0)
    arguments = fx.signed(flex, terms)
    agreements.register(terms.as_tuple(), *arguments, {"from": actors.outsider})
    agreements.give(1, Action.TERMINATE, {"from": actors.prosumer})
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.register(terms.as_tuple(), *arguments, {"from": actors.outsider})


def test_register_asks_the_wallet_when_prosumer_is_a_contract(flex, agreements, participants, grid, actors):
    wallet = system.deploy(actors.admin, "ContractWallet", actors.other_prosumer)
    approval = system.sign_approval(participants, wallet, actors.registrar)
    enrolment = system.sign_enrolment(participants, wallet, actors.other_prosumer)
    participants.registerProsumer(
        wallet,
        system.identity("prosumer"),
        system.FAR_FUTURE,
        actors.registrar,
        approval,
        enrolment,
        {"from": actors.outsider},
    )
    connection = system.id_of("connection of a wallet")
    grid.registerConnection(connection, fx.POINT, wallet, 1, 1, {"from": actors.dso})
    terms = fx.make_terms(flex, prosumer=wallet.address, connection_id=connection, bond=0)
    with reverts("InvalidSignature", wallet, unchanged=agreements):
        call(flex, terms, prosumer=actors.prosumer)
    assert call(flex, terms, prosumer=actors.other_prosumer).return_value == 1


def test_register_reverts_when_prosumer_cannot_pay_the_bond(flex, agreements, house, actors):
    free = house.balanceOf(actors.prosumer)
    terms = fx.make_terms(flex, bond=free + 1)
    with reverts("InsufficientBalance", actors.prosumer, free, free + 1, unchanged=(agreements, house)):
        call(flex, terms)


def test_register_stores_terms_and_locks_the_bond(flex, agreements, house, actors):
    terms = fx.make_terms(flex)
    free = house.balanceOf(actors.prosumer)
    tx = call(flex, terms)
    assert tx.return_value == 1
    assert fx.terms_of(agreements.termsOf(1)) == terms
    assert plain(agreements.standingOf(1)) == {
        "status": 1,
        "suspendedBy": brownie.ZERO_ADDRESS,
        "endsAt": 0,
        "version": 1,
    }
    assert agreements.agreementOf(fx.CONNECTION) == agreements.nonceOf(fx.CONNECTION) == 1
    assert house.lockOf(agreements.bondLockId(1)) == terms.bond
    assert house.balanceOf(actors.prosumer) == free - terms.bond
    emitted = event(tx, "AgreementRegistered")
    assert Terms(*emitted.pop("terms").values()) == terms
    assert emitted == {
        "agreementId": 1,
        "prosumer": actors.prosumer,
        "aggregator": actors.aggregator,
        "version": 1,
    }
