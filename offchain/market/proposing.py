"""A whole session settled in one batch (``ISettlementProposer``): draw, proposal, check, challenge, claim.

Outcomes are computed by the twin of the settlement from events and the readings of a store. Whoever checks a proposal
computes them again and challenges the first that differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from eth_abi import encode
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.events import Event
from offchain.domain.curves import unpack_readings
from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import ProvenDay
from offchain.market.batches import BATCH_DOCUMENT, OutcomeBatch, ProposedOutcome
from offchain.market.netting import MeteredWindow, net
from offchain.market.operating import metered_days
from offchain.market.positions import Window, session_window
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.settlement import outcome
from offchain.market.terms import MAX_DELIVERY_ISPS
from offchain.store import Store
from offchain.store.documents import Document, put_document

CONTRACT = "SettlementProposer"


class Computed(NamedTuple):
    """Outcomes of a session by connection, with the bundles of those that could not be computed yet."""

    outcomes: dict[bytes, ProposedOutcome]
    left: list[BundleRecord]


class Published(NamedTuple):
    """The latest proposal of a session, as its event tells it."""

    number: int
    proposer: str
    root: bytes
    data_hash: bytes


# -------------------------------------------------------------------------------- draw


def stake(suite: Suite, staker: LocalAccount, amount: int) -> Receipt:
    """Add to a stake, out of the free balance of the clearing house [uToken]."""
    return suite.send(staker, CONTRACT, "stake", (amount,))


def unstake(suite: Suite, staker: LocalAccount, amount: int, events: Iterable[Event]) -> list[int]:
    """Take stake back [uToken], after concluding the proposals that no longer need it; the sessions of these."""
    batches = [event.args for event in events if event.name == "BatchProposed"]
    proposed = sorted({args["sessionId"] for args in batches if args["proposer"] == staker.address})
    queries = [(CONTRACT, "proposalOf", (session_id,)) for session_id in proposed]
    clock, *proposals = suite.call_all([(CONTRACT, "clock", ()), *queries])
    over = [
        session_id
        for session_id, proposal in zip(proposed, proposals, strict=True)
        if proposal["proposer"] == staker.address
        and not proposal["concluded"]
        and not proposal["openChallenges"]
        and proposal["challengeUntil"] <= clock
    ]
    for session_id in over:
        suite.send(staker, CONTRACT, "conclude", (session_id,))
    suite.send(staker, CONTRACT, "unstake", (amount,))
    return over


def draw_secret(suite: Suite, staker: LocalAccount, session_id: int) -> bytes:
    """Secret of a staker for the draw of a session; made from its key, so that nothing has to be kept."""
    words = [suite.chain.chain_id, suite.address(CONTRACT), session_id, bytes(staker.key)]
    return keccak(encode(["uint256", "address", "uint64", "bytes32"], words))


def take_part(suite: Suite, staker: LocalAccount, session: SessionRecord, events: Iterable[Event]) -> str | None:
    """Commit to a secret while orders are placed, reveal it until delivery; what was done, ``None`` when nothing."""
    now, times = suite.chain.block()["timestamp"], session.times
    done = {
        event.name
        for event in events
        if event.name in ("SecretCommitted", "SecretRevealed")
        and (event.args["sessionId"], event.args["staker"]) == (session.id, staker.address)
    }
    secret = draw_secret(suite, staker, session.id)
    if now <= times.gate_closure and not done:
        words = [session.id, staker.address, secret]
        suite.send(staker, CONTRACT, "commit", (session.id, keccak(encode(["uint64", "address", "bytes32"], words))))
        return "committed to a secret"
    if times.gate_closure < now < times.delivery_start and done == {"SecretCommitted"}:
        suite.send(staker, CONTRACT, "reveal", (session.id, staker.address, secret))
        return "revealed the secret"
    return None


# -------------------------------------------------------------------------------- outcomes


def compute_outcomes(
    sessions: Mapping[int, SessionRecord],
    session_id: int,
    areas: Mapping[bytes, bytes],
    days: Mapping[bytes, Sequence[ProvenDay]],
) -> Computed:
    """Outcomes of all bundles of a session that are not settled.

    Parameters
    ----------
    sessions : mapping
        All sessions by id.
    areas : mapping
        Congestion point by connection.
    days : mapping
        Metered days in order of time by connection; a bundle whose window they do not cover is left.
    """
    session, outcomes, left = sessions[session_id], {}, []
    for record in session.standing:
        if record.outcome is not None:
            continue
        connection_id = record.connection_id
        window = session_window(sessions, session, connection_id, areas[connection_id])
        found = outcome_in(window, session, record, days.get(connection_id, ()))
        if found is None:
            left.append(record)
        else:
            outcomes[connection_id] = found
    return Computed(outcomes, left)


def outcome_in(
    window: Window, session: SessionRecord, record: BundleRecord, days: Sequence[ProvenDay]
) -> ProposedOutcome | None:
    """Outcome of a bundle by the metered days of its window; ``None`` when they do not cover it, or when an auction has
    not ended."""
    metered = _metered(window, days)
    if metered is None or not window.is_final:
        return None
    netted = net([held.as_position() for held in window.held], metered).sessions[session.id]
    found = outcome(session.terms, session.rates, session.fills(record), netted)
    return ProposedOutcome(record.connection_id, record.bundle, found, tuple(netted.injected_wh))


def session_outcomes(suite: Suite, store: Store, sessions: Mapping[int, SessionRecord], session_id: int) -> Computed:
    """Outcomes of a session by the readings of a store."""
    connections = [record.connection_id for record in sessions[session_id].standing]
    areas = areas_of(suite, connections)
    return compute_outcomes(sessions, session_id, areas, days_around(suite, store, sessions[session_id]))


def evidence(
    suite: Suite, store: Store, sessions: Mapping[int, SessionRecord], session_id: int, connection_id: bytes
) -> tuple[Window, list[ProvenDay]]:
    """What a connection holds in the window of a session, and its metered days there."""
    session = sessions[session_id]
    area = areas_of(suite, [connection_id])[connection_id]
    window = session_window(sessions, session, connection_id, area)
    days = days_around(suite, store, session).get(connection_id, [])
    return window, [proven for proven in days if _meets(proven, window)]


def areas_of(suite: Suite, connections: Sequence[bytes]) -> dict[bytes, bytes]:
    """Congestion point by connection."""
    found = suite.call_all([("GridRegistry", "connection", (connection_id,)) for connection_id in connections])
    return {c: connection["congestionPointId"] for c, connection in zip(connections, found, strict=True)}


def days_around(suite: Suite, store: Store, session: SessionRecord) -> dict[bytes, list[ProvenDay]]:
    """Metered days of every window that a bundle of a session can have, by connection."""
    span = session.span
    return metered_days(suite, store, span.first_isp - MAX_DELIVERY_ISPS, span.end_isp + MAX_DELIVERY_ISPS)


def differences(batch: OutcomeBatch, session: SessionRecord, computed: Computed) -> list[bytes]:
    """Connections whose proposed outcome is false: for another bundle than stands, or not what was computed.

    Those that cannot be computed for want of readings are given the benefit of the doubt.
    """
    found = []
    for connection_id, proposed in batch.outcomes.items():
        record, own = session.bundles.get(connection_id), computed.outcomes.get(connection_id)
        stands = record is not None and record.bundle == proposed.bundle
        if not stands or (own is not None and own != proposed):
            found.append(connection_id)
    return found


# -------------------------------------------------------------------------------- proposals


def propose(suite: Suite, store: Store, proposer: LocalAccount, batch: OutcomeBatch) -> Receipt:
    """Keep the data of a batch and publish its root; only whose turn it is."""
    made_at = suite.chain.block()["timestamp"]
    with store.write() as connection:
        put_document(connection, Document(BATCH_DOCUMENT, batch.data_hash, batch.content, made_at))
    arguments = (batch.session_id, batch.root, len(batch), batch.data_hash)
    return suite.send(proposer, CONTRACT, "propose", arguments)


def published(events: Iterable[Event], session_id: int) -> Published:
    """Latest proposal of a session; :class:`DomainError` when there is none."""
    found = [e.args for e in events if e.name == "BatchProposed" and e.args["sessionId"] == session_id]
    if not found:
        raise DomainError(f"no batch was proposed for session {session_id}", hint="`gridpact market propose`")
    latest = found[-1]
    return Published(latest["number"], latest["proposer"], latest["root"], latest["dataHash"])


def require_published(batch: OutcomeBatch, proposal: Published) -> None:
    """Refuse data that are not those behind a proposal."""
    if (batch.data_hash, batch.root) != (proposal.data_hash, proposal.root):
        raise DomainError(
            f"these are not the data of proposal {proposal.number} of session {batch.session_id}",
            hint=f"data hash 0x{proposal.data_hash.hex()} is wanted, 0x{batch.data_hash.hex()} was given",
        )


def challenge(suite: Suite, challenger: LocalAccount, batch: OutcomeBatch, connection_id: bytes) -> int:
    """Question an outcome with a bond; the number of the challenge."""
    proposed = batch.outcomes[connection_id]
    arguments = (batch.session_id, proposed.as_argument(), batch.proof(connection_id))
    receipt = suite.send(challenger, CONTRACT, "challenge", arguments)
    return suite.event(receipt, "OutcomeChallenged").args["challengeId"]


def answer(
    suite: Suite,
    sender: LocalAccount,
    challenge_id: int,
    batch: OutcomeBatch,
    connection_id: bytes,
    window: Window,
    days: Sequence[ProvenDay],
) -> str:
    """Have the contract recompute a challenged outcome from what the connection holds and metered; what came of it."""
    positions = [held.as_argument() for held in window.held]
    meter_days = [proven.as_evidence() for proven in days]
    arguments = (challenge_id, batch.outcomes[connection_id].as_argument(), positions, meter_days)
    names = {event.name for event in suite.events(suite.send(sender, CONTRACT, "answer", arguments))}
    if "ProposalVoided" in names:
        return "proposal void: its readings were anchored again"
    return "fraud proven" if "FraudProven" in names else "challenge rejected"


def expire(suite: Suite, sender: LocalAccount, challenge_id: int) -> str:
    """End a challenge that nobody answered in time, or of a proposal that fell; what came of it."""
    receipt = suite.send(sender, CONTRACT, "expireChallenge", (challenge_id,))
    names = {event.name for event in suite.events(receipt)}
    return "fraud proven" if "FraudProven" in names else "challenge void, the bond is back"


def claim(suite: Suite, sender: LocalAccount, batch: OutcomeBatch, connection_ids: Iterable[bytes]) -> list[Receipt]:
    """Settle bundles by a proposal that stood; anyone may."""
    calls = []
    for connection_id in connection_ids:
        proposed = batch.outcomes[connection_id].as_argument()
        calls.append(suite.prepare(CONTRACT, "claim", (batch.session_id, proposed, batch.proof(connection_id))))
    return suite.chain.send_all([(sender, call) for call in calls])


def _metered(window: Window, days: Sequence[ProvenDay]) -> MeteredWindow | None:
    """Readings of a window; ``None`` when a day of it is not there. After a meter change one of two days has them."""
    readings: list[tuple[int, int] | None] = [None] * (window.end_isp - window.first_isp)
    covered = [False] * len(readings)
    for proven in days:
        first = proven.day.first_isp
        for isp, reading in enumerate(unpack_readings(proven.day.values), start=first):
            if window.first_isp <= isp < window.end_isp:
                covered[isp - window.first_isp] = True
                if reading is not None:
                    readings[isp - window.first_isp] = reading
    return MeteredWindow.of(window.first_isp, readings) if all(covered) else None


def _meets(proven: ProvenDay, window: Window) -> bool:
    day = proven.day
    return day.first_isp < window.end_isp and window.first_isp < day.first_isp + day.isp_count
