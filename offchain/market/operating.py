"""Steps of a session on chain, many bundles at a time; anyone can take them but for signing and opening."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.signatures import BUNDLE, REJECTION, market_domain, sign
from offchain.flexibility.metered_days import ProvenDay, proven_days
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.terms import SessionTerms
from offchain.store import Store
from offchain.store.batches import Batch, BatchKind, BatchStatus, batches_with_status

MAX_TICKS = 2**256 - 1
PRODUCTS_PER_TRANSACTION = 32
BUNDLES_PER_TRANSACTION = 20
"""Of about 150,000 gas each when the book is empty."""


def open_session(suite: Suite, operator: LocalAccount, terms: SessionTerms, first_isp: int) -> int:
    """Open a session; its id."""
    receipt = suite.send(operator, "MarketSessions", "open", (terms.as_tuple(), first_isp))
    return suite.event(receipt, "SessionOpened").args["sessionId"]


def signed_bundle(
    suite: Suite,
    wallet: PrivateKey,
    *,
    session_id: int,
    connection_id: bytes,
    bundle: bytes,
    deadline: int,
    previous: bytes = b"",
    sequence: int = 0,
) -> dict[str, Any]:
    """``IMarketRelay.SignedBundle``: what a trader signs and a relayer brings.

    Parameters
    ----------
    bundle : bytes
        Packed orders; empty cancels.
    previous, sequence : bytes, int
        The bundle that it replaces, and its sequence number.
    """
    domain = market_domain(suite.chain.chain_id, suite.address("MarketRelay"))
    message = {
        "sessionId": session_id,
        "connectionId": connection_id,
        "sequence": sequence,
        "bundleHash": keccak(bundle),
        "deadline": deadline,
    }
    return {
        "connectionId": connection_id,
        "previous": previous,
        "bundle": bundle,
        "deadline": deadline,
        "signature": sign(BUNDLE.digest(domain, message), wallet),
    }


def relay_bundles(
    suite: Suite, relayer: LocalAccount, session_id: int, bundles: Sequence[Mapping[str, Any]]
) -> list[Receipt]:
    """Bring signed bundles to a session, several in a transaction."""
    parts = [bundles[i : i + BUNDLES_PER_TRANSACTION] for i in range(0, len(bundles), BUNDLES_PER_TRANSACTION)]
    # One after the other: each changes books that the next one's gas depends on.
    return [suite.send(relayer, "MarketRelay", "submitSigned", (session_id, part)) for part in parts]


def clear_session(suite: Suite, sender: LocalAccount, session: SessionRecord) -> list[Receipt]:
    """Clear all products, provisionally or finally as the time is."""
    last = session.terms.product_count - 1
    ranges = [
        (first, min(first + PRODUCTS_PER_TRANSACTION - 1, last))
        for first in range(0, last + 1, PRODUCTS_PER_TRANSACTION)
    ]
    return [suite.send(sender, "EnergyMarket", "clear", (session.id, *span, MAX_TICKS)) for span in ranges]


def reject_signed(
    suite: Suite, relayer: LocalAccount, wallet: PrivateKey, session_id: int, record: BundleRecord, positions: int
) -> Receipt:
    """Bring a trader's rejection of provisional matches; bit i of ``positions`` stands for order i."""
    domain = market_domain(suite.chain.chain_id, suite.address("MarketRelay"))
    message = {
        "sessionId": session_id,
        "connectionId": record.connection_id,
        "sequence": record.sequence,
        "positions": positions,
    }
    signature = sign(REJECTION.digest(domain, message), wallet)
    arguments = (session_id, record.connection_id, record.bundle, positions, signature)
    return suite.send(relayer, "MarketRelay", "rejectSigned", arguments)


def finalise_session(suite: Suite, sender: LocalAccount, session_id: int) -> Receipt:
    """End the auction after the final clearing."""
    return suite.send(sender, "EnergyMarket", "finalise", (session_id,))


def claim_bundles(
    suite: Suite, sender: LocalAccount, session_id: int, records: Iterable[BundleRecord]
) -> list[Receipt]:
    """Return to traders the escrow that their final match does not need."""
    return _send_for_all(suite, sender, "EnergyMarket", "claim", session_id, [(r, ()) for r in records])


def issue_certificates(
    suite: Suite, sender: LocalAccount, session_id: int, records: Iterable[BundleRecord]
) -> list[Receipt]:
    """Issue the certificates of bundles that bought something."""
    return _send_for_all(suite, sender, "EnergyCertificates", "issue", session_id, [(r, ()) for r in records])


