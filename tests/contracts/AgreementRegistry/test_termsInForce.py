"""
termsInForce
├── unknown → reverts AgreementUnknown
├── before validFrom, from validUntil, to the second → reverts NotInForce
├── suspended, terminated → test_give
├── a party not in good standing, at once → reverts MissingRole; reinstated → in force again
└── else → the terms
"""

import brownie
import pytest

from offchain.chain.agreements import AgreementStatus
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.reverts import error_text


def test_termsInForce_reverts_when_agreement_is_unknown(agreements):
    with brownie.reverts("AgreementUnknown: 1"):
        agreements.termsInForce(1)


def test_termsInForce_holds_within_the_validity_to_the_second(flex, agreements):
    terms = fx.make_terms(flex, valid_from=flex.now + 100, valid_until=flex.now + 200)
    fx.register(flex, terms)
    for now, status in ((100 - 1, AgreementStatus.ACTIVE), (200, AgreementStatus.TERMINATED)):
        if now == 200:
            for inside in (100, 199):
                clock.move_to(flex.now + inside)
                assert fx.terms_of(agreements.termsInForce(1)) == terms
        clock.move_to(flex.now + now)
        with brownie.reverts(error_text("NotInForce", 1, status, terms.valid_from, terms.valid_until, flex.now + now)):
            agreements.termsInForce(1)


@pytest.mark.parametrize(
    ("party", "role"), [("prosumer", system.Role.PROSUMER), ("aggregator", system.Role.AGGREGATOR)]
)
def test_termsInForce_reverts_at_once_when_a_party_is_suspended(flex, agreements, participants, actors, party, role):
    account = getattr(actors, party)
    fx.register(flex)
    fx.suspend(flex, account)
    with brownie.reverts(error_text("MissingRole", account, role, system.Status.SUSPENDED)):
        agreements.termsInForce(1)
    participants.setStatus(account, system.Status.ACTIVE, b"\x02" * 32, {"from": actors.registrar})
    assert fx.terms_of(agreements.termsInForce(1)) == fx.make_terms(flex)


def test_termsInForce_of_two_connections_do_not_touch(flex, agreements, actors):
    fx.register(flex)
    other = fx.make_terms(
        flex,
        connection_id=fx.OTHER_CONNECTION,
        prosumer=actors.other_prosumer.address,
        aggregator=flex.other_aggregator.address,
    )
    fx.register(flex, other, prosumer=actors.other_prosumer, aggregator=flex.other_aggregator)
    assert fx.terms_of(agreements.termsInForce(1)) == fx.make_terms(flex)
    assert fx.terms_of(agreements.termsInForce(2)) == other
    assert agreements.bondLockId(1) != agreements.bondLockId(2)
