"""What prosumer and aggregator sign: agreements, notices, declared availability.

Twin of ``AgreementRegistry``: :class:`Terms` has the fields of ``IAgreementRegistry.Terms`` in the same
order, the digests are those that the contract recovers signers from.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from enum import IntEnum

from eth_hash.auto import keccak

from offchain.chain.signatures import AGREEMENT, AVAILABILITY, NOTICE, SigningDomain
from offchain.domain.errors import DomainError

MAX_ISPS = 100
"""Positions of the longest market day."""


class Action(IntEnum):
    """``IAgreementRegistry.Action``: what a party gives notice of."""

    SUSPEND = 0
    RESUME = 1
    TERMINATE = 2


class AgreementStatus(IntEnum):
    """``IAgreementRegistry.Status``."""

    NONE = 0
    ACTIVE = 1
    SUSPENDED = 2
    TERMINATED = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of an agreement; ``Terms(*values)`` reads what the contract returns.

    Parameters
    ----------
    connection_id : bytes
        Salted commitment to the point-of-delivery code, 32 bytes.
    prosumer, aggregator : str
        Addresses of the parties.
    baseline_method : bytes
        :func:`method_id` of the baseline method.
    working_day_isps, weekend_isps : int
        Bit p: available at position p of a market day, Monday to Friday and on the other days; see
        :func:`isp_bits`.
    max_up_w, max_down_w : int
        Largest ordered power per direction [W].
    reward_rate, penalty_rate : int
        For energy delivered, for shortfall beyond the tolerance [uToken/kWh].
    tolerance_bps : int
        Share of the ordered energy of an ISP that may be missing or in excess [1/10,000].
    multiplier_bps : int
        Multiplies reward and penalty [1/10,000].
    notice_seconds, termination_notice_seconds : int
        Before the first ordered ISP; before a termination takes effect [s].
    valid_from, valid_until : int
        Validity, half open [Unix s].
    weekly_activations : int
        Most orders per week, Monday to Sunday.
    standby : bool
        Takes part in standby reassignment.
    missing_is_shortfall : bool
        A missing reading counts as a shortfall.
    bond : int
        Locked from the prosumer [uToken].
    """

    connection_id: bytes
    prosumer: str
    aggregator: str
    baseline_method: bytes
    working_day_isps: int
    weekend_isps: int
    max_up_w: int
    max_down_w: int
    reward_rate: int
    penalty_rate: int
    tolerance_bps: int
    multiplier_bps: int
    notice_seconds: int
    termination_notice_seconds: int
    valid_from: int
    valid_until: int
    weekly_activations: int
    standby: bool
    missing_is_shortfall: bool
    bond: int

    def as_tuple(self) -> tuple:
        """Fields in the order of the contract's struct."""
        return astuple(self)

    def as_message(self) -> dict:
        """Fields by the names of the signed EIP-712 type."""
        return {_camel_case(field.name): getattr(self, field.name) for field in fields(self)}


def method_id(name: str, version: str) -> bytes:
    """Identifier of a method and its version, as agreements and commitments carry it."""
    return keccak(f"{name}@{version}".encode())


def isp_bits(positions: Iterable[int]) -> int:
    """Availability word: bit p is set for every position p of a market day (0 = local midnight)."""
    bits = 0
    for position in positions:
        if not 0 <= position < MAX_ISPS:
            raise DomainError(f"position {position} outside 0..{MAX_ISPS - 1} of a market day")
        bits |= 1 << position
    return bits


def agreement_digest(domain: SigningDomain, terms: Terms, *, nonce: int, deadline: int) -> bytes:
    """What both parties sign to register or amend an agreement.

    Parameters
    ----------
    domain : SigningDomain
        :func:`offchain.chain.signatures.agreements_domain`.
    nonce : int
        ``nonceOf(connectionId)``.
    deadline : int
        Last second in which the signatures count [Unix s].
    """
    message = {"terms": terms.as_message(), "nonce": nonce, "deadline": deadline}
    return AGREEMENT.digest(domain, message)


def notice_digest(domain: SigningDomain, agreement_id: int, action: Action, *, nonce: int, deadline: int) -> bytes:
    """What a party signs to suspend, resume or terminate; ``nonce`` is ``noticeNonceOf`` of the party."""
    message = {"agreementId": agreement_id, "action": action, "nonce": nonce, "deadline": deadline}
    return NOTICE.digest(domain, message)


def availability_digest(
    domain: SigningDomain, agreement_id: int, day_first_isp: int, isps: int, *, nonce: int, deadline: int
) -> bytes:
    """What a prosumer signs to narrow its availability on a market day; ``nonce``: ``noticeNonceOf``."""
    message = {
        "agreementId": agreement_id,
        "dayFirstIsp": day_first_isp,
        "isps": isps,
        "nonce": nonce,
        "deadline": deadline,
    }
    return AVAILABILITY.digest(domain, message)


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
