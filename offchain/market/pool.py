"""Post-delivery pool over integers: positions, prices and payments, equal to the contracts to the last digit.

Twin of ``PostDeliveryPool``, ``BilateralTrades`` and ``PoolReports``; the formulas and their sources stand in
``interfaces/IPostDeliveryPool.sol``, ``IBilateralTrades.sol`` and ``IPoolReports.sol``.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np

from offchain.domain.curves import pack_baseline, pack_quantities, unpack_quantities
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import BPS, WH_PER_KWH, cost_down, cost_up
from offchain.market.clearing import Clearing, ClearingClass, clear_orders, fills
from offchain.market.orders import MAX_PERIODS, ORDER, PriceGrid, orders
from offchain.market.terms import EnergyType, Span


class Mechanism(IntEnum):
    """``IPostDeliveryPool.Mechanism``: how shared energy is priced."""

    MID_MARKET_RATE = 0
    INTERMEDIATE_RATE = 1
    SUPPLY_DEMAND_RATIO = 2
    TICK_BOOK = 3


MAX_TRADES = 64
"""Registered trades of a connection in a pool, at most: a report brings all of them."""


class MemberState(IntEnum):
    """``IPostDeliveryPool.MemberState``."""

    NONE = 0
    JOINED = 1
    REPORTED = 2
    SETTLED = 3


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """Terms of a pool; fields and order as in ``IPostDeliveryPool.Terms``, prices in uToken/kWh, times UTC seconds."""

    mechanism: Mechanism
    retail_price: int
    feed_in_price: int
    retail_weight_bps: int
    compensation: int
    price_step: int
    first_isp: int
    isps_per_period: int
    period_count: int
    join_by: int
    trade_by: int
    report_by: int
    budget: int
    congestion_point_id: bytes = bytes(32)

    def __post_init__(self):
        if not 1 <= self.period_count <= MAX_PERIODS or self.isps_per_period < 1:
            raise DomainError(
                f"pool of {self.period_count} periods of {self.isps_per_period} ISPs",
                hint=f"1 to {MAX_PERIODS} periods of at least one ISP",
            )
        if self.retail_price <= 0 or self.feed_in_price > self.retail_price:
            raise DomainError(
                f"feed-in price {self.feed_in_price}, retail price {self.retail_price} uToken/kWh",
                hint="the retail price is above zero and not below the feed-in price",
            )
        if self.mechanism is Mechanism.INTERMEDIATE_RATE and not 0 <= self.retail_weight_bps <= BPS:
            raise DomainError(
                f"weight of the retail price {self.retail_weight_bps} basis points",
                hint=f"retail_weight_bps is 0 to {BPS}",
            )
        lowest = self.feed_in_price + self.compensation
        if self.mechanism is Mechanism.SUPPLY_DEMAND_RATIO and not 0 < lowest <= self.retail_price:
            raise DomainError(
                f"lowest price of shared energy {lowest} uToken/kWh",
                hint="feed_in_price + compensation is above zero and at most the retail price",
            )
        if not (self.join_by <= self.delivery_start and self.join_by <= self.trade_by):
            raise DomainError(
                f"joining until {self.join_by}, trading until {self.trade_by}, delivery from {self.delivery_start}",
                hint="join_by comes first",
            )
        if self.report_by <= max(self.trade_by, self.delivery_end):
            raise DomainError(
                f"reports until {self.report_by}, trading until {self.trade_by}, delivery until {self.delivery_end}",
                hint="report_by comes last",
            )

    @property
    def delivery_start(self) -> int:
        return self.first_isp * SECONDS_PER_ISP

    @property
    def delivery_end(self) -> int:
        return (self.first_isp + self.isps_per_period * self.period_count) * SECONDS_PER_ISP

    @property
    def span(self) -> Span:
        return Span(self.first_isp, self.isps_per_period, self.period_count)

    @property
    def reports_from(self) -> int:
        """First second at which members can be reported."""
        return max(self.delivery_end, self.trade_by + 1)

    @property
    def grid(self) -> PriceGrid:
        """Grid of the limit prices; a single tick unless the mechanism is the tick book."""
        if self.mechanism is not Mechanism.TICK_BOOK:
            return PriceGrid(self.feed_in_price, 1, 1, self.period_count)
        if self.price_step < 1:
            raise DomainError(f"price step of {self.price_step} uToken/kWh", hint="at least 1")
        ticks = (self.retail_price - self.feed_in_price) // self.price_step + 1
        return PriceGrid(self.feed_in_price, self.price_step, ticks, self.period_count)

    def as_tuple(self) -> tuple:
        """Argument of the contract."""
        return astuple(self)


@dataclass(frozen=True, slots=True)
class Trade:
    """A bilateral trade; fields and order as in ``IBilateralTrades.Trade``.

    Parameters
    ----------
    price : int
        uToken/kWh, below zero the seller pays.
    valid_until : int
        Last second at which it can be registered [UTC s].
    quantities_wh : tuple of int
        Energy per delivery period [Wh].
    """

    pool_id: int
    seller_connection_id: bytes
    buyer_connection_id: bytes
    price: int
    energy_type: EnergyType
    valid_until: int
    salt: int
    quantities_wh: tuple[int, ...]

    @property
    def energy_wh(self) -> int:
        return sum(self.quantities_wh)

    @property
    def quantities(self) -> bytes:
        """Quantities as the contracts read them."""
        return pack_quantities(self.quantities_wh)

    def as_tuple(self) -> tuple:
        """Argument of the contract."""
        return (
            *(self.pool_id, self.seller_connection_id, self.buyer_connection_id, self.price),
            *(int(self.energy_type), self.valid_until, self.salt, self.quantities),
        )

    def as_message(self) -> dict:
        """EIP-712 message, fields as in the contract."""
        names = (
            *("poolId", "sellerConnectionId", "buyerConnectionId", "price"),
            *("energyType", "validUntil", "salt", "quantities"),
        )
        return dict(zip(names, self.as_tuple(), strict=True))

    @classmethod
    def of(cls, fields: dict) -> "Trade":
        """Trade as an event or a message carries it."""
        *plain, energy_type, valid_until, salt, quantities = fields.values()
        return cls(*plain, EnergyType(energy_type), valid_until, salt, tuple(unpack_quantities(quantities)))


class Metered(NamedTuple):
    """What a connection took and gave in a delivery period [Wh]; ``incomplete`` when an ISP has no reading."""

    import_wh: int
    export_wh: int
    incomplete: bool = False


def metered_periods(terms: PoolTerms, readings: Sequence[tuple[int, int] | None]) -> list[Metered]:
    """Sums of the delivery periods.

    Parameters
    ----------
    readings : sequence of (int, int) or None
        Import and export that no position in an auction used, per ISP of the pool [Wh]; ``None`` where missing.
    """
    count = terms.isps_per_period * terms.period_count
    if len(readings) != count:
        raise DomainError(f"{len(readings)} metered ISPs for a pool of {count}")
    periods = []
    for first in range(0, count, terms.isps_per_period):
        known = [reading for reading in readings[first : first + terms.isps_per_period] if reading is not None]
        imported, exported = sum(i for i, _ in known), sum(x for _, x in known)
        periods.append(Metered(imported, exported, len(known) < terms.isps_per_period))
    return periods


class TradeAmounts(NamedTuple):
    """Money of a trade [uToken]: what each party locks, and what it has coming to it later."""

    seller_escrow: int
    buyer_escrow: int
    seller_credit: int
    buyer_credit: int


def trade_amounts(terms: PoolTerms, trade: Trade) -> TradeAmounts:
    """Escrow and credit of both parties."""
    energy, price = trade.energy_wh, trade.price
    seller, buyer = cost_up(energy, terms.retail_price), cost_up(energy, max(-terms.feed_in_price, 0))
    return TradeAmounts(
        seller + cost_up(energy, max(-price, 0)),
        buyer + cost_up(energy, max(price, 0)),
        seller + cost_down(energy, max(price, 0)),
        buyer + cost_down(energy, max(-price, 0)),
    )


def traded_wh(terms: PoolTerms, connection_id: bytes, trades: Sequence[Trade]) -> tuple[list[int], list[int], int]:
    """Sold and bought energy per period [Wh], and the credit from all trades of a connection [uToken]."""
    sold, bought, credit = [0] * terms.period_count, [0] * terms.period_count, 0
    for trade in trades:
        amounts = trade_amounts(terms, trade)
        sells = trade.seller_connection_id == connection_id
        side = sold if sells else bought
        for period, quantity in enumerate(trade.quantities_wh):
            side[period] += quantity
        credit += amounts.seller_credit if sells else amounts.buyer_credit
    return sold, bought, credit


def position(
    terms: PoolTerms,
    deposit: int,
    limits: tuple[int, int],
    metered: Sequence[Metered],
    sold_wh: Sequence[int],
    bought_wh: Sequence[int],
) -> np.ndarray:
    """What a member has left and lacks: orders of the pool, one for each period that is not zero.

    Parameters
    ----------
    deposit : int
        uToken.
    limits : tuple of int
        Ticks of the highest price for buying and the lowest for selling.
    metered, sold_wh, bought_wh : sequences, shape (period_count,)
        Meter and bilateral trades [Wh].
    """
    left, rows = deposit * WH_PER_KWH, []
    for period, (meter, sold, bought) in enumerate(zip(metered, sold_wh, bought_wh, strict=True)):
        unsold = meter.export_wh - meter.import_wh - sold
        rest = unsold + bought
        if meter.incomplete:
            rest = min(rest, max(unsold, 0))
        sells = rest > 0
        covered, worst = (bought, max(-terms.feed_in_price, 0)) if sells else (sold, terms.retail_price)
        energy = abs(rest)
        if worst and energy > covered:
            admitted = min(energy - covered, left // worst)
            left -= admitted * worst
            energy = covered + admitted
        if energy:
            rows.append((period, int(sells), limits[int(sells)], energy))
    return orders(rows)


def unreported_debt(terms: PoolTerms, sold_wh: Sequence[int], bought_wh: Sequence[int]) -> int:
    """What a member owes that nobody reported until the deadline [uToken]."""
    short = sum(max(sold - bought, 0) for sold, bought in zip(sold_wh, bought_wh, strict=True))
    return cost_up(short, terms.retail_price)


@dataclass(frozen=True, slots=True)
class PoolPrices:
    """Prices of a pool, when they are fixed.

    Attributes
    ----------
    surplus_price : int
        Of what nobody in the pool takes [uToken/kWh].
    shared : list of (int, int)
        Per period the price of buyers and that of sellers [uToken/kWh]; empty in a tick book.
    clearings : list of Clearing
        Result per period of a tick book; empty otherwise.
    """

    surplus_price: int
    shared: list[tuple[int, int]]
    clearings: list[Clearing]

    @property
    def packed(self) -> bytes:
        """Shared prices as ``PoolPriced`` tells them."""
        return pack_baseline([price for pair in self.shared for price in pair])


def shared_prices(terms: PoolTerms, surplus_price: int, demand_wh: int, supply_wh: int) -> tuple[int, int]:
    """Prices of buyers and sellers in a period of a pool that is no tick book [uToken/kWh]."""
    retail, feed_in = terms.retail_price, terms.feed_in_price
    if terms.mechanism is Mechanism.MID_MARKET_RATE:
        price = Fraction(retail + feed_in, 2)
    elif terms.mechanism is Mechanism.INTERMEDIATE_RATE:
        price = feed_in + Fraction(terms.retail_weight_bps, BPS) * (retail - feed_in)
    else:
        price = Fraction(feed_in + terms.compensation)
        if supply_wh < demand_wh:
            ratio = Fraction(supply_wh, demand_wh)
            price = retail * price / ((retail - price) * ratio + price)
    shared = min(demand_wh, supply_wh)
    buyers, sellers = retail, surplus_price
    if demand_wh:
        buyers = ceil((shared * price + (demand_wh - shared) * retail) / demand_wh)
    if supply_wh:
        sellers = floor((shared * price + (supply_wh - shared) * surplus_price) / supply_wh)
    return buyers, sellers


def fix_prices(terms: PoolTerms, positions: Sequence[np.ndarray]) -> PoolPrices:
    """Prices from the positions of all members that were reported."""
    book = np.concatenate([*positions, np.empty(0, ORDER)])
    by_period = [book[book["period"] == period] for period in range(terms.period_count)]
    sums = [(_sum(part, sell=0), _sum(part, sell=1)) for part in by_period]
    supply = sum(sold for _, sold in sums)
    if terms.mechanism is Mechanism.TICK_BOOK:
        clearings = [
            clear_orders(terms.grid, part) if len(part) else Clearing(ClearingClass.OPEN) for part in by_period
        ]
        taken = sum(_least_matched_wh(clearing, len(positions)) for clearing in clearings)
        return PoolPrices(_affordable(terms, supply - taken), [], clearings)
    surplus_price = _affordable(terms, supply - sum(map(min, sums)))
    return PoolPrices(surplus_price, [shared_prices(terms, surplus_price, *pair) for pair in sums], [])


def _sum(book: np.ndarray, sell: int) -> int:
    return int(book["quantity_wh"][book["sell"] == sell].astype(np.int64).sum())


def _least_matched_wh(clearing: Clearing, reports: int) -> int:
    lost = reports if clearing.kind is ClearingClass.MARGINAL_SELLER else 0
    return max(clearing.volume_wh - lost, 0)


def _affordable(terms: PoolTerms, left_wh: int) -> int:
    """Feed-in price that the budget suffices for."""
    if terms.feed_in_price <= 0 or not left_wh:
        return terms.feed_in_price
    return min(terms.feed_in_price, terms.budget * WH_PER_KWH // left_wh)


def net_payment(terms: PoolTerms, prices: PoolPrices, book: np.ndarray) -> int:
    """What the pool pays for a position, below zero what it takes [uToken]; one rounding, against the member."""
    money = 0
    for order in book:
        period, sells, energy = int(order["period"]), bool(order["sell"]), int(order["quantity_wh"])
        if prices.shared:
            amount = energy * prices.shared[period][int(sells)]
        else:
            clearing = prices.clearings[period]
            filled = int(fills(clearing, np.array([order], ORDER))[0])
            amount = filled * clearing.price + (energy - filled) * (
                prices.surplus_price if sells else terms.retail_price
            )
        money += amount if sells else -amount
    return money // WH_PER_KWH
