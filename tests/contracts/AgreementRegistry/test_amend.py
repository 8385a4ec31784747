"""
amend
├── paused → reverts EnforcedPause
├── unknown → reverts AgreementUnknown
├── other connection, prosumer or aggregator → reverts PartyChanged
├── ended, to the second → reverts NotInForce
├── terms, connection, standing, signatures: as register
└── else → stores the terms, counts the version, emits AgreementRegistered
    ├── bond higher → locks the difference, also what penalties took
    ├── bond lower → releases the difference
    └── suspended, under notice → stays so
"""

from dataclasses import replace

import pytest

from offchain.chain.agreements import Action, AgreementStatus
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts

BOND = 5_000_000


@pytest.fixture
def agreement(flex):
    return fx.register(flex)


def call(flex, agreement, terms, **changed):
    arguments = fx.signed(flex, terms, **changed)
    return flex.agreements.amend(agreement, terms.as_tuple(), *arguments, {"from": flex.actors.outsider})


def test_amend_reverts_when_paused(flex, agreements, agreement, actors):
    agreements.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=agreements):
        call(flex, agreement, fx.make_terms(flex))


def test_amend_reverts_when_agreement_is_unknown(flex, agreements, agreement):
    with reverts("AgreementUnknown", 2, unchanged=agreements):
        call(flex, 2, fx.make_terms(flex))


@pytest.mark.parametrize("party", ["connection_id", "prosumer", "aggregator"])
def test_amend_reverts_when_connection_or_party_changes(flex, agreements, agreement, actors, party):
    other = {
        "connection_id": fx.OTHER_CONNECTION,
        "prosumer": actors.other_prosumer.address,
        "aggregator": flex.other_aggregator.address,
    }[party]
    with reverts("PartyChanged", agreement, unchanged=agreements):
        call(flex, agreement, fx.make_terms(flex, **{party: other}))


def test_amend_decides_by_the_second_when_agreement_ends(flex, agreements, agreement):
    terms = fx.make_terms(flex)
    longer = replace(terms, valid_until=terms.valid_until + fx.HOUR)
    clock.at(terms.valid_until)
    with reverts(
        "NotInForce",
        agreement,
        AgreementStatus.TERMINATED,
        terms.valid_from,
        terms.valid_until,
        terms.valid_until,
        unchanged=agreements,
    ):
        call(flex, agreement, longer)


def test_amend_prolongs_when_it_comes_in_the_last_second(flex, agreements, agreement):
    terms = fx.make_terms(flex)
    longer = replace(terms, valid_until=terms.valid_until + fx.HOUR)
    clock.at(terms.valid_until - 1)
    call(flex, agreement, longer)
    clock.move_to(terms.valid_until)
    assert fx.terms_of(agreements.termsInForce(agreement)) == longer


def test_amend_reverts_when_terms_break_a_rule(flex, agreements, agreement):
    with reverts("InvalidTerms", "multiplierBps", unchanged=agreements):
        call(flex, agreement, fx.make_terms(flex, multiplier_bps=0))


@pytest.mark.parametrize(
    ("party", "role"), [("prosumer", system.Role.PROSUMER), ("aggregator", system.Role.AGGREGATOR)]
)
def test_amend_reverts_when_a_party_is_suspended_as_participant(flex, agreements, agreement, actors, party, role):
    fx.suspend(flex, getattr(actors, party))
    with reverts("MissingRole", getattr(actors, party), role, system.Status.SUSPENDED, unchanged=agreements):
        call(flex, agreement, fx.make_terms(flex))


@pytest.mark.parametrize("missing", ["prosumer", "aggregator"])
def test_amend_reverts_when_one_side_did_not_sign(flex, agreements, agreement, actors, missing):
    with reverts("InvalidSignature", getattr(actors, missing), unchanged=agreements):
        call(flex, agreement, fx.make_terms(flex, reward_rate=1), **{missing: actors.outsider})


def test_amend_reverts_when_signatures_of_registration_are_replayed(flex, agreements, actors):
    terms = fx.make_terms(flex)
    arguments = fx.signed(flex, terms)
    agreements.register(terms.as_tuple(), *arguments, {"from": actors.outsider})
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.amend(1, terms.as_tuple(), *arguments, {"from": actors.outsider})


def test_amend_stores_terms_and_counts_the_version(flex, agreements, agreement, actors):
    terms = fx.make_terms(flex, reward_rate=7, standby=False)
    tx = call(flex, agreement, terms)
    assert fx.terms_of(agreements.termsInForce(agreement)) == terms
    assert agreements.standingOf(agreement)["version"] == 2
    assert agreements.nonceOf(fx.CONNECTION) == 2
    emitted = event(tx, "AgreementRegistered")
    assert fx.Terms(*emitted.pop("terms").values()) == terms
    assert emitted == {
        "agreementId": agreement,
        "prosumer": actors.prosumer,
        "aggregator": actors.aggregator,
        "version": 2,
    }


@pytest.mark.parametrize("taken", [0, 1_000_000, BOND])
@pytest.mark.parametrize("bond", [0, 4_000_000, BOND, 6_000_000])
def test_amend_fills_the_lock_up_and_releases_nothing(flex, agreements, agreement, house, actors, taken, bond):
    lock = agreements.bondLockId(agreement)
    house.release(lock, actors.aggregator, taken, {"from": actors.module})
    free = house.balanceOf(actors.prosumer)
    call(flex, agreement, fx.make_terms(flex, bond=bond))
    assert house.lockOf(lock) == max(bond, BOND - taken)
    assert house.balanceOf(actors.prosumer) == free - max(bond - (BOND - taken), 0)


def test_amend_holds_what_a_lower_bond_makes_superfluous(flex, agreements, agreement):
    """From the latest lowering on; an amendment that does not lower the bond changes nothing."""
    assert agreements.excessHeldUntil(agreement) == 0
    for seconds, bond, since in ((100, BOND, 0), (200, 400, 200), (300, 400, 200), (400, 399, 400), (500, BOND, 400)):
        clock.at(flex.now + seconds)
        call(flex, agreement, fx.make_terms(flex, bond=bond))
        assert agreements.excessHeldUntil(agreement) == (flex.now + since + fx.BOND_HOLD if since else 0)


def test_amend_keeps_suspension_and_notice(flex, agreements, agreement, actors):
    agreements.give(agreement, Action.SUSPEND, {"from": actors.prosumer})
    agreements.give(agreement, Action.TERMINATE, {"from": actors.prosumer})
    before = agreements.standingOf(agreement)
    call(flex, agreement, fx.make_terms(flex, reward_rate=7))
    after = agreements.standingOf(agreement)
    assert after["status"] == AgreementStatus.SUSPENDED
    assert (after["suspendedBy"], after["endsAt"]) == (before["suspendedBy"], before["endsAt"])
