"""Bilateral trades and post-delivery pools: positions from meters and trades, prices and payments, all recomputed.

Every rule checks an event against what stood before it; :func:`offchain.market.pool_replay.apply_pool_event` then takes
it into the model. The formulas are those of :mod:`offchain.audit.pool_verdicts`. Signatures of trades and joinings are
not in the events: the contracts checked them.
"""

from dataclasses import asdict

from offchain.audit.model import Role
from offchain.audit.pool_verdicts import (
    debt_of,
    net_of,
    position_of,
    result_of,
    shared_prices,
    sides_of,
    sums_of,
    surplus_price,
    traded,
)
from offchain.audit.replay import Handler, Replay, at
from offchain.audit.rules.energy_market import ANYWHERE, GREEN_CLASSES, left_of
from offchain.chain.events import Event
from offchain.domain.curves import pack_baseline
from offchain.domain.errors import DomainError
from offchain.market.pool import MAX_TRADES, Mechanism, MemberState, Trade
from offchain.market.pool_replay import MemberRecord, PoolRecord, apply_pool_event, pool_terms_of, trade_id_of
from offchain.market.replay import unpack_result
from offchain.market.terms import EnergyType

POOL, TRADES = "post-delivery pools", "bilateral trades"


def applied(check: Handler) -> Handler:
    """A rule about a pool, and then what its event changes."""

    def handler(replay: Replay, event: Event) -> None:
        try:
            check(replay, event)
            apply_pool_event(replay.model.pools, event)
        except DomainError as error:
            replay.checks.fail(POOL, "terms or curve of a pool", at(event), "within the rules", error)

    return handler


