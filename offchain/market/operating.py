"""Steps of a session on chain, many bundles at a time; anyone can take them but for signing and opening."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.chain.errors import ContractRevertedError
from offchain.chain.signatures import BUNDLE, REJECTION, market_domain, sign
from offchain.flexibility.metered_days import ProvenDay, proven_days
from offchain.market.positions import Window, session_window
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.schedules import ScheduleRecord
from offchain.market.terms import MAX_DELIVERY_ISPS, SessionTerms
from offchain.store import Store
from offchain.store.batches import Batch, BatchKind, BatchStatus, batches_with_status

MAX_TICKS = 2**256 - 1
PRODUCTS_PER_TRANSACTION = 32
BUNDLES_PER_TRANSACTION = 20
"""Of about 150,000 gas each when the book is empty."""
CLAIMS_PER_TRANSACTION = 100
"""Of about 40,000 gas each."""


def open_session(suite: Suite, operator: LocalAccount, terms: SessionTerms, first_isp: int) -> int:
    """Open a session; its id."""
    receipt = suite.send(operator, "MarketSessions", "open", (terms.as_tuple(), first_isp))
    return suite.event(receipt, "SessionOpened").args["sessionId"]


def register_schedule(
    suite: Suite,
    operator: LocalAccount,
    terms: SessionTerms,
    first_isp: int,
    every_isps: int,
    session_count: int,
    open_lead_seconds: int,
) -> int:
    """Register equal sessions that anybody opens (`ScheduleRecord` says what is what); the id of the schedule."""
    arguments = (terms.as_tuple(), first_isp, every_isps, session_count, open_lead_seconds)
    receipt = suite.send(operator, "MarketSessions", "registerSchedule", arguments)
    return suite.event(receipt, "ScheduleRegistered").args["scheduleId"]


def open_due(
    suite: Suite, sender: LocalAccount, schedule: ScheduleRecord, now: int
) -> tuple[dict[int, int], dict[int, ContractRevertedError]]:
    """Open every session of a schedule that its time allows.

    Returns
    -------
    opened, refused : dict, dict
        Ids of sessions, and errors, by index. A refusal does not end the series: other days may be free. A session that
        somebody else opened meanwhile is in neither.
    """
    opened, refused = {}, {}
    for index in schedule.due(now):
        try:
            receipt = suite.send(sender, "MarketSessions", "openScheduled", (schedule.id, index))
        except ContractRevertedError as error:
            if error.name != "AlreadyOpened":
                refused[index] = error
        else:
            opened[index] = suite.event(receipt, "SessionOpened").args["sessionId"]
    return opened, refused


def cancel_schedule(suite: Suite, operator: LocalAccount, schedule_id: int) -> Receipt:
    """Have no further session of a schedule opened, for good."""
    return suite.send(operator, "MarketSessions", "cancelSchedule", (schedule_id,))


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
    claims = [(record.connection_id, record.bundle) for record in records]
    parts = [claims[i : i + CLAIMS_PER_TRANSACTION] for i in range(0, len(claims), CLAIMS_PER_TRANSACTION)]
    return suite.chain.send_all([(sender, suite.prepare("EnergyMarket", "claimAll", (session_id, p))) for p in parts])


def issue_certificates(
    suite: Suite, sender: LocalAccount, session_id: int, records: Iterable[BundleRecord]
) -> list[Receipt]:
    """Issue the certificates of bundles that bought something."""
    return _send_for_all(suite, sender, "EnergyCertificates", "issue", session_id, records)


def settle_bundles(
    suite: Suite,
    sender: LocalAccount,
    sessions: Mapping[int, SessionRecord],
    session_id: int,
    records: Iterable[BundleRecord],
    metered: Mapping[bytes, Sequence[ProvenDay]],
) -> tuple[list[Receipt], list[BundleRecord]]:
    """Settle every bundle whose window is over and metered, netted with what its connection holds in other sessions.

    Parameters
    ----------
    sessions : mapping
        All sessions by id.
    metered : mapping
        Metered days with their proofs, in order of time, by connection id.

    Returns
    -------
    receipts, left : list, list
        Left are bundles without readings, which wait for :func:`settle_missing_bundles`, and those whose window is not
        over or touches an auction that has not ended.
    """
    now = suite.chain.block()["timestamp"]
    ready, left = [], []
    for record, window in _windows(suite, sessions, session_id, records):
        days = covering_days(metered.get(record.connection_id, ()), window)
        if days and window.is_final and now >= window.end_seconds:
            ready.append((record, window, ([proven.as_evidence() for proven in days],)))
        else:
            left.append(record)
    return _settle(suite, sender, "settle", session_id, ready), left


def settle_missing_bundles(
    suite: Suite,
    sender: LocalAccount,
    sessions: Mapping[int, SessionRecord],
    session_id: int,
    records: Iterable[BundleRecord],
) -> tuple[list[Receipt], list[BundleRecord]]:
    """Settle bundles without readings, after the deadline of the session.

    Returns
    -------
    receipts, left : list, list
        Left are bundles whose window is not over or touches an auction that has not ended.
    """
    now = suite.chain.block()["timestamp"]
    ready, left = [], []
    for record, window in _windows(suite, sessions, session_id, records):
        if window.is_final and now >= window.end_seconds:
            ready.append((record, window, ()))
        else:
            left.append(record)
    return _settle(suite, sender, "settleMissing", session_id, ready), left


def _windows(
    suite: Suite, sessions: Mapping[int, SessionRecord], session_id: int, records: Iterable[BundleRecord]
) -> list[tuple[BundleRecord, Window]]:
    """Bundles of a session, each with the window that it is netted in."""
    records = list(records)
    connections = suite.call_all([("GridRegistry", "connection", (r.connection_id,)) for r in records])
    areas = [connection["congestionPointId"] for connection in connections]
    return [
        (record, session_window(sessions, sessions[session_id], record.connection_id, area))
        for record, area in zip(records, areas, strict=True)
    ]


def covering_days(days: Sequence[ProvenDay], window: Window) -> list[ProvenDay]:
    """Days that meet a window; none when they do not cover it."""
    found, covered_to = [], window.first_isp
    for proven in days:
        day = proven.day
        if day.first_isp < window.end_isp and window.first_isp < day.first_isp + day.isp_count:
            if day.first_isp > covered_to:
                return []
            found.append(proven)
            covered_to = max(covered_to, day.first_isp + day.isp_count)
    return found if covered_to >= window.end_isp else []


def _settle(
    suite: Suite,
    sender: LocalAccount,
    function: str,
    session_id: int,
    ready: Sequence[tuple[BundleRecord, Window, tuple]],
) -> list[Receipt]:
    prepared = []
    for record, window, rest in ready:
        positions = [held.as_argument() for held in window.held]
        arguments = (session_id, record.connection_id, positions, *rest)
        prepared.append(suite.prepare("MarketSettlement", function, arguments))
    return suite.chain.send_all([(sender, call) for call in prepared])


def close_session(suite: Suite, sender: LocalAccount, session_id: int) -> Receipt:
    """Pay what is left of the pot to the operator."""
    return suite.send(sender, "EnergyMarket", "closeSession", (session_id,))


def _send_for_all(
    suite: Suite,
    sender: LocalAccount,
    contract: str,
    function: str,
    session_id: int,
    records: Iterable[BundleRecord],
) -> list[Receipt]:
    prepared = [
        suite.prepare(contract, function, (session_id, record.connection_id, record.bundle)) for record in records
    ]
    return suite.chain.send_all([(sender, call) for call in prepared])


def metered_days(suite: Suite, store: Store, first_isp: int, end_isp: int) -> dict[bytes, list[ProvenDay]]:
    """Metered days that meet the ISPs [first, end), from the confirmed day batches of a store.

    Returns
    -------
    dict
        Days in order of time by connection id.
    """
    with store.read() as connection:
        confirmed = batches_with_status(connection, BatchKind.DAY, BatchStatus.CONFIRMED)
    latest: dict[tuple[str, int], Batch] = {}
    for batch in confirmed:
        key = batch.operator, batch.first_isp
        overlaps = batch.first_isp < end_isp and first_isp < batch.first_isp + batch.isp_count
        if overlaps and (key not in latest or latest[key].version < batch.version):
            latest[key] = batch
    days = [day for batch in latest.values() for day in proven_days(store, batch.id).values()]
    meters = list(dict.fromkeys(proven.day.meter_id for proven in days))
    owners = suite.call_all([("MeterRegistry", "meter", (meter_id,)) for meter_id in meters])
    connection_of = {meter_id: meter["connectionId"] for meter_id, meter in zip(meters, owners, strict=True)}
    found: dict[bytes, list[ProvenDay]] = {}
    for proven in sorted(days, key=lambda proven: proven.day.first_isp):
        found.setdefault(connection_of[proven.day.meter_id], []).append(proven)
    return found


def advance_session(
    suite: Suite, sender: LocalAccount, sessions: Mapping[int, SessionRecord], session_id: int, store: Store | None
) -> list[str]:
    """Take every step that the time allows; what was done, in words. Nothing when there is nothing to do.

    Parameters
    ----------
    sessions : mapping
        All sessions by id, as the chain tells them now.
    store : Store or None
        Metered days for the settlement; without one, bundles are settled only when readings are overdue.
    """
    session = sessions[session_id]
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
        # A window is at most a longest delivery longer on each side.
        span = session.span
        days = metered_days(suite, store, span.first_isp - MAX_DELIVERY_ISPS, span.end_isp + MAX_DELIVERY_ISPS)
        receipts, open_bundles = settle_bundles(suite, sender, sessions, session_id, open_bundles, days)
        done += [f"settled {len(receipts)} bundles by meter"] if receipts else []
    if open_bundles and now >= times.settle_by:
        receipts, open_bundles = settle_missing_bundles(suite, sender, sessions, session_id, open_bundles)
        done += [f"settled {len(receipts)} bundles without readings"] if receipts else []
    if not open_bundles and session.residual is None and now >= times.delivery_end:
        close_session(suite, sender, session.id)
        done.append("closed the session")
    return done
