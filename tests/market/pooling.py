"""The post-delivery pool on top of meters: pools of one delivery, members, trades, reports, payments."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from offchain.chain.signatures import (
    CANCELLATION,
    JOINING,
    TRADE,
    pool_domain,
    sign,
    trades_domain,
)
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import unpack_bundle
from offchain.market.pool import Mechanism, PoolTerms, Trade, metered_periods, position, traded_wh
from offchain.market.terms import EnergyType
from tests.market.settling import ISPS, Readings, SettlingWorld
from tests.market.world import FAR_FUTURE, OPENING, Trader
from tests.utils.evm import CHAIN_ID

FIRST_ISP = OPENING // SECONDS_PER_ISP + 8
TERMS = PoolTerms(
    mechanism=Mechanism.MID_MARKET_RATE,
    retail_price=300_000,
    feed_in_price=81_000,
    retail_weight_bps=0,
    compensation=0,
    price_step=1_000,
    first_isp=FIRST_ISP,
    isps_per_period=2,
    period_count=4,
    join_by=FIRST_ISP * SECONDS_PER_ISP - 900,
    trade_by=(FIRST_ISP + ISPS) * SECONDS_PER_ISP,
    report_by=(FIRST_ISP + ISPS) * SECONDS_PER_ISP + 86_400,
    budget=10_000_000,
)
"""Four half hours; trading until the end of the metered day."""
DEPOSIT = 5_000_000


class PoolWorld(SettlingWorld):
    def __init__(self):
        super().__init__()
        admin = self.admin.address

        def deploy(name: str, *arguments):
            plain = [getattr(argument, "address", argument) for argument in arguments]
            return self.evm.deploy(name, *plain, sender=admin)

        authority, participants, grid, house = self.authority, self.participants, self.grid, self.house
        self.pool = deploy("PostDeliveryPool", authority, participants, grid, house)
        self.pool_relay = deploy("PoolRelay", grid, self.pool)
        self.trades = deploy("BilateralTrades", authority, participants, self.pool, self.producers, house)
        self.reports = deploy("PoolReports", self.pool, self.trades, self.settlement)
        for host, module in (
            (house, self.pool),
            (house, self.trades),
            (self.pool, self.reports),
            (self.pool, self.pool_relay),
            (self.pool, self.module),
        ):
            host.setModule(module.address, True, sender=admin)

    def open_pool(self, terms: PoolTerms = TERMS, **changed) -> "OpenPool":
        terms = replace(terms, **changed)
        return OpenPool(self, self.pool.open(terms.as_tuple(), sender=self.operator.address), terms)

    @property
    def money(self) -> int:
        """All free balances of those who take part."""
        people = [self.operator, self.outsider, self.meter_operator, *self.traders]
        return sum(self.house.balanceOf(person.address) for person in people)


class OpenPool:
    """A pool of a :class:`PoolWorld`, with short names for its steps."""

    def __init__(self, world: PoolWorld, pool_id: int, terms: PoolTerms):
        self.world, self.id, self.terms, self.first_isp = world, pool_id, terms, terms.first_isp
        self.pot_id = world.pool.potLockId(pool_id)
        self.trades: list[Trade] = []
        self.limits: dict[Trader, tuple[int, int]] = {}
        self.deposits: dict[Trader, int] = {}

    @property
    def pot(self) -> int:
        return self.world.house.lockOf(self.pot_id)

    def state(self) -> dict[str, Any]:
        return self.world.pool.pool(self.id)

    def member(self, trader: Trader) -> dict[str, Any]:
        return self.world.pool.memberOf(self.id, trader.connection)

    # ---------------------------------------------------------------- joining and trading

    def join(self, trader: Trader, deposit: int = DEPOSIT, limits=(0, 0), *, sender: str | None = None) -> None:
        self.world.pool.join(self.id, trader.connection, deposit, *limits, sender=sender or trader.address)
        self.limits[trader], self.deposits[trader] = limits, deposit

    def signed_joining(self, trader: Trader, *, deadline=FAR_FUTURE, by=None, **changed) -> dict[str, Any]:
        fields = {"connectionId": trader.connection, "deposit": DEPOSIT, "buyTick": 0, "sellTick": 0}
        message = {"poolId": self.id, **fields, "deadline": deadline} | changed
        digest = JOINING.digest(pool_domain(CHAIN_ID, self.world.pool_relay.address), message)
        return {**fields, "deadline": deadline, "signature": sign(digest, (by or trader).key)}

    def trade(self, seller: Trader, buyer: Trader, quantities: Sequence[int], price: int = 150_000, **changed) -> Trade:
        """A trade that is not registered."""
        trade = Trade(
            *(self.id, seller.connection, buyer.connection, price),
            *(EnergyType.BROWN, FAR_FUTURE, len(self.trades), tuple(quantities)),
        )
        return replace(trade, **changed)

    def id_of(self, trade: Trade) -> bytes:
        return TRADE.hash(trade.as_message())

    def sign_trade(self, trade: Trade, trader: Trader) -> bytes:
        domain = trades_domain(CHAIN_ID, self.world.trades.address)
        return sign(TRADE.digest(domain, trade.as_message()), trader.key)

    def sign_cancellation(self, trade: Trade, trader: Trader) -> bytes:
        domain = trades_domain(CHAIN_ID, self.world.trades.address)
        return sign(CANCELLATION.digest(domain, {"tradeId": self.id_of(trade)}), trader.key)

    def signers(self, trade: Trade) -> tuple[Trader, Trader]:
        by_connection = {trader.connection: trader for trader in self.world.traders}
        return by_connection[trade.seller_connection_id], by_connection[trade.buyer_connection_id]

    def register(self, trade: Trade) -> Trade:
        signatures = [self.sign_trade(trade, trader) for trader in self.signers(trade)]
        self.world.trades.register(trade.as_tuple(), *signatures, sender=self.world.outsider.address)
        self.trades.append(trade)
        return trade

    def cancel(self, trade: Trade) -> None:
        signatures = [self.sign_cancellation(trade, trader) for trader in self.signers(trade)]
        self.world.trades.cancel(trade.as_tuple(), *signatures, sender=self.world.outsider.address)
        self.trades.remove(trade)

    def trades_of(self, trader: Trader) -> list[Trade]:
        """Registered trades, ascending by id."""
        own = [t for t in self.trades if trader.connection in (t.seller_connection_id, t.buyer_connection_id)]
        return sorted(own, key=self.id_of)

    # ---------------------------------------------------------------- meters and reports

    def anchor(self, readings: dict[Trader, Readings]) -> dict[Trader, dict[str, Any]]:
        """Anchors a metered day that begins with the pool; evidence by trader, usable when this returns."""
        return self.world.anchor(self, readings)

    def report(
        self,
        trader: Trader,
        *evidence: dict[str, Any],
        trades: Sequence[Trade] | None = None,
        positions: Sequence[dict[str, Any]] = (),
    ) -> bytes:
        brought = [t.as_tuple() for t in (self.trades_of(trader) if trades is None else trades)]
        return self.world.reports.report(
            self.id, trader.connection, brought, list(positions), list(evidence), sender=self.world.outsider.address
        )

    def settle_unreported(self, trader: Trader) -> dict[str, Any]:
        self.world.reports.settleUnreported(
            self.id,
            trader.connection,
            [t.as_tuple() for t in self.trades_of(trader)],
            sender=self.world.outsider.address,
        )
        return self.world.evm.event("MemberSettled")

    def expected_position(self, trader: Trader, values: Readings) -> tuple[np.ndarray, int]:
        """Position and credit by the twin."""
        sold, bought, credit = traded_wh(self.terms, trader.connection, self.trades_of(trader))
        metered = metered_periods(self.terms, values)
        book = position(self.terms, self.deposits[trader], self.limits[trader], metered, sold, bought)
        return book, self.deposits[trader] + credit

    # ---------------------------------------------------------------- prices and payments

    def end_reports(self) -> None:
        self.world.evm.now = self.terms.report_by + 1

    def clear(self, max_ticks: int = 2**256 - 1) -> bool:
        return self.world.pool.clear(self.id, 0, self.terms.period_count - 1, max_ticks)

    def fix_prices(self) -> dict[str, Any]:
        self.world.pool.fixPrices(self.id)
        return self.world.evm.event("PoolPriced")

    def claim(self, trader: Trader, packed: bytes, prices: bytes = b"") -> dict[str, Any]:
        self.world.pool.claim(self.id, trader.connection, packed, prices, sender=self.world.outsider.address)
        return self.world.evm.event("MemberSettled")

    def close(self) -> int:
        self.world.pool.close(self.id)
        return self.world.evm.event("PoolClosed")["residual"]

    def run(self, readings: dict[Trader, Readings]) -> tuple[dict[Trader, int], dict[str, Any]]:
        """From joined members to payments: net by trader, and what {PoolPriced} told."""
        evidence = self.anchor(readings)
        positions = {trader: self.report(trader, evidence[trader]) for trader in readings}
        self.clear()
        priced = self.fix_prices()
        return {t: self.claim(t, packed, priced["prices"])["net"] for t, packed in positions.items()}, priced

    def book(self, packed: bytes) -> list[tuple[int, int, int, int]]:
        """Rows (period, sell, tick, Wh) of a position."""
        return [tuple(map(int, row)) for row in unpack_bundle(self.terms.grid, packed)] if packed else []


def periods(*net_wh: int) -> list[tuple[int, int]]:
    """Readings of which each period has that export less import [Wh], all in its first ISP."""
    readings = []
    for net in net_wh:
        readings += [(max(-net, 0), max(net, 0)), (0, 0)]
    return readings
