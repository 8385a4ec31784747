"""Peer-to-peer market: sessions, orders, clearings and outcomes, all recomputed from the orders in the events.

Every rule checks an event against what stood before it; :func:`offchain.market.replay.apply_event` then takes it into
the model. Clearing and money are recomputed by :mod:`offchain.audit.market_verdicts`.
"""

from collections.abc import Sequence
from dataclasses import asdict

from offchain.audit.market_verdicts import (
    OPEN,
    Books,
    Flow,
    Order,
    Readings,
    Trade,
    bound_wh,
    clear,
    escrow,
    filled_wh,
    flows,
    needed,
    netted,
    orders_of,
    outcome,
    rates,
    trades,
    volume_wh,
    window_of,
)
from offchain.audit.model import NOBODY, BatchStatus, Role
from offchain.audit.replay import Handler, Replay, at
from offchain.audit.rules.trading_rules import check_placed_by_rule
from offchain.chain.events import Event
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import cost_up
from offchain.market.clearing import ClearingClass
from offchain.market.orders import ORDER
from offchain.market.replay import SessionRecord, apply_event, terms_of, unpack_result
from offchain.market.settlement import Outcome
from offchain.market.terms import EnergyType, SessionTimes, Span

SUBJECT = "energy market"
SETTLEMENT = "market settlements"
CERTIFICATES = "certificates"
ANYWHERE = bytes(32)
GREEN_CLASSES = range(1, 5)
"""Solar to biomass of ``IProducerRegistry.ProducerClass``."""


def applied(check: Handler) -> Handler:
    """A rule about a session, and then what its event changes."""

    def handler(replay: Replay, event: Event) -> None:
        check(replay, event)
        apply_event(replay.model.sessions, event)

    return handler


def schedule_registered(replay: Replay, event: Event) -> None:
    args = event.args
    replay.require_role(SUBJECT, args["operator"], Role.MARKET_OPERATOR, at(event))
    replay.checks.equal(SUBJECT, "number of a schedule", at(event), len(replay.model.schedules) + 1, args["scheduleId"])
    replay.model.schedules[args["scheduleId"]] = args


def schedule_cancelled(replay: Replay, event: Event) -> None:
    """Sessions of it that are open go on, no other is opened."""
    schedule = replay.find(replay.model.schedules, event.args["scheduleId"], "schedule")
    replay.rule(SUBJECT, "cancelled twice", at(event), schedule["sessionCount"] > 0, "a schedule in force", "none")
    replay.model.schedules[event.args["scheduleId"]] = {**schedule, "sessionCount": 0}