def pool_opened(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    pool_id, operator, terms = args["poolId"], args["operator"], pool_terms_of(args["terms"])
    where = at(event, f"pool {pool_id}")
    replay.checks.equal(POOL, "number of a pool", where, len(model.pools) + 1, pool_id)
    replay.require_role(POOL, operator, Role.MARKET_OPERATOR, where)
    _until(replay, event, "time of opening", terms.join_by, where)
    if terms.congestion_point_id != ANYWHERE:
        point = replay.find(model.congestion_points, terms.congestion_point_id, "congestion point")
        replay.rule(POOL, "area of a pool", where, point.active, "in service", "out of service")
    replay.pay(operator, _pot(replay, pool_id), terms.budget)


def member_joined(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    args, terms = event.args, pool.terms
    connection = replay.find(replay.model.connections, args["connectionId"], "connection")
    _until(replay, event, "time of joining", terms.join_by, where)
    replay.rule(POOL, "joined twice", where, args["connectionId"] not in pool.members, "one membership", "another")
    replay.checks.equal(POOL, "account of a member", where, connection.owner, args["account"])
    replay.require_role(POOL, args["account"], Role.PROSUMER, where)
    replay.rule(POOL, "connection of a member", where, connection.active, "in service", "out of service")
    if terms.congestion_point_id != ANYWHERE:
        replay.checks.equal(POOL, "area of a member", where, terms.congestion_point_id, connection.congestion_point_id)
    ticks, limits = terms.grid.tick_count, (args["buyTick"], args["sellTick"])
    replay.rule(POOL, "limit prices of a member", where, max(limits) < ticks, f"below {ticks}", limits)
    replay.pay(args["account"], _pot(replay, pool.id), args["deposit"])


def trade_registered(replay: Replay, event: Event) -> None:
    trade = Trade.of(event.args["trade"])
    pool = replay.find(replay.model.pools, trade.pool_id, "pool")
    trade_id = event.args["tradeId"]
    where = at(event, f"pool {pool.id}")
    replay.checks.equal(TRADES, "id of a trade", where, trade_id_of(trade), trade_id)
    for name, expected in (("seller", trade.seller_connection_id), ("buyer", trade.buyer_connection_id)):
        replay.checks.equal(TRADES, f"{name} of a trade", where, expected, event.args[f"{name}ConnectionId"])
    known = trade_id in pool.trades or trade_id in pool.cancelled
    replay.rule(TRADES, "registered twice", where, not known, "one registration", "another")
    _until(replay, event, "time of a trade", min(pool.terms.trade_by, trade.valid_until), where)
    seller, buyer = (
        replay.find(pool.members, c, "member") for c in (trade.seller_connection_id, trade.buyer_connection_id)
    )
    for member in (seller, buyer):
        replay.require_role(TRADES, member.account, Role.PROSUMER, where)
        count = len(pool.trades_of(member.connection_id)) + 1
        replay.rule(TRADES, "trades of a connection", where, count <= MAX_TRADES, f"at most {MAX_TRADES}", count)
    replay.rule(TRADES, "parties of a trade", where, seller is not buyer, "two connections", "one")
    quantities = len(trade.quantities_wh), trade.energy_wh > 0
    replay.checks.equal(TRADES, "quantities of a trade", where, (pool.terms.period_count, True), quantities)
    green = replay.model.producer_classes.get(seller.connection_id, 0) in GREEN_CLASSES
    fits = green or trade.energy_type is EnergyType.BROWN
    replay.rule(TRADES, "seller of green energy", where, fits, "a green producer", "another")
    for member, side in zip((seller, buyer), sides_of(pool.terms, trade), strict=True):
        replay.pay(member.account, _pot(replay, pool.id), side.locked)


def trade_cancelled(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    trade = replay.find(pool.trades, event.args["tradeId"], "trade")
    _until(replay, event, "time of cancelling", pool.terms.trade_by, where)
    connections = trade.seller_connection_id, trade.buyer_connection_id
    for connection_id, side in zip(connections, sides_of(pool.terms, trade), strict=True):
        replay.pay(_pot(replay, pool.id), pool.members[connection_id].account, side.locked)


def member_reported(replay: Replay, event: Event) -> None:
    pool, _ = _pool(replay, event)
    replay.find(pool.members, event.args["connectionId"], "member")


def position_reported(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    args, terms = event.args, pool.terms
    member = _member(replay, pool, event, MemberState.JOINED, where)
    replay.rule(
        POOL,
        "time of a report",
        where,
        terms.reports_from <= event.timestamp <= terms.report_by,
        f"{terms.reports_from} .. {terms.report_by}",
        event.timestamp,
    )
    sold, bought, credit = traded(terms, member.connection_id, pool.trades_of(member.connection_id))
    replay.checks.equal(POOL, "credit of a member", where, member.deposit + credit, args["credit"])
    left = left_of(replay, terms.span, member.connection_id, event.timestamp, where)
    if left is not None:
        expected = position_of(terms, member.deposit, member.limits, left, sold, bought)
        replay.checks.equal(POOL, "position of a member", where, expected, args["position"])


def period_cleared(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    period = event.args["period"]
    _require_pricing(replay, event, pool, where)
    replay.rule(POOL, "period cleared twice", where, period not in pool.results, "one result", "another")
    expected = result_of(pool.terms, _positions(pool), period)
    found = unpack_result(pool.terms.grid, event.args["result"])
    replay.checks.equal("clearings", f"result of period {period}", where, asdict(expected), asdict(found))


def pool_priced(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    args, terms = event.args, pool.terms
    _require_pricing(replay, event, pool, where)
    replay.rule(POOL, "priced twice", where, pool.surplus_price is None, "prices once", "again")
    positions = _positions(pool)
    sums = sums_of(terms, positions)
    expected = surplus_price(terms, sums, pool.results, len(positions))
    replay.checks.equal(POOL, "price of the surplus", where, expected, args["surplusPrice"])
    if terms.mechanism is Mechanism.TICK_BOOK:
        occupied = [period for period, pair in enumerate(sums) if any(pair)]
        replay.checks.equal(POOL, "periods cleared", where, occupied, sorted(pool.results))
        prices = b""
    else:
        prices = pack_baseline([price for pair in sums for price in shared_prices(terms, expected, *pair)])
    replay.checks.equal(POOL, "prices of a pool", where, prices, args["prices"])


def member_settled(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    args, terms = event.args, pool.terms
    member = replay.find(pool.members, args["connectionId"], "member")
    replay.checks.equal(POOL, "account of a payment", where, member.account, args["account"])
    replay.rule(POOL, "settled twice", where, member.state is not MemberState.SETTLED, "one payment", "another")
    if member.state is MemberState.JOINED:
        due = terms.report_by
        replay.rule(POOL, "time of a debt", where, event.timestamp > due, f"after {due}", event.timestamp)
        sold, bought, credit = traded(terms, member.connection_id, pool.trades_of(member.connection_id))
        credit, net = member.deposit + credit, -debt_of(terms, sold, bought)
    else:
        replay.rule(POOL, "paid before prices", where, pool.surplus_price is not None, "fixed prices", "none")
        credit = member.credit
        net = net_of(terms, pool.surplus_price or 0, pool.shared_prices, pool.results, member.position or b"")
    replay.checks.equal(POOL, "net payment of a member", where, net, args["net"])
    replay.checks.equal(POOL, "payout of a member", where, credit + net, args["payout"])
    replay.pay(_pot(replay, pool.id), member.account, credit + net)


def pool_closed(replay: Replay, event: Event) -> None:
    pool, where = _pool(replay, event)
    join_by = pool.terms.join_by
    replay.rule(POOL, "time of closing", where, event.timestamp > join_by, f"after {join_by}", event.timestamp)
    replay.checks.equal(POOL, "members left open", where, [], [m.connection_id.hex() for m in pool.open])
    replay.rule(POOL, "closed twice", where, pool.residual is None, "one end", "another")
    pot = _pot(replay, pool.id)
    left = replay.expected_balance(pot)
    replay.checks.equal(POOL, "residual of a pool", where, left, event.args["residual"])
    replay.pay(pot, pool.operator, left)


# -------------------------------------------------------------------------------- inside


def _pool(replay: Replay, event: Event) -> tuple[PoolRecord, str]:
    pool_id = event.args["poolId"]
    pool = replay.find(replay.model.pools, pool_id, "pool")
    connection_id = event.args.get("connectionId")
    thing = f"pool {pool_id}" + (f", connection 0x{connection_id.hex()}" if connection_id else "")
    return pool, at(event, thing)


def _pot(replay: Replay, pool_id: int) -> bytes:
    return replay.lock("PostDeliveryPool", "potLockId", pool_id)


def _member(replay: Replay, pool: PoolRecord, event: Event, state: MemberState, where: str) -> MemberRecord:
    member = replay.find(pool.members, event.args["connectionId"], "member")
    replay.checks.equal(POOL, "state of a member", where, state.name, member.state.name)
    return member


def _until(replay: Replay, event: Event, what: str, until: int, where: str) -> None:
    replay.rule(POOL, what, where, event.timestamp <= until, f"until {until}", event.timestamp)


def _require_pricing(replay: Replay, event: Event, pool: PoolRecord, where: str) -> None:
    """Nothing can be reported any more: past the deadline, or all have reported."""
    complete = len(pool.reported) == len(pool.members) > 0
    over = event.timestamp > pool.terms.report_by
    replay.rule(POOL, "time of prices", where, over or complete, "no report due", "reports due")


def _positions(pool: PoolRecord) -> list[bytes]:
    return [member.position or b"" for member in pool.reported]


HANDLERS = {
    ("PostDeliveryPool", "PoolOpened"): applied(pool_opened),
    ("PostDeliveryPool", "MemberJoined"): applied(member_joined),
    ("BilateralTrades", "TradeRegistered"): applied(trade_registered),
    ("BilateralTrades", "TradeCancelled"): applied(trade_cancelled),
    ("PoolReports", "MemberReported"): member_reported,
    ("PostDeliveryPool", "PositionReported"): applied(position_reported),
    ("PostDeliveryPool", "PeriodCleared"): applied(period_cleared),
    ("PostDeliveryPool", "PoolPriced"): applied(pool_priced),
    ("PostDeliveryPool", "MemberSettled"): applied(member_settled),
    ("PostDeliveryPool", "PoolClosed"): applied(pool_closed),
}
