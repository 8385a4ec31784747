"""
declareAvailability, declareAvailabilityBySignature
├── unknown → reverts AgreementUnknown
├── not the prosumer (the aggregator either) → reverts NotParty
├── by signature: expired, other signer, other day or positions, used before → reverts
└── else, also paused → the latest declaration of the day counts, emits AvailabilityDeclared
    ├── positions outside the agreed windows → stay out
    └── none at all → nothing available
"""

import pytest

from offchain.chain.agreements import isp_bits
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts

NARROWED = isp_bits([67, 68, 70])


@pytest.fixture
def agreement(flex):
    return fx.register(flex)


def test_declareAvailability_reverts_when_agreement_is_unknown(flex, agreements, actors):
    with reverts("AgreementUnknown", 1, unchanged=agreements):
        agreements.declareAvailability(1, flex.day, NARROWED, {"from": actors.prosumer})
    with reverts("AgreementUnknown", 1, unchanged=agreements):
        agreements.declareAvailabilityBySignature(
            1, flex.day, NARROWED, system.FAR_FUTURE, b"", {"from": actors.prosumer}
        )


@pytest.mark.parametrize("caller", ["aggregator", "other_prosumer", "outsider"])
def test_declareAvailability_reverts_when_caller_is_not_the_prosumer(flex, agreements, agreement, actors, caller):
    account = getattr(actors, caller)
    with reverts("NotParty", agreement, account, unchanged=agreements):
        agreements.declareAvailability(agreement, flex.day, NARROWED, {"from": account})


def test_declareAvailability_narrows_one_day(flex, agreements, agreement, actors):
    agreements.pause({"from": actors.guardian})
    tx = agreements.declareAvailability(agreement, flex.day, NARROWED, {"from": actors.prosumer})
    assert event(tx, "AvailabilityDeclared") == {
        "agreementId": agreement,
        "dayFirstIsp": flex.day,
        "isps": NARROWED,
    }
    assert agreements.availableIsps(agreement, flex.day) == isp_bits([68, 70])
    assert agreements.availableIsps(agreement, flex.day + 96) == isp_bits(range(68, 84))


def test_declareAvailability_counts_the_latest_when_declared_again(flex, agreements, agreement, actors):
    for isps, expected in ((0, 0), (2**128 - 1, isp_bits(range(68, 84))), (1 << 69, 1 << 69)):
        agreements.declareAvailability(agreement, flex.day, isps, {"from": actors.prosumer})
        assert agreements.availableIsps(agreement, flex.day) == expected


def test_declareAvailabilityBySignature_narrows_when_an_outsider_relays(flex, agreements, agreement, actors):
    deadline = flex.now + 60
    signature = fx.sign_availability(flex, agreement, flex.day, NARROWED, actors.prosumer, deadline=deadline)
    clock.at(deadline)
    tx = agreements.declareAvailabilityBySignature(
        agreement, flex.day, NARROWED, deadline, signature, {"from": actors.outsider}
    )
    assert event(tx, "AvailabilityDeclared")["isps"] == NARROWED
    assert agreements.noticeNonceOf(actors.prosumer) == 1
    with reverts("SignatureExpired", deadline, deadline + 1, unchanged=agreements):
        clock.at(deadline + 1)
        agreements.declareAvailabilityBySignature(
            agreement, flex.day, NARROWED, deadline, signature, {"from": actors.outsider}
        )


def test_declareAvailabilityBySignature_reverts_when_used_before(flex, agreements, agreement, actors):
    signature = fx.sign_availability(flex, agreement, flex.day, NARROWED, actors.prosumer)
    arguments = (agreement, flex.day, NARROWED, system.FAR_FUTURE, signature, {"from": actors.outsider})
    agreements.declareAvailabilityBySignature(*arguments)
    agreements.declareAvailability(agreement, flex.day, 0, {"from": actors.prosumer})
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.declareAvailabilityBySignature(*arguments)


@pytest.mark.parametrize("fault", ["day", "isps", "signer"])
def test_declareAvailabilityBySignature_reverts_when_something_else_was_signed(
    flex, agreements, agreement, actors, fault
):
    signature = fx.sign_availability(
        flex,
        agreement,
        flex.day + (96 if fault == "day" else 0),
        NARROWED + (1 if fault == "isps" else 0),
        actors.aggregator if fault == "signer" else actors.prosumer,
    )
    with reverts("InvalidSignature", actors.prosumer, unchanged=agreements):
        agreements.declareAvailabilityBySignature(
            agreement, flex.day, NARROWED, system.FAR_FUTURE, signature, {"from": actors.outsider}
        )