def session_opened(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    session_id, operator, terms = args["sessionId"], args["operator"], terms_of(args["terms"])
    where = at(event, f"session {session_id}")
    replay.checks.equal(SUBJECT, "number of a session", where, len(model.sessions) + 1, session_id)
    replay.require_role(SUBJECT, operator, Role.MARKET_OPERATOR, where)
    gate = SessionTimes.of(terms, args["firstIsp"]).gate_closure
    replay.rule(SUBJECT, "time of opening", where, event.timestamp <= gate, f"until {gate}", event.timestamp)
    if terms.congestion_point_id != ANYWHERE:
        point = replay.find(model.congestion_points, terms.congestion_point_id, "congestion point")
        replay.rule(SUBJECT, "area of a session", where, point.active, "in service", "out of service")
    if args["scheduleId"]:
        _check_schedule(replay, event, where)
    replay.pay(operator, pot_of(replay, session_id), terms.surplus_budget + terms.reward_budget)
    model.books[session_id] = Books()


def _check_schedule(replay: Replay, event: Event, where: str) -> None:
    """A session of a schedule is the operator's, has its terms, its place, and opens once and not too early."""
    args, model = event.args, replay.model
    schedule = replay.find(model.schedules, args["scheduleId"], "schedule")
    for name in ("operator", "terms"):
        replay.checks.equal(SUBJECT, f"{name} of a scheduled session", where, schedule[name], args[name])
    index, off = divmod(args["firstIsp"] - schedule["firstIsp"], schedule["everyIsps"])
    count = schedule["sessionCount"]
    replay.rule(
        SUBJECT, "place in a schedule", where, not off and 0 <= index < count, f"one of {count}", args["firstIsp"]
    )
    again = [
        session.id
        for session in model.sessions.values()
        if (session.schedule_id, session.first_isp) == (args["scheduleId"], args["firstIsp"])
    ]
    replay.checks.equal(SUBJECT, "opened before", where, [], again)
    earliest = args["firstIsp"] * SECONDS_PER_ISP - schedule["openLeadSeconds"] - args["terms"]["gateLeadSeconds"]
    replay.rule(SUBJECT, "time of opening", where, event.timestamp >= earliest, f"from {earliest}", event.timestamp)


def bundle_submitted(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args = event.args
    connection_id, trader = args["connectionId"], args["trader"]
    connection = replay.find(replay.model.connections, connection_id, "connection")
    gate = session.times.gate_closure
    replay.rule(SUBJECT, "time of a bundle", where, event.timestamp <= gate, f"until {gate}", event.timestamp)
    replay.checks.equal(SUBJECT, "trader of a bundle", where, connection.owner, trader)
    before = session.bundles.get(connection_id)
    sequence = before.sequence + 1 if before else 1
    replay.checks.equal(SUBJECT, "sequence of a bundle", where, sequence, args["sequence"])
    orders = _orders(replay, session, args["bundle"], where)
    if orders:
        replay.require_role(SUBJECT, trader, Role.PROSUMER, where)
        replay.rule(SUBJECT, "connection of a bundle", where, connection.active, "in service", "out of service")
        area = session.terms.congestion_point_id
        if area != ANYWHERE:
            replay.checks.equal(SUBJECT, "area of a connection", where, area, connection.congestion_point_id)
        first_green = session.terms.product(EnergyType.GREEN, 0)
        sells_green = any(order.sell and order.product >= first_green for order in orders)
        green = replay.model.producer_classes.get(connection_id, 0) in GREEN_CLASSES
        replay.rule(SUBJECT, "seller of green energy", where, green or not sells_green, "a green producer", "another")
        stopped = "EnergyMarket" in replay.model.paused
        replay.rule("modules", "event of a paused contract", where, not stopped, "in service", "paused")
    check_placed_by_rule(replay, session, connection_id, orders, where)
    held = escrow(session.terms, orders)
    replay.checks.equal(SUBJECT, "escrow of a bundle", where, held, args["escrow"])
    replay.pay(trader, pot_of(replay, session.id), held - (before.escrow if before else 0))
    replay.model.books[session.id].put(connection_id, orders)


def product_cleared(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args, times = event.args, session.times
    product = args["product"]
    is_final = event.timestamp > times.accept_by
    replay.checks.equal(SUBJECT, "kind of a clearing", where, is_final, args["isFinal"])
    gate = times.gate_closure
    replay.rule(SUBJECT, "time of a clearing", where, event.timestamp > gate, f"after {gate}", event.timestamp)
    replay.rule(SUBJECT, "clearing after the end", where, session.rates is None, "an open auction", "a finalised one")
    replay.rule(
        SUBJECT,
        "clearing of a product twice",
        where,
        product not in session.results or (is_final and product in session.changed),
        "a book that changed or was not cleared",
        "another clearing",
    )
    books = replay.model.books[session.id]
    expected = clear(session.terms.grid, books.levels(product, 1), books.levels(product, 0))
    found = unpack_result(session.terms.grid, args["result"])
    replay.checks.equal("clearings", f"result of product {product}", where, asdict(expected), asdict(found))


def match_rejected(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
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
    orders = replay.model.books[session.id].orders.get(record.connection_id, [])
    positions = [i for i in range(len(orders)) if args["positions"] >> i & 1]
    filled = 0
    for i in positions:
        matched = filled_wh(session.results.get(orders[i].product, OPEN), orders[i])
        replay.rule(SUBJECT, f"match of order {i}", where, matched > 0, "a provisional match", "none")
        filled += matched
    left = [order for i, order in enumerate(orders) if i not in positions]
    held = escrow(session.terms, left)
    freed = escrow(session.terms, orders) - held
    fee = min(cost_up(filled, session.terms.rejection_fee_rate), freed)
    kept = [record.bundle[ORDER.itemsize * i :][: ORDER.itemsize] for i in range(len(orders)) if i not in positions]
    expected = {"bundle": b"".join(kept), "fee": fee, "escrow": held, "sequence": record.sequence + 1}
    for name, value in expected.items():
        replay.checks.equal(SUBJECT, f"{name} after a rejection", where, value, args[name])
    replay.pay(pot_of(replay, session.id), record.trader, freed - fee)
    replay.model.books[session.id].put(record.connection_id, left)


def session_finalised(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args, terms = event.args, session.terms
    accept_by = session.times.accept_by
    replay.rule(SUBJECT, "time of the end", where, event.timestamp > accept_by, f"after {accept_by}", event.timestamp)
    replay.rule(SUBJECT, "finalised twice", where, session.rates is None, "one end", "another")
    replay.checks.equal(SUBJECT, "products to clear again", where, [], sorted(session.changed))
    never = sorted(replay.model.books[session.id].occupied() - session.results.keys())
    replay.checks.equal(SUBJECT, "products never cleared", where, [], never)
    final = rates(terms, session.results)
    expected = {
        "brownVolumeWh": volume_wh(terms, session.results, EnergyType.BROWN),
        "greenVolumeWh": volume_wh(terms, session.results, EnergyType.GREEN),
        "surplusPrice": final.surplus_price,
        "greenRewardRate": final.green_reward_rate,
    }
    for name, value in expected.items():
        replay.checks.equal(SUBJECT, f"{name} of a session", where, value, args[name])


def bundle_claimed(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args = event.args
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.rule(SUBJECT, "claimed twice", where, record.released is None, "one claim", "another")
    require_final(replay, SUBJECT, session, where)
    needs = needed(session.terms, trades_of(replay, session, record.connection_id))
    released = record.escrow - needs
    replay.checks.equal(SUBJECT, "released escrow", where, released, args["released"])
    replay.checks.equal(SUBJECT, "escrow after a claim", where, needs, args["escrow"])
    replay.pay(pot_of(replay, session.id), record.trader, released)


def trader_settled(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args, times = event.args, session.times
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.checks.equal(SETTLEMENT, "trader of a settlement", where, record.trader, args["trader"])
    replay.rule(SETTLEMENT, "settled twice", where, record.outcome is None, "one settlement", "another")
    isps, held = window_of_session(replay, session, record.connection_id)
    due = max(isps.stop * SECONDS_PER_ISP, 0 if args["metered"] else times.settle_by)
    replay.rule(SETTLEMENT, "time of settlement", where, event.timestamp >= due, f"from {due}", event.timestamp)
    open_auctions = [other for other in held if replay.model.sessions[other].rates is None]
    replay.checks.equal(SETTLEMENT, "overlapping auctions not ended", where, [], open_auctions)
    claimed = Outcome(*args["outcome"].values())
    if args["metered"]:
        metered = metered_of(replay, session, args["connectionId"], event.timestamp, where)
    else:
        metered = dict.fromkeys(isps)
    due_payout = check_outcome(replay, session, record.connection_id, metered, claimed, where)
    replay.pay(pot_of(replay, session.id), record.trader, due_payout)


def session_closed(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    unsettled = [c.hex() for c, record in session.bundles.items() if record.bundle and record.outcome is None]
    replay.checks.equal(SUBJECT, "bundles left open", where, [], unsettled)
    require_final(replay, SUBJECT, session, where)
    replay.rule(SUBJECT, "closed twice", where, session.residual is None, "one end", "another")
    pot = pot_of(replay, session.id)
    left = replay.expected_balance(pot)
    replay.checks.equal(SUBJECT, "residual of a session", where, left, event.args["residual"])
    replay.pay(pot, session.operator, left)


# -------------------------------------------------------------------------------- certificates


def producer_class_set(replay: Replay, event: Event) -> None:
    args = event.args
    replay.require_role(SUBJECT, args["registrar"], Role.REGISTRAR, at(event))
    replay.find(replay.model.connections, args["connectionId"], "connection")
    replay.model.producer_classes[args["connectionId"]] = args["producerClass"]


def certificates_issued(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args = event.args
    record = replay.find(session.bundles, args["connectionId"], "bundle")
    replay.rule(CERTIFICATES, "issued twice", where, not record.certified, "one issue", "another")
    require_final(replay, CERTIFICATES, session, where)
    replay.checks.equal(CERTIFICATES, "holder of certificates", where, record.trader, args["holder"])
    for product, trade in trades_of(replay, session, record.connection_id).items():
        if trade.bought_wh:
            replay.money.certificates_due[session.id | product << 64, record.trader] += trade.bought_wh


def injection_recorded(replay: Replay, event: Event) -> None:
    session, where = session_of(replay, event)
    args = event.args
    known = replay.model.producer_classes.get(args["connectionId"], 0)
    replay.checks.equal(CERTIFICATES, "producer class of an injection", where, known, args["producerClass"])
    replay.money.injected_found[session.id, args["connectionId"]] = list(args["injectedWh"])


def redeemed(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    certificate_id, amount, holder = args["certificateId"], args["amount"], args["holder"]
    where = at(event, f"certificate {certificate_id}")
    session = replay.find(model.sessions, certificate_id & (1 << 64) - 1, "session")
    product = certificate_id >> 64
    replay.rule(CERTIFICATES, "time of redeeming", where, session.residual is not None, "a closed session", "open")
    issued = bound_wh(session.terms, session.results.get(product, OPEN), ClearingClass.MARGINAL_BUYER)
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


def session_of(replay: Replay, event: Event) -> tuple[SessionRecord, str]:
    """Session of an event, and where it happened."""
    session_id = event.args["sessionId"]
    session = replay.find(replay.model.sessions, session_id, "session")
    connection_id = event.args.get("connectionId")
    thing = f"session {session_id}" + (f", connection 0x{connection_id.hex()}" if connection_id else "")
    return session, at(event, thing)


def pot_of(replay: Replay, session_id: int) -> bytes:
    return replay.lock("EnergyMarket", "potLockId", session_id)


def require_final(replay: Replay, subject: str, session: SessionRecord, where: str) -> None:
    replay.rule(subject, "before the end of the auction", where, session.rates is not None, "finalised", "open")


def trades_of(replay: Replay, session: SessionRecord, connection_id: bytes) -> dict[int, Trade]:
    """What the bundle of a connection trades by the results that stand."""
    return trades(session.results, replay.model.books[session.id].orders.get(connection_id, []))


def outcome_by_meters(
    replay: Replay, session: SessionRecord, connection_id: bytes, metered: Readings
) -> tuple[Outcome, list[int]]:
    """Outcome of a bundle, netted with those of overlapping sessions, and its delivered energy by product [Wh]."""
    sessions = replay.model.sessions
    _, overlapping = window_of_session(replay, session, connection_id)
    held = {other: (sessions[other].span, trades_of(replay, sessions[other], connection_id)) for other in overlapping}
    traded = trades_of(replay, session, connection_id)
    found = flows(held, metered)
    own = {product: found.get((session.id, product), Flow()) for product in traded}
    return outcome(session.terms, session.rates, traded, own)


def left_of(
    replay: Replay, span: Span, connection_id: bytes, as_of: int, where: str
) -> list[tuple[int, int] | None] | None:
    """Metered (import, export) of some ISPs that no position of a connection used [Wh]; ``None`` when evidence is
    missing."""
    sessions = replay.model.sessions
    isps, overlapping = _window(replay, span, ANYWHERE, connection_id)
    open_auctions = [other for other in overlapping if sessions[other].rates is None]
    replay.checks.equal(SETTLEMENT, "overlapping auctions not ended", where, [], open_auctions)
    readings = _readings(replay, isps, connection_id, as_of, where)
    if readings is None:
        return None
    held = {other: (sessions[other].span, trades_of(replay, sessions[other], connection_id)) for other in overlapping}
    _, left = netted(held, readings)
    return [left[isp] for isp in range(span.first_isp, span.end_isp)]


def window_of_session(replay: Replay, session: SessionRecord, connection_id: bytes) -> tuple[range, list[int]]:
    """ISPs that a bundle is netted in, and the sessions in which its connection has a bundle there."""
    return _window(replay, session.span, session.terms.congestion_point_id, connection_id)


def _window(replay: Replay, span: Span, area: bytes, connection_id: bytes) -> tuple[range, list[int]]:
    connection = replay.find(replay.model.connections, connection_id, "connection")
    areas = {ANYWHERE, connection.congestion_point_id if area == ANYWHERE else area}
    spans = {
        other.id: other.span
        for other in replay.model.sessions.values()
        if other.terms.congestion_point_id in areas
        and connection_id in other.bundles
        and other.bundles[connection_id].bundle
    }
    return window_of(span, spans)


def check_outcome(
    replay: Replay,
    session: SessionRecord,
    connection_id: bytes,
    metered: Readings | None,
    found: Outcome,
    where: str,
) -> int:
    """Hold an outcome against what the meters saw; the payout that is due [uToken]."""
    key = session.id, connection_id
    if metered is None or session.rates is None:
        replay.money.injected_due[key] = replay.money.injected_found.get(key, [])
        return found.payout
    expected, injected_wh = outcome_by_meters(replay, session, connection_id, metered)
    replay.checks.equal(SETTLEMENT, "outcome", where, asdict(expected), asdict(found))
    replay.money.injected_due[key] = injected_wh if any(injected_wh) else []
    return expected.payout


def _orders(replay: Replay, session: SessionRecord, bundle: bytes, where: str) -> list[Order]:
    """Orders of a bundle; none when it is malformed, which is recorded."""
    try:
        return orders_of(session.terms, bundle)
    except DomainError as error:
        replay.checks.fail(SUBJECT, "bundle", where, "orders within the session", error)
        return []


def metered_of(replay: Replay, session: SessionRecord, connection_id: bytes, as_of: int, where: str) -> Readings | None:
    """Metered ISPs that a bundle is netted in; ``None`` when evidence is missing."""
    isps, _ = window_of_session(replay, session, connection_id)
    return _readings(replay, isps, connection_id, as_of, where)


def _readings(replay: Replay, isps: range, connection_id: bytes, as_of: int, where: str) -> Readings | None:
    """Metered ISPs of a connection by the batches that were usable at a time."""
    model = replay.model
    first, count = isps.start, len(isps)
    readings: dict[int, tuple[int, int] | None] = dict.fromkeys(isps)
    covered = [False] * count
    window = replay.setting("MeteringLedger", "challengeWindow")
    for meter_id, meter in model.meters.items():
        if meter.connection_id != connection_id:
            continue
        for (operator, day_first), versions in model.batches.items():
            batch = next((b for b in reversed(versions) if b.anchored_at <= as_of), versions[0])
            overlaps = day_first < first + count and first < day_first + batch.isp_count
            usable = batch.status is BatchStatus.ANCHORED and as_of >= batch.anchored_at + window
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
                    readings[offset] = reading
    if not all(covered):
        missing = first + covered.index(False)
        replay.checks.fail("evidence", "metered day behind a settlement", where, f"readings of ISP {missing}", "none")
        return None
    replay.checks.passed("evidence", 1)
    return readings


HANDLERS = {
    ("MarketSessions", "ScheduleRegistered"): schedule_registered,
    ("MarketSessions", "ScheduleCancelled"): schedule_cancelled,
    ("MarketSessions", "SessionOpened"): applied(session_opened),
    ("EnergyMarket", "BundleSubmitted"): applied(bundle_submitted),
    ("EnergyMarket", "ProductCleared"): applied(product_cleared),
    ("EnergyMarket", "MatchRejected"): applied(match_rejected),
    ("EnergyMarket", "SessionFinalised"): applied(session_finalised),
    ("EnergyMarket", "BundleClaimed"): applied(bundle_claimed),
    ("EnergyMarket", "SessionClosed"): applied(session_closed),
    ("MarketSettlement", "TraderSettled"): applied(trader_settled),
    ("ProducerRegistry", "ProducerClassSet"): producer_class_set,
    ("EnergyCertificates", "CertificatesIssued"): applied(certificates_issued),
    ("EnergyCertificates", "InjectionRecorded"): applied(injection_recorded),
    ("EnergyCertificates", "Redeemed"): redeemed,
    ("EnergyCertificates", "Retired"): retired,
    ("EnergyCertificates", "TransferSingle"): transfer_single,
    ("EnergyCertificates", "TransferBatch"): transfer_batch,
}
