"""Corrections of settled bundles by newer readings (``IMarketCorrections``): what differs, and having it settled.

Anyone may. Outcomes are computed by the twin of the settlement, so that only what differs is sent.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eth_account.signers.local import LocalAccount

from offchain.chain.client import Receipt
from offchain.chain.contracts import Suite
from offchain.flexibility.metered_days import ProvenDay
from offchain.flexibility.orders import send_in_order
from offchain.market.operating import covering_days
from offchain.market.positions import Window, session_window
from offchain.market.proposing import areas_of, days_around, outcome_in
from offchain.market.replay import BundleRecord, SessionRecord
from offchain.market.terms import RECORD_SECONDS
from offchain.store import Store

CONTRACT = "MarketCorrections"
ANCHORED = 1
"""``IMeteringLedger.BatchStatus`` of a batch that stands."""


class Difference(NamedTuple):
    """A settled bundle that the newest readings give another payout."""

    record: BundleRecord
    window: Window
    days: Sequence[ProvenDay]
    amount: int
    """To the trader; negative: from the trader [uToken]."""


def find_differences(
    suite: Suite, store: Store, sessions: Mapping[int, SessionRecord], session_id: int
) -> list[Difference]:
    """Settled bundles of a closed session that the newest readings of a store give another payout.

    Days whose newest version the store does not have, or that can still be challenged, change nothing yet.
    """
    session, now = sessions[session_id], suite.chain.block()["timestamp"]
    if session.residual is None:
        return []
    records = session.standing
    areas = areas_of(suite, [record.connection_id for record in records])
    usable = _usable(suite, days_around(suite, store, session), now)
    found = []
    for record in records:
        window = session_window(sessions, session, record.connection_id, areas[record.connection_id])
        days = covering_days(usable.get(record.connection_id, ()), window)
        newest = outcome_in(window, session, record, days)
        if newest is None or now >= window.end_seconds + RECORD_SECONDS:
            continue
        if amount := newest.outcome.payout - record.paid:
            found.append(Difference(record, window, days, amount))
    return found


def _usable(suite: Suite, days: Mapping[bytes, Sequence[ProvenDay]], now: int) -> dict[bytes, list[ProvenDay]]:
    """Days of batches that are the newest on chain, stand and cannot be challenged any more."""
    every = [proven.day for held in days.values() for proven in held]
    meters = list(dict.fromkeys(day.meter_id for day in every))
    answers = suite.call_all([("MeterRegistry", "meter", (meter_id,)) for meter_id in meters])
    operator = {meter_id: answer["operator"] for meter_id, answer in zip(meters, answers, strict=True)}
    keys = list(dict.fromkeys((operator[day.meter_id], day.first_isp) for day in every))
    batches = dict(zip(keys, suite.call_all([("MeteringLedger", "batch", key) for key in keys]), strict=True))
    window = suite.call("MeteringLedger", "challengeWindow")

    def stands(proven: ProvenDay) -> bool:
        batch = batches[operator[proven.day.meter_id], proven.day.first_isp]
        newest = batch["version"] == proven.day.version and batch["status"] == ANCHORED
        return newest and now >= batch["anchoredAt"] + window

    return {connection_id: [proven for proven in held if stands(proven)] for connection_id, held in days.items()}


def correct_bundles(
    suite: Suite, sender: LocalAccount, session_id: int, differences: Sequence[Difference]
) -> list[Receipt]:
    """Have differences settled; one ``TraderCorrected`` in each receipt."""
    calls = []
    for found in differences:
        positions = [held.as_argument() for held in found.window.held]
        meter_days = [proven.as_evidence() for proven in found.days]
        arguments = (session_id, found.record.connection_id, positions, meter_days)
        calls.append(suite.prepare(CONTRACT, "correct", arguments))
    # What a party can pay, and so the gas, depends on the corrections before.
    return send_in_order(suite, sender, calls)


def parties(session: SessionRecord) -> list[tuple[str, str]]:
    """Every trader of a session with its operator, both as (debtor, creditor)."""
    traders = sorted({record.trader for record in session.standing} - {session.operator})
    return [pair for trader in traders for pair in ((trader, session.operator), (session.operator, trader))]


def collect_debts(suite: Suite, sender: LocalAccount, session: SessionRecord) -> list[Receipt]:
    """Collect what corrections left owed between the traders of a session and its operator, as far as the debtors have
    it; one ``OwedCollected`` in each receipt."""
    pairs = parties(session)
    debts = suite.call_all([(CONTRACT, "owed", pair) for pair in pairs])
    balances = suite.call_all([("ClearingHouse", "balanceOf", (debtor,)) for debtor, _ in pairs])
    able = [pair for pair, debt, balance in zip(pairs, debts, balances, strict=True) if debt and balance]
    return send_in_order(suite, sender, [suite.prepare(CONTRACT, "collectOwed", pair) for pair in able])
