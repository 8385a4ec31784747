"""Positions, prices and payments of post-delivery pools, recomputed.

Written from the rules in ``interfaces/IPostDeliveryPool.sol``, ``IBilateralTrades.sol`` and ``IPoolReports.sol``, apart
from the twin in :mod:`offchain.market.pool`: integers in place of fractions, orders one by one. Shared are the rounding
functions and the record types.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from offchain.audit.market_verdicts import OPEN, Books, Order, clear, filled_wh
from offchain.domain.units import BPS, WH_PER_KWH, cost_down, cost_up
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.pool import Mechanism, PoolTerms, Trade

ORDER_BYTES = 8


class Side(NamedTuple):
    """Money of one party of a trade [uToken]."""

    locked: int
    credit: int


def sides_of(terms: PoolTerms, trade: Trade) -> tuple[Side, Side]:
    """What seller and buyer lock for a trade, and what of it is theirs in the end with what the trade brings."""
    energy = sum(trade.quantities_wh)
    for_demand = cost_up(energy, terms.retail_price)
    for_surplus = cost_up(energy, -terms.feed_in_price) if terms.feed_in_price < 0 else 0
    if trade.price < 0:
        paid, received = cost_up(energy, -trade.price), cost_down(energy, -trade.price)
        return Side(for_demand + paid, for_demand), Side(for_surplus, for_surplus + received)
    paid, received = cost_up(energy, trade.price), cost_down(energy, trade.price)
    return Side(for_demand, for_demand + received), Side(for_surplus + paid, for_surplus)


def traded(terms: PoolTerms, connection_id: bytes, trades: Iterable[Trade]) -> tuple[list[int], list[int], int]:
    """Sold and bought energy per period [Wh] and credit [uToken] from the trades of a connection."""
    sold, bought, credit = [0] * terms.period_count, [0] * terms.period_count, 0
    for trade in trades:
        seller, buyer = sides_of(terms, trade)
        own, side = (sold, seller) if trade.seller_connection_id == connection_id else (bought, buyer)
        own[:] = [before + more for before, more in zip(own, trade.quantities_wh, strict=True)]
        credit += side.credit
    return sold, bought, credit


def position_of(
    terms: PoolTerms,
    deposit: int,
    limits: tuple[int, int],
    readings: Sequence[tuple[int, int] | None],
    sold_wh: Sequence[int],
    bought_wh: Sequence[int],
) -> bytes:
    """Packed position of a member.

    Parameters
    ----------
    readings : sequence of (int, int) or None
        Import and export that no position in an auction used, per ISP [Wh]; ``None`` where missing.
    """
    thousandths = deposit * WH_PER_KWH
    packed = b""
    for period in range(terms.period_count):
        isps = readings[period * terms.isps_per_period :][: terms.isps_per_period]
        own = sum(reading[1] - reading[0] for reading in isps if reading)
        short = sold_wh[period] - own  # beyond what it gave itself
        if short >= bought_wh[period]:
            sells, energy, covered, price = 0, short - bought_wh[period], sold_wh[period], terms.retail_price
        else:
            # A missing reading: what was bought goes against what is short, and is gone.
            energy = -min(short, 0) if None in isps else bought_wh[period] - short
            sells, covered, price = 1, bought_wh[period], -terms.feed_in_price
        if price > 0:
            open_wh = max(energy - covered, 0)
            served = min(open_wh, thousandths // price)
            thousandths -= served * price
            energy -= open_wh - served
        if energy:
            packed += bytes((period, sells)) + limits[sells].to_bytes(2) + energy.to_bytes(4)
    return packed


def orders_of(packed: bytes) -> list[Order]:
    """Orders of a position; ``product`` is the delivery period."""
    rows = [packed[i : i + ORDER_BYTES] for i in range(0, len(packed), ORDER_BYTES)]
    return [Order(row[0], row[1], int.from_bytes(row[2:4]), int.from_bytes(row[4:])) for row in rows]


def sums_of(terms: PoolTerms, positions: Iterable[bytes]) -> list[tuple[int, int]]:
    """Demand and surplus of each period [Wh]."""
    sums = [[0, 0] for _ in range(terms.period_count)]
    for packed in positions:
        for order in orders_of(packed):
            sums[order.product][order.sell] += order.quantity_wh
    return [(demand, surplus) for demand, surplus in sums]


def result_of(terms: PoolTerms, positions: Iterable[bytes], period: int) -> Clearing:
    """Clearing of a period of a tick book."""
    books = Books()
    for number, packed in enumerate(positions):
        books.put(number.to_bytes(4), orders_of(packed))
    return clear(terms.grid, books.levels(period, 1), books.levels(period, 0))


def surplus_price(
    terms: PoolTerms, sums: Sequence[tuple[int, int]], results: Mapping[int, Clearing], reports: int
) -> int:
    """Feed-in price that the budget suffices for [uToken/kWh]."""
    left = sum(surplus for _, surplus in sums)
    if terms.mechanism is Mechanism.TICK_BOOK:
        for result in results.values():
            lost = reports if result.kind is ClearingClass.MARGINAL_SELLER else 0
            left -= max(result.volume_wh - lost, 0)
    else:
        left -= sum(min(pair) for pair in sums)
    if terms.feed_in_price <= 0 or left == 0:
        return terms.feed_in_price
    return min(terms.feed_in_price, terms.budget * WH_PER_KWH // left)


def shared_prices(terms: PoolTerms, surplus: int, demand_wh: int, supply_wh: int) -> tuple[int, int]:
    """Prices of buyers and sellers [uToken/kWh] in a period of a pool that is no tick book."""
    retail, feed_in = terms.retail_price, terms.feed_in_price
    shared = min(demand_wh, supply_wh)
    if terms.mechanism is Mechanism.MID_MARKET_RATE:
        above, below = retail + feed_in, 2
    elif terms.mechanism is Mechanism.INTERMEDIATE_RATE:
        weight = terms.retail_weight_bps
        above, below = weight * retail + (BPS - weight) * feed_in, BPS
    elif supply_wh >= demand_wh:
        above, below = feed_in + terms.compensation, 1
    else:
        lowest = feed_in + terms.compensation
        above = retail * lowest * demand_wh
        below = retail * supply_wh + lowest * (demand_wh - supply_wh)
    buyers, sellers = retail, surplus
    if demand_wh:
        buyers = -(-(shared * above + (demand_wh - shared) * retail * below) // (demand_wh * below))
    if supply_wh:
        sellers = (shared * above + (supply_wh - shared) * surplus * below) // (supply_wh * below)
    return buyers, sellers


def net_of(
    terms: PoolTerms,
    surplus: int,
    prices: Sequence[tuple[int, int]],
    results: Mapping[int, Clearing],
    packed: bytes,
) -> int:
    """What the pool pays for a position, below zero what it takes [uToken]."""
    thousandths = 0
    for order in orders_of(packed):
        if terms.mechanism is Mechanism.TICK_BOOK:
            result = results.get(order.product, OPEN)
            filled = filled_wh(result, order)
            outside = surplus if order.sell else terms.retail_price
            money = filled * result.price + (order.quantity_wh - filled) * outside
        else:
            money = order.quantity_wh * prices[order.product][order.sell]
        thousandths += money if order.sell else -money
    return thousandths // WH_PER_KWH


def debt_of(terms: PoolTerms, sold_wh: Sequence[int], bought_wh: Sequence[int]) -> int:
    """What a member without report owes [uToken]."""
    return cost_up(sum(s - b for s, b in zip(sold_wh, bought_wh, strict=True) if s > b), terms.retail_price)