def settle_bundles(
    suite: Suite,
    sender: LocalAccount,
    session_id: int,
    records: Iterable[BundleRecord],
    metered: Mapping[bytes, Sequence[ProvenDay]],
) -> tuple[list[Receipt], list[BundleRecord]]:
    """Settle every bundle whose connection has a metered day.

    Parameters
    ----------
    metered : mapping
        Metered days that cover the session with their proofs, in order of time, by connection id.

    Returns
    -------
    receipts, left : list, list
        Left are bundles without a metered day: they wait for :func:`settle_missing_bundles`.
    """
    records = list(records)
    ready = [
        (r, ([proven.as_evidence() for proven in metered[r.connection_id]],))
        for r in records
        if r.connection_id in metered
    ]
    left = [r for r in records if r.connection_id not in metered]
    return _send_for_all(suite, sender, "MarketSettlement", "settle", session_id, ready), left


def settle_missing_bundles(
    suite: Suite, sender: LocalAccount, session_id: int, records: Iterable[BundleRecord]
) -> list[Receipt]:
    """Settle bundles without readings, after the deadline of the session."""
    return _send_for_all(suite, sender, "MarketSettlement", "settleMissing", session_id, [(r, ()) for r in records])


def close_session(suite: Suite, sender: LocalAccount, session_id: int) -> Receipt:
    """Pay what is left of the pot to the operator."""
    return suite.send(sender, "EnergyMarket", "closeSession", (session_id,))


def _send_for_all(
    suite: Suite,
    sender: LocalAccount,
    contract: str,
    function: str,
    session_id: int,
    calls: Sequence[tuple[BundleRecord, tuple]],
) -> list[Receipt]:
    prepared = [
        suite.prepare(contract, function, (session_id, record.connection_id, record.bundle, *rest))
        for record, rest in calls
    ]
    return suite.chain.send_all([(sender, call) for call in prepared])


def metered_days(suite: Suite, store: Store, session: SessionRecord) -> dict[bytes, list[ProvenDay]]:
    """Metered days of the connections of a session, from the confirmed day batches of a store, where they cover it.

    Returns
    -------
    dict
        Days in order of time by connection id; connections that the store does not cover are left out.
    """
    end_isp = session.first_isp + session.terms.isps_per_period * session.terms.period_count
    with store.read() as connection:
        confirmed = batches_with_status(connection, BatchKind.DAY, BatchStatus.CONFIRMED)
    latest: dict[tuple[str, int], Batch] = {}
    for batch in confirmed:
        key = batch.operator, batch.first_isp
        overlaps = batch.first_isp < end_isp and session.first_isp < batch.first_isp + batch.isp_count
        if overlaps and (key not in latest or latest[key].version < batch.version):
            latest[key] = batch
    days = [day for batch in latest.values() for day in proven_days(store, batch.id).values()]
    meters = list(dict.fromkeys(proven.day.meter_id for proven in days))
    owners = suite.call_all([("MeterRegistry", "meter", (meter_id,)) for meter_id in meters])
    connection_of = {meter_id: meter["connectionId"] for meter_id, meter in zip(meters, owners, strict=True)}
    found: dict[bytes, list[ProvenDay]] = {}
    for proven in sorted(days, key=lambda proven: proven.day.first_isp):
        found.setdefault(connection_of[proven.day.meter_id], []).append(proven)
    return {
        connection_id: proven
        for connection_id, proven in found.items()
        if sum(p.day.isp_count for p in proven) >= end_isp - session.first_isp
    }


def advance_session(suite: Suite, sender: LocalAccount, session: SessionRecord, store: Store | None) -> list[str]:
    """Take every step that the time allows; what was done, in words. Nothing when there is nothing to do.

    Parameters
    ----------
    session : SessionRecord
        As the chain tells it now.
    store : Store or None
        Metered days for the settlement; without one, bundles are settled only when readings are overdue.
    """
    now, times, done = suite.chain.block()["timestamp"], session.times, []
    if session.rates is None:
        cleared = session.results or now > times.accept_by
        if now > times.gate_closure and (not cleared or now > times.accept_by):
            receipts = clear_session(suite, sender, session)
            count = sum(len(suite.events(r)) for r in receipts)
            done.append(f"cleared {count} product{'' if count == 1 else 's'}")
        if now > times.accept_by:
            finalise_session(suite, sender, session.id)
            done.append("finalised the auction")
        return done
    unclaimed = [record for record in session.standing if record.released is None and record.outcome is None]
    if unclaimed:
        claim_bundles(suite, sender, session.id, unclaimed)
        done.append(f"returned spare escrow of {len(unclaimed)} bundles")
    open_bundles = [record for record in session.standing if record.outcome is None]
    if open_bundles and now >= times.delivery_end and store is not None:
        receipts, open_bundles = settle_bundles(
            suite, sender, session.id, open_bundles, metered_days(suite, store, session)
        )
        done += [f"settled {len(receipts)} bundles by meter"] if receipts else []
    if open_bundles and now >= times.settle_by:
        settle_missing_bundles(suite, sender, session.id, open_bundles)
        done.append(f"settled {len(open_bundles)} bundles without readings")
        open_bundles = []
    if not open_bundles and session.residual is None and now >= times.delivery_end:
        close_session(suite, sender, session.id)
        done.append("closed the session")
    return done
