"""Peer-to-peer market: sessions, orders, clearings and outcomes, all recomputed from the orders in the events.

The clearing is recomputed by the integer twin of :mod:`offchain.market` from the bundles that stand; every result,
fill, fee and payment is held against it.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from offchain.audit.model import BatchStatus, Role
from offchain.audit.replay import Replay, at
from offchain.audit.rules.registry import NOBODY
from offchain.chain.events import Event
from offchain.domain.errors import DomainError
from offchain.domain.units import cost_up
from offchain.market.clearing import ClearingClass, clear_orders
from offchain.market.orders import ORDER, unpack_bundle
from offchain.market.replay import BundleRecord, SessionRecord, terms_of, unpack_result
from offchain.market.settlement import (
    FinalRates,
    Metered,
    Outcome,
    bundle_escrow,
    bundle_fills,
    final_needs,
    final_rates,
    metered_periods,
    most_filled_wh,
    outcome,
)
from offchain.market.terms import EnergyType

SUBJECT = "energy market"
SETTLEMENT = "market settlements"
ANYWHERE = bytes(32)
GREEN_CLASSES = range(1, 5)
"""Solar to biomass of ``IProducerRegistry.ProducerClass``."""


def schedule_registered(replay: Replay, event: Event) -> None:
    replay.require_role(SUBJECT, event.args["operator"], Role.MARKET_OPERATOR, at(event))


def session_opened(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    session_id, operator = args["sessionId"], args["operator"]
    where = at(event, f"session {session_id}")
    replay.checks.equal(SUBJECT, "number of a session", where, len(model.sessions) + 1, session_id)
    replay.require_role(SUBJECT, operator, Role.MARKET_OPERATOR, where)
    terms = terms_of(args["terms"])
    session = SessionRecord(session_id, operator, args["firstIsp"], terms, args["scheduleId"])
    gate = session.times.gate_closure
    replay.rule(SUBJECT, "time of opening", where, event.timestamp <= gate, f"until {gate}", event.timestamp)
    if terms.congestion_point_id != ANYWHERE:
        replay.find(model.congestion_points, terms.congestion_point_id, "congestion point")
    replay.pay(operator, _pot(replay, session), terms.surplus_budget + terms.reward_budget)
    model.sessions[session_id] = session


def bundle_submitted(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args = event.args
    connection_id, trader = args["connectionId"], args["trader"]
    connection = replay.find(replay.model.connections, connection_id, "connection")
    gate = session.times.gate_closure
    replay.rule(SUBJECT, "time of a bundle", where, event.timestamp <= gate, f"until {gate}", event.timestamp)
    replay.checks.equal(SUBJECT, "trader of a bundle", where, connection.owner, trader)
    before = session.bundles.get(connection_id)
    sequence = before.sequence + 1 if before else 1
    replay.checks.equal(SUBJECT, "sequence of a bundle", where, sequence, args["sequence"])
    book = _book(replay, session, args["bundle"], where)
    if len(book):
        replay.require_role(SUBJECT, trader, Role.PROSUMER, where)
        area = session.terms.congestion_point_id
        if area != ANYWHERE:
            replay.checks.equal(SUBJECT, "area of a connection", where, area, connection.congestion_point_id)
        first_green = session.terms.product(EnergyType.GREEN, 0)
        sells_green = bool(np.any((book["sell"] == 1) & (book["period"] >= first_green)))
        green = replay.model.producer_classes.get(connection_id, 0) in GREEN_CLASSES
        replay.rule(SUBJECT, "seller of green energy", where, green or not sells_green, "a green producer", "another")
    escrow = bundle_escrow(session.terms, book)
    replay.checks.equal(SUBJECT, "escrow of a bundle", where, escrow, args["escrow"])
    replay.pay(trader, _pot(replay, session), escrow - (before.escrow if before else 0))
    session.bundles[connection_id] = BundleRecord(
        connection_id, trader, args["sequence"], args["bundle"], args["escrow"]
    )


def product_cleared(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, times = event.args, session.times
    product = args["product"]
    is_final = event.timestamp > times.accept_by
    replay.checks.equal(SUBJECT, "kind of a clearing", where, is_final, args["isFinal"])
    gate = times.gate_closure
    replay.rule(SUBJECT, "time of a clearing", where, event.timestamp > gate, f"after {gate}", event.timestamp)
    replay.rule(
        SUBJECT,
        "clearing of a product twice",
        where,
        product not in session.results or (is_final and product in session.changed),
        "a book that changed or was not cleared",
        "another clearing",
    )
    result = unpack_result(session.terms.grid, args["result"])
    book = _standing_orders(replay, session, where)
    expected = clear_orders(session.terms.grid, book[book["period"] == product])
    replay.checks.equal("clearings", f"result of product {product}", where, asdict(expected), asdict(result))
    session.results[product] = result
    session.changed.discard(product)
    if not is_final:
        session.provisional[product] = result


def match_rejected(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, times = event.args, session.times
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.rule(
        SUBJECT,
        "time of a rejection",
        where,
        times.gate_closure < event.timestamp <= times.accept_by,
        f"{times.gate_closure} .. {times.accept_by}",
        event.timestamp,
    )
    book = _book(replay, session, record.bundle, where)
    rejected = np.array([args["positions"] >> i & 1 == 1 for i in range(len(book))], dtype=bool)
    left = book[~rejected]
    freed = bundle_escrow(session.terms, book) - bundle_escrow(session.terms, left)
    filled = 0
    for position in np.flatnonzero(rejected).tolist():
        fills = bundle_fills(session.terms, session.final_results, book[position : position + 1])
        matched = sum(fills.bought_wh) + sum(fills.sold_wh)
        replay.rule(SUBJECT, f"match of order {position}", where, matched > 0, "a provisional match", "none")
        filled += matched
        session.changed.add(int(book["period"][position]))
    fee = min(cost_up(filled, session.terms.rejection_fee_rate), freed)
    expected = {
        "bundle": left.astype(ORDER).tobytes(),
        "fee": fee,
        "escrow": record.escrow - freed,
        "sequence": record.sequence + 1,
    }
    for name, value in expected.items():
        replay.checks.equal(SUBJECT, f"{name} after a rejection", where, value, args[name])
    replay.pay(_pot(replay, session), record.trader, freed - fee)
    record.bundle, record.escrow, record.sequence = args["bundle"], args["escrow"], args["sequence"]
    record.rejected_fee += args["fee"]


def session_finalised(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args = event.args
    accept_by = session.times.accept_by
    replay.rule(SUBJECT, "time of the end", where, event.timestamp > accept_by, f"after {accept_by}", event.timestamp)
    replay.checks.equal(SUBJECT, "products to clear again", where, [], sorted(session.changed))
    results = session.final_results
    ordered = set(_standing_orders(replay, session, where)["period"].tolist())
    open_products = [p for p, result in enumerate(results) if result.kind is ClearingClass.OPEN and p in ordered]
    replay.checks.equal(SUBJECT, "products never cleared", where, [], open_products)
    rates = final_rates(session.terms, results)
    expected = {
        "brownVolumeWh": session.volume_wh(EnergyType.BROWN),
        "greenVolumeWh": session.volume_wh(EnergyType.GREEN),
        "surplusPrice": rates.surplus_price,
        "greenRewardRate": rates.green_reward_rate,
    }
    for name, value in expected.items():
        replay.checks.equal(SUBJECT, f"{name} of a session", where, value, args[name])
    session.rates = FinalRates(args["surplusPrice"], args["greenRewardRate"])


def bundle_claimed(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    record = replay.find(session.bundles, event.args["connectionId"], "bundle")
    _claim(replay, session, record, event, where)


def trader_settled(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, times = event.args, session.times
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.checks.equal(SETTLEMENT, "trader of a settlement", where, record.trader, args["trader"])
    replay.rule(SETTLEMENT, "settled twice", where, record.outcome is None, "one settlement", "another")
    due = times.delivery_end if args["metered"] else times.settle_by
    replay.rule(SETTLEMENT, "time of settlement", where, event.timestamp >= due, f"from {due}", event.timestamp)
    fills = bundle_fills(session.terms, session.final_results, _book(replay, session, record.bundle, where))
    claimed = Outcome(*args["outcome"].values())
    metered = _metered(replay, event, session, where) if args["metered"] else _nothing_metered(session)
    if metered is not None and session.rates is not None:
        expected, _ = outcome(session.terms, session.rates, fills, metered)
        replay.checks.equal(SETTLEMENT, "outcome", where, asdict(expected), asdict(claimed))
        replay.pay(_pot(replay, session), record.trader, expected.payout)
    else:
        replay.pay(_pot(replay, session), record.trader, claimed.payout)
    record.outcome, record.metered = claimed, args["metered"]


def session_closed(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    unsettled = [c.hex() for c, record in session.bundles.items() if record.bundle and record.outcome is None]
    replay.checks.equal(SUBJECT, "bundles left open", where, [], unsettled)
    pot = _pot(replay, session)
    left = replay.expected_balance(pot)
    replay.checks.equal(SUBJECT, "residual of a session", where, left, event.args["residual"])
    replay.pay(pot, session.operator, left)
    session.residual = event.args["residual"]


# -------------------------------------------------------------------------------- certificates


def producer_class_set(replay: Replay, event: Event) -> None:
    args = event.args
    replay.require_role(SUBJECT, args["registrar"], Role.REGISTRAR, at(event))
    replay.find(replay.model.connections, args["connectionId"], "connection")
    replay.model.producer_classes[args["connectionId"]] = args["producerClass"]


def certificates_issued(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args = event.args
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.rule("certificates", "issued twice", where, not record.certified, "one issue", "another")
    replay.checks.equal("certificates", "holder of certificates", where, record.trader, args["holder"])
    fills = bundle_fills(session.terms, session.final_results, _book(replay, session, record.bundle, where))
    for product, bought_wh in enumerate(fills.bought_wh):
        if bought_wh:
            replay.money.certificates_due[session.id | product << 64, record.trader] += bought_wh
    record.certified = True


def injection_recorded(replay: Replay, event: Event) -> None:
    session, _ = _session(replay, event)
    for product, injected_wh in enumerate(event.args["injectedWh"]):
        session.injected_wh[product, event.args["producerClass"]] += injected_wh


def redeemed(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    certificate_id, amount, holder = args["certificateId"], args["amount"], args["holder"]
    where = at(event, f"certificate {certificate_id}")
    session = replay.find(model.sessions, certificate_id & (1 << 64) - 1, "session")
    product = certificate_id >> 64
    replay.rule("certificates", "time of redeeming", where, session.residual is not None, "a closed session", "open")
    issued = most_filled_wh(session.terms, session.final_results[product], ClearingClass.MARGINAL_BUYER)
    due = replay.money.certificates_due
    due[certificate_id, holder] -= amount
    for (of_product, producer_class), injected_wh in session.injected_wh.items():
        if of_product == product:
            due[certificate_id | producer_class + 1 << 80, holder] += amount * injected_wh // issued


def retired(replay: Replay, event: Event) -> None:
    args = event.args
    replay.money.certificates_due[args["guaranteeId"], args["holder"]] -= args["amount"]


def transfer_single(replay: Replay, event: Event) -> None:
    _transfer(replay, event, [event.args["id"]], [event.args["value"]])


def transfer_batch(replay: Replay, event: Event) -> None:
    _transfer(replay, event, event.args["ids"], event.args["values"])


def _transfer(replay: Replay, event: Event, ids: Sequence[int], values: Sequence[int]) -> None:
    """A transfer between holders is due as it is found; what is made and burnt needs its own reason."""
    sender, receiver = event.args["from"], event.args["to"]
    for token_id, value in zip(ids, values, strict=True):
        for holder, change in ((sender, -value), (receiver, value)):
            if holder != NOBODY:
                replay.money.certificates_found[token_id, holder] += change
                if NOBODY not in (sender, receiver):
                    replay.money.certificates_due[token_id, holder] += change


# -------------------------------------------------------------------------------- inside


def _session(replay: Replay, event: Event) -> tuple[SessionRecord, str]:
    session_id = event.args["sessionId"]
    session = replay.find(replay.model.sessions, session_id, "session")
    connection_id = event.args.get("connectionId")
    thing = f"session {session_id}" + (f", connection 0x{connection_id.hex()}" if connection_id else "")
    return session, at(event, thing)


def _pot(replay: Replay, session: SessionRecord) -> bytes:
    return replay.lock("EnergyMarket", "potLockId", session.id)


def _book(replay: Replay, session: SessionRecord, bundle: bytes, where: str) -> np.ndarray:
    """Orders of a bundle; none when it is empty or malformed, which is recorded."""
    if not bundle:
        return np.empty(0, ORDER)
    try:
        return unpack_bundle(session.terms.grid, bundle)
    except DomainError as error:
        replay.checks.fail(SUBJECT, "bundle", where, "orders within the session", error)
        return np.empty(0, ORDER)


def _standing_orders(replay: Replay, session: SessionRecord, where: str) -> np.ndarray:
    books = [_book(replay, session, record.bundle, where) for record in session.bundles.values()]
    return np.concatenate(books) if books else np.empty(0, ORDER)


def _claim(replay: Replay, session: SessionRecord, record: BundleRecord, event: Event, where: str) -> None:
    args = event.args
    replay.rule(SUBJECT, "claimed twice", where, record.released is None, "one claim", "another")
    fills = bundle_fills(session.terms, session.final_results, _book(replay, session, record.bundle, where))
    needs = final_needs(session.terms, fills)
    released = record.escrow - needs
    replay.checks.equal(SUBJECT, "released escrow", where, released, args["released"])
    replay.checks.equal(SUBJECT, "escrow after a claim", where, needs, args["escrow"])
    replay.pay(_pot(replay, session), record.trader, released)
    record.released, record.escrow = args["released"], args["escrow"]


def _nothing_metered(session: SessionRecord) -> list[Metered]:
    return [Metered(0, 0, True)] * session.terms.period_count


def _metered(replay: Replay, event: Event, session: SessionRecord, where: str) -> list[Metered] | None:
    """Metered periods of a connection by the latest batches that were usable; ``None`` when evidence is missing."""
    model, terms = replay.model, session.terms
    connection_id = event.args["connectionId"]
    first, count = session.first_isp, terms.isps_per_period * terms.period_count
    importing, exporting, known, covered = [0] * count, [0] * count, [False] * count, [False] * count
    window = replay.setting("MeteringLedger", "challengeWindow")
    for meter_id, meter in model.meters.items():
        if meter.connection_id != connection_id:
            continue
        for (operator, day_first), versions in model.batches.items():
            batch = versions[-1]
            overlaps = day_first < first + count and first < day_first + batch.isp_count
            usable = batch.status is BatchStatus.ANCHORED and event.timestamp >= batch.anchored_at + window
            if operator != meter.operator or not overlaps or not usable:
                continue
            day = replay.archive.metered_day(operator, meter_id, day_first, batch.version)
            if isinstance(day, str):
                if day != "not in the store":
                    subject = f"metered day of meter 0x{meter_id.hex()} behind a settlement"
                    replay.checks.fail("evidence", subject, where, "a metered day that was proven", day)
                continue
            for offset in range(max(first, day_first), min(first + count, day_first + batch.isp_count)):
                reading = day[offset - day_first]
                covered[offset - first] |= reading is not None or meter.key_at(offset) is not None
                if reading is not None:
                    importing[offset - first], exporting[offset - first] = reading
                    known[offset - first] = True
    if not all(covered):
        missing = first + covered.index(False)
        replay.checks.fail("evidence", "metered day behind a settlement", where, f"readings of ISP {missing}", "none")
        return None
    replay.checks.passed("evidence", 1)
    return metered_periods(terms, importing, exporting, [not k for k in known])


HANDLERS = {
    ("MarketSessions", "ScheduleRegistered"): schedule_registered,
    ("MarketSessions", "SessionOpened"): session_opened,
    ("EnergyMarket", "BundleSubmitted"): bundle_submitted,
    ("EnergyMarket", "ProductCleared"): product_cleared,
    ("EnergyMarket", "MatchRejected"): match_rejected,
    ("EnergyMarket", "SessionFinalised"): session_finalised,
    ("EnergyMarket", "BundleClaimed"): bundle_claimed,
    ("EnergyMarket", "SessionClosed"): session_closed,
    ("MarketSettlement", "TraderSettled"): trader_settled,
    ("ProducerRegistry", "ProducerClassSet"): producer_class_set,
    ("EnergyCertificates", "CertificatesIssued"): certificates_issued,
    ("EnergyCertificates", "InjectionRecorded"): injection_recorded,
    ("EnergyCertificates", "Redeemed"): redeemed,
    ("EnergyCertificates", "Retired"): retired,
    ("EnergyCertificates", "TransferSingle"): transfer_single,
    ("EnergyCertificates", "TransferBatch"): transfer_batch,
}
