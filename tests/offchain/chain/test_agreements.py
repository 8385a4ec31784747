"""Terms as they are signed; that the contract agrees is shown in ``tests/contracts/AgreementRegistry``."""

from dataclasses import replace

import pytest

from offchain.chain.agreements import (
    Action,
    Terms,
    agreement_digest,
    availability_digest,
    isp_bits,
    method_id,
    notice_digest,
)
from offchain.chain.signatures import AGREEMENT, agreements_domain
from offchain.domain.errors import DomainError

DOMAIN = agreements_domain(1337, "0x" + "11" * 20)
TERMS = Terms(
    connection_id=b"\x01" * 32,
    prosumer="0x" + "22" * 20,
    aggregator="0x" + "33" * 20,
    baseline_method=method_id("mid-4-of-6", "1"),
    working_day_isps=isp_bits(range(68, 84)),
    weekend_isps=0,
    max_up_w=4_000,
    max_down_w=2_000,
    reward_rate=200_000,
    penalty_rate=300_000,
    tolerance_bps=1_000,
    multiplier_bps=10_000,
    notice_seconds=900,
    termination_notice_seconds=86_400,
    valid_from=1_800_000_000,
    valid_until=1_900_000_000,
    weekly_activations=5,
    standby=True,
    missing_is_shortfall=False,
    bond=5_000_000,
)


def test_as_message_has_the_fields_of_the_signed_type():
    _, _, members = AGREEMENT.encoding.partition("Terms(bytes32")
    names = [member.split(" ")[-1] for member in f"bytes32{members}".rstrip(")").split(",")]
    assert list(TERMS.as_message()) == names


def test_terms_survive_the_way_through_a_tuple():
    assert Terms(*TERMS.as_tuple()) == TERMS


@pytest.mark.parametrize("field", list(Terms.__slots__))
def test_agreement_digest_differs_when_any_field_differs(field):
    value = getattr(TERMS, field)
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, int):
        other = value + 1
    else:
        other = b"\x09" * 32 if isinstance(value, bytes) else "0x" + "44" * 20
    changed = replace(TERMS, **{field: other})
    assert agreement_digest(DOMAIN, changed, nonce=0, deadline=9) != agreement_digest(
        DOMAIN, TERMS, nonce=0, deadline=9
    )


def test_digests_differ_when_nonce_deadline_action_or_chain_differ():
    other_chain = agreements_domain(1, DOMAIN.verifying_contract)
    digests = {
        agreement_digest(DOMAIN, TERMS, nonce=0, deadline=9),
        agreement_digest(DOMAIN, TERMS, nonce=1, deadline=9),
        agreement_digest(DOMAIN, TERMS, nonce=0, deadline=10),
        agreement_digest(other_chain, TERMS, nonce=0, deadline=9),
        notice_digest(DOMAIN, 1, Action.SUSPEND, nonce=0, deadline=9),
        notice_digest(DOMAIN, 1, Action.RESUME, nonce=0, deadline=9),
        availability_digest(DOMAIN, 1, 96, 1, nonce=0, deadline=9),
        availability_digest(DOMAIN, 1, 96, 3, nonce=0, deadline=9),
    }
    assert len(digests) == 8


@pytest.mark.parametrize("position", [-1, 100])
def test_isp_bits_refuses_when_position_is_outside_a_day(position):
    with pytest.raises(DomainError, match=str(position)):
        isp_bits([0, position])


def test_isp_bits_sets_one_bit_per_position():
    assert isp_bits([0, 2, 99]) == 1 | 4 | 1 << 99
