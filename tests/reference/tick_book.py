"""Uniform-price double auction by definition: sort the orders, intersect the curves, test every price.

Shares nothing with the contract or its twin: no ticks' sums, no pointers. Slow, for small books.
"""

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Order:
    sell: bool
    price: int
    quantity_wh: int


@dataclass(frozen=True)
class Outcome:
    """Equilibrium interval [uToken/kWh], matched volume [Wh] and what each order may get at most [Wh, exact]."""

    volume_wh: int
    interval: tuple[int, int] | None
    price: int | None
    shares: list[Fraction]


def traded(sellers: list[Order], buyers: list[Order]) -> int:
    """Cheapest seller against dearest buyer for as long as both gain or lose nothing [Wh]."""
    offers = sorted(([o.price, o.quantity_wh] for o in sellers), key=lambda o: o[0])
    bids = sorted(([o.price, o.quantity_wh] for o in buyers), key=lambda o: -o[0])
    total = 0
    while offers and bids and offers[0][0] <= bids[0][0]:
        step = min(offers[0][1], bids[0][1])
        total += step
        for queue in (offers, bids):
            queue[0][1] -= step
            if queue[0][1] == 0:
                queue.pop(0)
    return total


def is_equilibrium(orders: list[Order], price: int) -> bool:
    """Whether sellers and buyers who want to trade at a price can be made equal by those who do not mind."""
    must_sell = sum(o.quantity_wh for o in orders if o.sell and o.price < price)
    may_sell = sum(o.quantity_wh for o in orders if o.sell and o.price <= price)
    must_buy = sum(o.quantity_wh for o in orders if not o.sell and o.price > price)
    may_buy = sum(o.quantity_wh for o in orders if not o.sell and o.price >= price)
    return max(must_sell, must_buy) <= min(may_sell, may_buy)


def clear(orders: list[Order]) -> Outcome:
    """Outcome of a book; an interval's ends are limits of orders, as the curves change nowhere else."""
    sellers = [o for o in orders if o.sell]
    buyers = [o for o in orders if not o.sell]
    volume = traded(sellers, buyers)
    if volume == 0:
        return Outcome(0, None, None, [Fraction(0)] * len(orders))
    ends = [price for price in {o.price for o in orders} if is_equilibrium(orders, price)]
    interval = min(ends), max(ends)
    price = (interval[0] + interval[1]) // 2
    shares = []
    for order in orders:
        side = sellers if order.sell else buyers
        better = sum(o.quantity_wh for o in side if _before(o, order))
        level = sum(o.quantity_wh for o in side if o.price == order.price)
        left = min(level, max(0, volume - better))
        shares.append(Fraction(order.quantity_wh * left, level))
    return Outcome(volume, interval, price, shares)


def _before(other: Order, order: Order) -> bool:
    """Whether another order of the same side comes first."""
    return other.price < order.price if order.sell else other.price > order.price


def rounded_fill(order: Order, share: Fraction) -> int:
    """Who pays rounds up, who is paid rounds down [Wh]; a rationed order's limit is the price."""
    pays = order.price < 0 if order.sell else order.price >= 0
    return math.ceil(share) if pays else math.floor(share)
