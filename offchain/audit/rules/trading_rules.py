"""Trading rules: each order that was placed by one is within it, by the forecast that was committed before.

A rule is taken from its registration; its signature is not in the event, the contract checked it.
"""

from collections.abc import Sequence
from typing import Any

from offchain.audit.market_verdicts import Order
from offchain.audit.model import NOBODY, Commitment, CommitmentKind, TradingRule
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event
from offchain.domain.isp import ISPS_PER_HOUR
from offchain.domain.units import share_down
from offchain.market.replay import SessionRecord
from offchain.market.terms import EnergyType

SUBJECT = "trading rules"
HOURS = 24


def rule_registered(replay: Replay, event: Event) -> None:
    args, rules = event.args, replay.model.trading_rules
    connection_id, rule = args["connectionId"], args["rule"]
    where = _where(event)
    connection = replay.find(replay.model.connections, connection_id, "connection")
    replay.checks.equal(SUBJECT, "owner of a rule", where, connection.owner, args["owner"])
    replay.checks.equal(SUBJECT, "connection of a rule", where, connection_id, rule["connectionId"])
    replay.rule(SUBJECT, "connection of a rule", where, connection.active, "in service", "out of service")
    latest = rules[connection_id].terms["number"] if connection_id in rules else 0
    replay.rule(SUBJECT, "number of a rule", where, rule["number"] > latest, f"above {latest}", rule["number"])
    rules[connection_id] = TradingRule(dict(rule))


def rule_revoked(replay: Replay, event: Event) -> None:
    rule = replay.find(replay.model.trading_rules, event.args["connectionId"], "rule of connection")
    where = _where(event)
    replay.rule(SUBJECT, "revoked twice", where, rule.in_force, "a rule in force", "none")
    replay.checks.equal(SUBJECT, "number of a rule", where, rule.terms["number"], event.args["number"])
    rule.in_force = False


def placed_by_rule(replay: Replay, event: Event) -> None:
    """The rule allows somebody to place orders now; the orders themselves come with the next event."""
    args, now = event.args, event.timestamp
    session_id, connection_id = args["sessionId"], args["connectionId"]
    where = _where(event, session_id)
    session = replay.find(replay.model.sessions, session_id, "session")
    rule = replay.find(replay.model.trading_rules, connection_id, "rule of connection")
    terms = rule.terms
    replay.rule(SUBJECT, "rule in force", where, rule.in_force, "a rule in force", "a revoked one")
    replay.checks.equal(SUBJECT, "number of a rule", where, terms["number"], args["number"])
    times = terms["validFrom"], terms["validUntil"]
    replay.rule(SUBJECT, "time of a rule", where, times[0] <= now <= times[1], f"{times[0]} .. {times[1]}", now)
    agents = (args["agent"], NOBODY)
    replay.rule(SUBJECT, "agent of a rule", where, terms["agent"] in agents, terms["agent"], args["agent"])
    own = connection_id in session.bundles
    replay.rule(SUBJECT, "orders beside the owner's", where, not own, "no bundle of the owner", "one")
    commitment = replay.find(replay.model.commitments, args["commitmentId"], "commitment")
    found = (commitment.kind, commitment.committer)
    replay.checks.equal(SUBJECT, "forecast of a rule", where, (CommitmentKind.FORECAST, terms["forecaster"]), found)
    isps = range(session.first_isp, session.span.end_isp)
    traded = replay.model.traded_isps.setdefault((connection_id, args["commitmentId"]), set())
    again = traded.intersection(isps)
    replay.rule(SUBJECT, "forecast traded twice", where, not again, "hours of one session", sorted(again)[:1])
    traded.update(isps)
    replay.money.by_rule[session_id, connection_id] = args["commitmentId"]


