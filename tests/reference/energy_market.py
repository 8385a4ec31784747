"""A session of the energy market by the formulas of ``interfaces/IEnergyMarket.sol``, over exact fractions.

Knows bundles as lists of orders and money as sums; clears by :mod:`tests.reference.tick_book`. Nothing is shared with
the contract or its twin.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

from tests.reference import tick_book


@dataclass(frozen=True)
class BundleOrder:
    """An order; its price is that of its tick [uToken/kWh]."""

    product: int
    sell: bool
    price: int
    quantity_wh: int


@dataclass
class Final:
    """Fills of a bundle by product [Wh] and the prices they have [uToken/kWh]."""

    bought: dict[int, int] = field(default_factory=dict)
    sold: dict[int, int] = field(default_factory=dict)
    prices: dict[int, int] = field(default_factory=dict)


def up(energy_wh: int, rate: int) -> int:
    return math.ceil(Fraction(energy_wh * rate, 1_000))


def down(energy_wh: int, rate: int) -> int:
    return math.floor(Fraction(energy_wh * rate, 1_000))


class SessionReference:
    """Bundles by trader, and what they may cost and get."""

    def __init__(self, terms):
        self.terms = terms
        self.bundles: dict[str, list[BundleOrder]] = {}
        self.rejection_fees = 0
        self.outcomes: dict[int, tuple[list[BundleOrder], tick_book.Outcome]] = {}

    # ------------------------------------------------------------ money

    def escrow(self, orders: list[BundleOrder]) -> int:
        if not orders:
            return 0
        worst = sum(up(o.quantity_wh, max(0, -o.price if o.sell else o.price)) for o in orders)
        offered = sum(o.quantity_wh for o in orders if o.sell)
        everything = sum(o.quantity_wh for o in orders)
        return worst + up(everything, self.terms.fee_rate) + up(offered, self.terms.guarantee_rate)

    def fee(self, final: Final) -> int:
        return up(sum(final.bought.values()) + sum(final.sold.values()), self.terms.fee_rate)

    def guarantee(self, final: Final) -> int:
        return up(sum(final.sold.values()), self.terms.guarantee_rate)

    def cost(self, final: Final) -> int:
        bought = sum(up(wh, final.prices[p]) for p, wh in final.bought.items() if final.prices[p] >= 0)
        return bought + sum(up(wh, -final.prices[p]) for p, wh in final.sold.items() if final.prices[p] < 0)

    def needs(self, final: Final) -> int:
        return self.cost(final) + self.fee(final) + self.guarantee(final)

    def receipts(self, final: Final) -> int:
        """What the clearing prices pay a bundle that delivers all and takes all."""
        sold = sum(down(wh, final.prices[p]) for p, wh in final.sold.items() if final.prices[p] >= 0)
        return sold + sum(down(wh, -final.prices[p]) for p, wh in final.bought.items() if final.prices[p] < 0)

    def most(self, final: Final, surplus_price: int, green_reward_rate: int) -> int:
        """The most that any settlement may pay a bundle."""
        green = sum(wh for p, wh in final.sold.items() if p >= self.terms.period_count)
        return (
            self.guarantee(final)
            + self.receipts(final)
            + down(sum(final.bought.values()), surplus_price)
            + down(green, green_reward_rate)
        )

    @property
    def escrows(self) -> int:
        return sum(self.escrow(orders) for orders in self.bundles.values())

    @property
    def pot(self) -> int:
        """Until claims begin [uToken]."""
        return self.escrows + self.rejection_fees + self.terms.surplus_budget + self.terms.reward_budget

    # ------------------------------------------------------------ auction

    def clear(self, products=None) -> None:
        """Outcome of each product from the orders that stand."""
        for product in range(2 * self.terms.period_count) if products is None else products:
            book = [o for orders in self.bundles.values() for o in orders if o.product == product]
            orders = [tick_book.Order(o.sell, o.price, o.quantity_wh) for o in book]
            self.outcomes[product] = (book, tick_book.clear(orders))

    def filled_wh(self, order: BundleOrder) -> int:
        """Fill by the outcome as it stands; equal orders have equal fills."""
        book, outcome = self.outcomes[order.product]
        share = next(s for o, s in zip(book, outcome.shares, strict=True) if o == order)
        return tick_book.rounded_fill(tick_book.Order(order.sell, order.price, order.quantity_wh), share)

    def final(self, orders: list[BundleOrder]) -> Final:
        final = Final()
        for order in orders:
            filled = self.filled_wh(order)
            if filled:
                side = final.sold if order.sell else final.bought
                side[order.product] = side.get(order.product, 0) + filled
                final.prices[order.product] = self.outcomes[order.product][1].price
        return final

    def reject(self, trader: str, positions: set[int]) -> int:
        """Takes orders off, gives the fee."""
        orders = self.bundles[trader]
        matched = sum(self.filled_wh(orders[i]) for i in positions)
        left = [o for i, o in enumerate(orders) if i not in positions]
        freed = self.escrow(orders) - self.escrow(left)
        fee = min(up(matched, self.terms.rejection_fee_rate), freed)
        self.bundles[trader] = left
        self.rejection_fees += fee
        return fee
