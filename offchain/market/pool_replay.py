"""Post-delivery pools rebuilt from events: terms, members, trades, positions, prices, payments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offchain.chain.events import Event
from offchain.chain.signatures import TRADE
from offchain.domain.curves import unpack_baseline
from offchain.market.clearing import Clearing
from offchain.market.pool import Mechanism, MemberState, PoolTerms, Trade
from offchain.market.replay import unpack_result

CONTRACTS = ("PostDeliveryPool", "BilateralTrades")
"""Whose events tell a pool."""


@dataclass(slots=True)
class MemberRecord:
    """A connection that joined."""

    connection_id: bytes
    account: str
    deposit: int
    limits: tuple[int, int]
    """Ticks of the highest price for buying and of the lowest for selling."""
    state: MemberState = MemberState.JOINED
    position: bytes | None = None
    """``None`` until it is reported; empty when there is neither surplus nor demand."""
    credit: int = 0
    """Deposit, from the report on what {PositionReported} tells [uToken]."""
    net: int | None = None
    payout: int | None = None


@dataclass(slots=True)
class PoolRecord:
    """A pool as its events tell it."""

    id: int
    operator: str
    terms: PoolTerms
    members: dict[bytes, MemberRecord] = field(default_factory=dict)
    trades: dict[bytes, Trade] = field(default_factory=dict)
    """Registered trades that were not cancelled, by id."""
    cancelled: set[bytes] = field(default_factory=set)
    results: dict[int, Clearing] = field(default_factory=dict)
    """Results of a tick book by period."""
    surplus_price: int | None = None
    """``None`` until the prices are fixed."""
    prices: bytes = b""
    residual: int | None = None

    @property
    def first_isp(self) -> int:
        return self.terms.first_isp

    @property
    def shared_prices(self) -> list[tuple[int, int]]:
        """Per period the price of buyers and that of sellers [uToken/kWh]; empty in a tick book."""
        flat = unpack_baseline(self.prices)
        return list(zip(flat[::2], flat[1::2], strict=True))

    @property
    def reported(self) -> list[MemberRecord]:
        """Members with a reported position, settled or not."""
        return [m for m in self.members.values() if m.position is not None]

    @property
    def open(self) -> list[MemberRecord]:
        """Members that are not settled."""
        return [m for m in self.members.values() if m.state is not MemberState.SETTLED]

    def trades_of(self, connection_id: bytes) -> list[Trade]:
        """Trades of a connection, ascending by id, as the contracts want them."""
        own = sorted(
            (trade_id, trade)
            for trade_id, trade in self.trades.items()
            if connection_id in (trade.seller_connection_id, trade.buyer_connection_id)
        )
        return [trade for _, trade in own]


def trade_id_of(trade: Trade) -> bytes:
    """``IBilateralTrades.idOf``."""
    return TRADE.hash(trade.as_message())


def pool_terms_of(fields: Mapping[str, Any]) -> PoolTerms:
    """Terms as an event or a getter carries them: the fields of the struct in their order.

    Raises
    ------
    DomainError
        Terms that the contract would refuse.
    """
    mechanism, *rest = fields.values()
    return PoolTerms(Mechanism(mechanism), *rest)


def replay_pools(events: Iterable[Event]) -> dict[int, PoolRecord]:
    """Pools by id from the events of their contracts; others are passed over."""
    pools: dict[int, PoolRecord] = {}
    for event in events:
        if event.contract in CONTRACTS:
            apply_pool_event(pools, event)
    return pools


def apply_pool_event(pools: dict[int, PoolRecord], event: Event) -> None:
    """What an event about a pool changes; nothing is checked.

    Raises
    ------
    KeyError
        Pool or member that no event before made known.
    """
    args = event.args
    if event.name == "PoolOpened":
        pools[args["poolId"]] = PoolRecord(args["poolId"], args["operator"], pool_terms_of(args["terms"]))
        return
    if event.name == "TradeRegistered":
        trade = Trade.of(args["trade"])
        pools[trade.pool_id].trades[args["tradeId"]] = trade
        return
    if "poolId" not in args:
        return
    pool = pools[args["poolId"]]
    match event.name:
        case "MemberJoined":
            connection_id, deposit = args["connectionId"], args["deposit"]
            limits = args["buyTick"], args["sellTick"]
            pool.members[connection_id] = MemberRecord(connection_id, args["account"], deposit, limits, credit=deposit)
        case "TradeCancelled":
            del pool.trades[args["tradeId"]]
            pool.cancelled.add(args["tradeId"])
        case "PositionReported":
            member = pool.members[args["connectionId"]]
            member.state, member.position, member.credit = MemberState.REPORTED, args["position"], args["credit"]
        case "PeriodCleared":
            pool.results[args["period"]] = unpack_result(pool.terms.grid, args["result"])
        case "PoolPriced":
            pool.surplus_price, pool.prices = args["surplusPrice"], args["prices"]
        case "MemberSettled":
            member = pool.members[args["connectionId"]]
            member.state, member.net, member.payout = MemberState.SETTLED, args["net"], args["payout"]
        case "PoolClosed":
            pool.residual = args["residual"]
