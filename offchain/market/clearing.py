"""Clearing of one delivery period over integers: twin of ``contracts/market/TickBook.sol``, equal in every field.

The contract walks the occupied ticks with two pointers; here both curves are cumulative sums over the grid.
That file holds the derivation of the price rule and of the classes.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from offchain.market.orders import PriceGrid, check_orders

_INT64_MAX = 2**63 - 1


class ClearingClass(IntEnum):
    """``TickBook.Class``."""

    OPEN = 0
    NONE = 1
    MARGINAL_SELLER = 2
    MARGINAL_BUYER = 3
    EXACT = 4


@dataclass(frozen=True, slots=True)
class Clearing:
    """Result of a period, field for field ``TickBook.Result``.

    Parameters
    ----------
    kind : ClearingClass
        Who is rationed: the sellers at ``sell_tick``, the buyers at ``buy_tick``, or nobody.
    price : int
        Midpoint of the equilibrium interval, rounded down [uToken/kWh]; 0 without meaning when nothing is matched.
    volume_wh : int
        Matched volume [Wh].
    sell_tick, buy_tick : int
        Ticks of the last seller and of the last buyer needed.
    low_tick, high_tick : int
        Ends of the equilibrium interval.
    ration_numerator, ration_denominator : int
        Share of the rationed tick that is filled [Wh / Wh]; 0 / 0 when nobody is rationed.
    """

    kind: ClearingClass
    price: int = 0
    volume_wh: int = 0
    sell_tick: int = 0
    buy_tick: int = 0
    low_tick: int = 0
    high_tick: int = 0
    ration_numerator: int = 0
    ration_denominator: int = 0


def levels(grid: PriceGrid, book: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Supply and demand per tick of one period's orders.

    Parameters
    ----------
    book : numpy.ndarray of ``ORDER``, shape (n_orders,)
        Orders of one delivery period, in any sequence.

    Returns
    -------
    supply_wh, demand_wh : numpy.ndarray of int64, shape (tick_count,)
        Quantity per tick [Wh]; exact, as 2^31 orders of 2^32 Wh fit.
    """
    sums = np.zeros(2 * grid.tick_count, np.int64)
    at = book["sell"].astype(np.intp) * grid.tick_count + book["tick"]
    np.add.at(sums, at, book["quantity_wh"].astype(np.int64))
    return sums[grid.tick_count :], sums[: grid.tick_count]


def clear_levels(grid: PriceGrid, supply_wh: np.ndarray, demand_wh: np.ndarray) -> Clearing:
    """Clears a period from the quantities per tick.

    Parameters
    ----------
    supply_wh, demand_wh : numpy.ndarray of int64 or of Python integers, shape (tick_count,)
        Quantity per tick [Wh], each from 0 to 2^64 - 1.
    """
    largest = max(int(supply_wh.max()), int(demand_wh.max()))
    if largest * grid.tick_count > _INT64_MAX:  # the sums need Python's integers
        supply_wh, demand_wh = supply_wh.astype(object), demand_wh.astype(object)
    supply = np.cumsum(supply_wh)
    demand = np.cumsum(demand_wh[::-1])[::-1]
    volume = int(np.minimum(supply, demand).max())
    if volume == 0:
        return Clearing(ClearingClass.NONE)
    sell = int(np.argmax(supply >= volume))
    buy = grid.tick_count - 1 - int(np.argmax(demand[::-1] >= volume))
    spare_supply, spare_demand = int(supply[sell]) - volume, int(demand[buy]) - volume
    if spare_supply:
        at_tick = int(supply_wh[sell])
        kind, low, high, ration = ClearingClass.MARGINAL_SELLER, sell, sell, (at_tick - spare_supply, at_tick)
    elif spare_demand:
        at_tick = int(demand_wh[buy])
        kind, low, high, ration = ClearingClass.MARGINAL_BUYER, buy, buy, (at_tick - spare_demand, at_tick)
    else:
        kind, ration = ClearingClass.EXACT, (0, 0)
        bids_between = np.flatnonzero(demand_wh[sell:buy])
        offers_between = np.flatnonzero(supply_wh[sell + 1 : buy])
        low = sell + (int(bids_between[-1]) if bids_between.size else 0)
        high = sell + 1 + int(offers_between[0]) if offers_between.size else buy
    price = grid.base_price + (low + high) * grid.price_step // 2
    return Clearing(kind, price, volume, sell, buy, low, high, *ration)


def clear_orders(grid: PriceGrid, book: np.ndarray) -> Clearing:
    """Clears the orders of one delivery period (numpy array of ``ORDER``)."""
    check_orders(grid, book)
    return clear_levels(grid, *levels(grid, book))


def fills(clearing: Clearing, book: np.ndarray) -> np.ndarray:
    """What each order of the period gets.

    Returns
    -------
    numpy.ndarray of int64, shape (n_orders,)
        Filled quantity [Wh]. Rationed orders are rounded up when their side pays and down when it is paid: at a
        price >= 0 buyers pay, below zero sellers do.
    """
    sell, tick = book["sell"] == 1, book["tick"].astype(np.int64)
    quantity = book["quantity_wh"].astype(np.int64)
    if clearing.kind <= ClearingClass.NONE:
        return np.zeros_like(quantity)
    matched = np.where(sell, tick <= clearing.sell_tick, tick >= clearing.buy_tick)
    filled = np.where(matched, quantity, 0)
    if clearing.ration_denominator:
        of_sellers = clearing.kind is ClearingClass.MARGINAL_SELLER
        marginal = clearing.sell_tick if of_sellers else clearing.buy_tick
        rationed = np.flatnonzero((sell == of_sellers) & (tick == marginal))
        numerator, denominator = clearing.ration_numerator, clearing.ration_denominator
        asked = quantity[rationed]
        if denominator > 2**31 - 1:  # the product does not fit 64 bits
            asked = asked.astype(object)
        pays = of_sellers == (clearing.price < 0)
        filled[rationed] = (asked * numerator + (denominator - 1 if pays else 0)) // denominator
    return filled


def residual_wh(book: np.ndarray, filled_wh: np.ndarray) -> int:
    """Energy bought less energy sold [Wh]: what one side paid for and the other was not paid for.

    Not negative at a price >= 0, when the balancing account sells it; not positive below zero, when it takes the
    energy and is paid for that. Its size is less than the number of orders at the rationed tick.
    """
    return int(np.where(book["sell"] == 1, -filled_wh, filled_wh).sum())
