"""
give, giveBySignature
├── unknown → reverts AgreementUnknown
├── not a party → reverts NotParty
├── ended → reverts StatusNotAllowed with Terminated
├── suspend
│   ├── already suspended → reverts StatusNotAllowed
│   └── active → Suspended, not in force from the same second
├── resume
│   ├── active → reverts StatusNotAllowed
│   ├── suspended by the other side → reverts SuspendedByOther
│   └── else → Active
├── terminate
│   ├── notice already given → reverts StatusNotAllowed
│   └── else, also while suspended → ends after the notice, to the second; a suspension stays until then
├── paused, or the party suspended as participant → works: leaving is always possible
└── by signature: expired, other signer, used before, other action → reverts; of a wallet contract → works
"""

import brownie
import pytest

from offchain.chain.agreements import Action, AgreementStatus
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts

NOTICE = 24 * fx.HOUR


@pytest.fixture
def agreement(flex):
    return fx.register(flex)


def not_in_force(flex, agreement, status, now, *, ends_at=None):
    terms = fx.make_terms(flex)
    return brownie.reverts(
        f"NotInForce: {agreement}, {status}, {terms.valid_from}, {ends_at or terms.valid_until}, {now}"
    )


@pytest.mark.parametrize("action", list(Action))
def test_give_reverts_when_agreement_is_unknown(agreements, agreement, actors, action):
    with reverts("AgreementUnknown", 2, unchanged=agreements):
        agreements.give(2, action, {"from": actors.prosumer})


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("caller", ["outsider", "dso", "other_prosumer"])
def test_give_reverts_when_caller_is_no_party(agreements, agreement, actors, action, caller):
    account = getattr(actors, caller)
    with reverts("NotParty", agreement, account, unchanged=agreements):
        agreements.give(agreement, action, {"from": account})


@pytest.mark.parametrize("action", list(Action))
def test_give_reverts_when_agreement_has_ended(flex, agreements, agreement, actors, action):
    clock.at(fx.make_terms(flex).valid_until)
    with reverts("StatusNotAllowed", agreement, AgreementStatus.TERMINATED, action, unchanged=agreements):
        agreements.give(agreement, action, {"from": actors.prosumer})


@pytest.mark.parametrize("party", ["prosumer", "aggregator"])
def test_give_suspends_at_once(flex, agreements, agreement, actors, party):
    account = getattr(actors, party)
    clock.at(flex.now + 50)
    tx = agreements.give(agreement, Action.SUSPEND, {"from": account})
    assert event(tx, "AgreementStatusChanged") == {
        "agreementId": agreement,
        "status": AgreementStatus.SUSPENDED,
        "by": account,
        "endsAt": 0,
    }
    standing = agreements.standingOf(agreement)
    assert (standing["status"], standing["suspendedBy"]) == (AgreementStatus.SUSPENDED, account)
    with not_in_force(flex, agreement, AgreementStatus.SUSPENDED, brownie.chain[-1].timestamp):
        agreements.termsInForce(agreement)


def test_give_reverts_when_agreement_is_suspended_twice(agreements, agreement, actors):
    agreements.give(agreement, Action.SUSPEND, {"from": actors.prosumer})
    with reverts("StatusNotAllowed", agreement, AgreementStatus.SUSPENDED, Action.SUSPEND, unchanged=agreements):
        agreements.give(agreement, Action.SUSPEND, {"from": actors.aggregator})


def test_give_reverts_when_nothing_is_suspended(agreements, agreement, actors):
    with reverts("StatusNotAllowed", agreement, AgreementStatus.ACTIVE, Action.RESUME, unchanged=agreements):
        agreements.give(agreement, Action.RESUME, {"from": actors.prosumer})


def test_give_reverts_when_the_other_side_resumes(agreements, agreement, actors):
    agreements.give(agreement, Action.SUSPEND, {"from": actors.prosumer})
    with reverts("SuspendedByOther", agreement, actors.prosumer, unchanged=agreements):
        agreements.give(agreement, Action.RESUME, {"from": actors.aggregator})


def test_give_resumes_when_the_same_side_asks(agreements, agreement, actors):
    agreements.give(agreement, Action.SUSPEND, {"from": actors.aggregator})
    tx = agreements.give(agreement, Action.RESUME, {"from": actors.aggregator})
    assert event(tx, "AgreementStatusChanged") == {
        "agreementId": agreement,
        "status": AgreementStatus.ACTIVE,
        "by": actors.aggregator,
        "endsAt": 0,
    }
    assert agreements.standingOf(agreement)["suspendedBy"] == brownie.ZERO_ADDRESS
    agreements.termsInForce(agreement)


@pytest.mark.parametrize("party", ["prosumer", "aggregator"])
def test_give_terminates_after_the_notice_to_the_second(flex, agreements, agreement, actors, party):
    account, ends_at = getattr(actors, party), flex.now + 50 + NOTICE
    clock.at(flex.now + 50)
    tx = agreements.give(agreement, Action.TERMINATE, {"from": account})
    assert event(tx, "AgreementStatusChanged") == {
        "agreementId": agreement,
        "status": AgreementStatus.TERMINATED,
        "by": account,
        "endsAt": ends_at,
    }
    clock.move_to(ends_at - 1)
    assert agreements.standingOf(agreement)["status"] == AgreementStatus.ACTIVE
    agreements.termsInForce(agreement)
    clock.move_to(ends_at)
    assert agreements.standingOf(agreement)["status"] == AgreementStatus.TERMINATED
    with not_in_force(flex, agreement, AgreementStatus.TERMINATED, ends_at, ends_at=ends_at):
        agreements.termsInForce(agreement)