def check_placed_by_rule(
    replay: Replay, session: SessionRecord, connection_id: bytes, orders: Sequence[Order], where: str
) -> None:
    """Orders are within the rule, when one placed them in this transaction."""
    commitment_id = replay.money.by_rule.pop((session.id, connection_id), None)
    if commitment_id is None:
        return
    rule = replay.model.trading_rules[connection_id].terms
    for position, order in enumerate(orders):
        _check_order(replay, session, rule, position, order, where)
    left_wh = _shares(replay, session, connection_id, commitment_id, rule["shareBps"], where)
    if left_wh is None:
        return
    for period in range(session.terms.period_count):
        for sell in (0, 1):
            wanted = sum(
                order.quantity_wh
                for order in orders
                if (order.product % session.terms.period_count, order.sell) == (period, sell)
            )
            limit = left_wh[period][sell]
            what = f"share of the forecast {'sold' if sell else 'bought'} in period {period}"
            replay.rule(SUBJECT, what, where, wanted <= limit, f"at most {limit}", wanted)


def _check_order(
    replay: Replay, session: SessionRecord, rule: dict[str, Any], position: int, order: Order, where: str
) -> None:
    kind, period = session.terms.type_and_period(order.product)
    hour = (session.first_isp + period * session.terms.isps_per_period) // ISPS_PER_HOUR % HOURS
    price = session.terms.grid.price(order.tick)
    limit = rule["sellLimits" if order.sell else "buyLimits"][hour]
    within = price >= limit if order.sell else price <= limit
    bound = f"at {'least' if order.sell else 'most'} {limit}"
    replay.rule(SUBJECT, f"limit price of order {position}", where, within, bound, price)
    allowed = order.sell or kind is EnergyType.GREEN or not rule["greenOnly"]
    replay.rule(SUBJECT, f"energy type of order {position}", where, allowed, "green", "brown")


def _shares(
    replay: Replay, session: SessionRecord, connection_id: bytes, commitment_id: int, share_bps: int, where: str
) -> list[tuple[int, int]] | None:
    """What may be bought and sold in each period [Wh]; ``None`` when the forecast cannot be proven."""
    terms, commitment = session.terms, replay.model.commitments[commitment_id]
    forecast = _forecast(replay, connection_id, commitment_id)
    if isinstance(forecast, str):
        replay.checks.fail(
            "evidence", "forecast behind an order", where, f"a curve of commitment {commitment_id}", forecast
        )
        return None
    first = session.first_isp - commitment.first_isp
    count = terms.isps_per_period * terms.period_count
    if not _covers(commitment, first, count):
        replay.checks.fail(SUBJECT, "days of a forecast", where, "the ISPs of the session", commitment.first_isp)
        return None
    replay.checks.passed("evidence", 1)
    shares = []
    for start in range(first, first + count, terms.isps_per_period):
        net_wh = sum(forecast[start : start + terms.isps_per_period])
        shares.append((share_down(max(net_wh, 0), share_bps), share_down(max(-net_wh, 0), share_bps)))
    return shares


def _forecast(replay: Replay, connection_id: bytes, commitment_id: int) -> list[int] | str:
    """Committed forecast of the connection's meter; the event does not say which, when there were several."""
    meters = [m for m, meter in replay.model.meters.items() if meter.connection_id == connection_id]
    found: list[int] | str = "no meter"
    for meter_id in reversed(meters):
        found = replay.archive.committed_curve(commitment_id, meter_id)
        if not isinstance(found, str):
            break
    return found


def _covers(commitment: Commitment, first: int, count: int) -> bool:
    return first >= 0 and first + count <= commitment.isp_count


def _where(event: Event, session_id: int | None = None) -> str:
    session = "" if session_id is None else f"session {session_id}, "
    return at(event, f"{session}connection 0x{event.args['connectionId'].hex()}")


HANDLERS = {
    ("TradingRules", "RuleRegistered"): rule_registered,
    ("TradingRules", "RuleRevoked"): rule_revoked,
    ("TradingRules", "PlacedByRule"): placed_by_rule,
}