def test_give_reverts_when_notice_was_given(agreements, agreement, actors):
    agreements.give(agreement, Action.TERMINATE, {"from": actors.prosumer})
    with reverts("StatusNotAllowed", agreement, AgreementStatus.ACTIVE, Action.TERMINATE, unchanged=agreements):
        agreements.give(agreement, Action.TERMINATE, {"from": actors.aggregator})


def test_give_keeps_the_suspension_when_notice_is_given(flex, agreements, agreement, actors):
    agreements.give(agreement, Action.SUSPEND, {"from": actors.prosumer})
    agreements.give(agreement, Action.TERMINATE, {"from": actors.aggregator})
    assert agreements.standingOf(agreement)["status"] == AgreementStatus.SUSPENDED
    ends_at = agreements.standingOf(agreement)["endsAt"]
    tx = agreements.give(agreement, Action.RESUME, {"from": actors.prosumer})
    assert event(tx, "AgreementStatusChanged")["endsAt"] == ends_at


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.TERMINATE])
def test_give_works_when_paused_and_party_is_suspended_as_participant(flex, agreements, agreement, actors, action):
    fx.suspend(flex, actors.prosumer)
    agreements.pause({"from": actors.guardian})
    agreements.give(agreement, action, {"from": actors.prosumer})


def test_giveBySignature_works_when_an_outsider_relays(flex, agreements, agreement, actors):
    signature = fx.sign_notice(flex, agreement, Action.SUSPEND, actors.prosumer)
    tx = agreements.giveBySignature(
        agreement, Action.SUSPEND, actors.prosumer, system.FAR_FUTURE, signature, {"from": actors.outsider}
    )
    assert event(tx, "AgreementStatusChanged")["by"] == actors.prosumer
    assert agreements.noticeNonceOf(actors.prosumer) == 1


def test_giveBySignature_decides_by_the_second_when_signature_expires(flex, agreements, agreement, actors):
    deadline = flex.now + 100
    signature = fx.sign_notice(flex, agreement, Action.SUSPEND, actors.prosumer, deadline=deadline)
    arguments = (agreement, Action.SUSPEND, actors.prosumer, deadline, signature, {"from": actors.outsider})
    clock.at(deadline + 1)
    with reverts("SignatureExpired", deadline, deadline + 1, unchanged=agreements):
        agreements.giveBySignature(*arguments)


def test_giveBySignature_works_in_the_last_second(flex, agreements, agreement, actors):
    deadline = flex.now + 100
    signature = fx.sign_notice(flex, agreement, Action.SUSPEND, actors.prosumer, deadline=deadline)
    clock.at(deadline)
    agreements.giveBySignature(
        agreement, Action.SUSPEND, actors.prosumer, deadline, signature, {"from": actors.outsider}
    )


def test_giveBySignature_reverts_when_used_before(flex, agreements, agreement, actors):
    signature = fx.sign_notice(flex, agreement, Action.SUSPEND, actors.prosumer)
    arguments = (
        agreement,
        Action.SUSPEND,
        actors.prosumer,
        system.FAR_FUTURE,
        signature,
        {"from": actors.outsider},
    )
    agreements.giveBySignature(*arguments)
    agreements.give(agreement, Action.RESUME, {"from": actors.prosumer})
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.giveBySignature(*arguments)


@pytest.mark.parametrize("fault", ["action", "agreement", "signer", "deadline"])
def test_giveBySignature_reverts_when_something_else_was_signed(flex, agreements, agreement, actors, fault):
    other = fx.make_terms(
        flex,
        connection_id=fx.OTHER_CONNECTION,
        prosumer=actors.other_prosumer.address,
    )
    assert fx.register(flex, other, prosumer=actors.other_prosumer) == 2
    signature = fx.sign_notice(
        flex,
        2 if fault == "agreement" else agreement,
        Action.RESUME if fault == "action" else Action.TERMINATE,
        actors.outsider if fault == "signer" else actors.prosumer,
        party=actors.prosumer,
        deadline=flex.now + fx.HOUR,
    )
    deadline = flex.now + (2 if fault == "deadline" else 1) * fx.HOUR
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.giveBySignature(
            agreement, Action.TERMINATE, actors.prosumer, deadline, signature, {"from": actors.outsider}
        )


def test_giveBySignature_reverts_when_signer_is_no_party(flex, agreements, agreement, actors):
    signature = fx.sign_notice(flex, agreement, Action.TERMINATE, actors.outsider)
    with reverts("NotParty", agreement, actors.outsider, unchanged=agreements):
        agreements.giveBySignature(
            agreement,
            Action.TERMINATE,
            actors.outsider,
            system.FAR_FUTURE,
            signature,
            {"from": actors.outsider},
        )
