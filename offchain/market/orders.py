"""Price grid, order bundles and escrow of the peer-to-peer market (twin of ``contracts/market/TickBook.sol``).

A bundle has 8 bytes an order, big endian:

======  =========================  ============================
bytes   field                      bound
======  =========================  ============================
0       delivery period            below ``period_count``
1       0 buy, 1 sell              0 or 1
2 .. 3  limit price, tick          below ``tick_count``
4 .. 7  quantity [Wh]              ``min_quantity_wh`` .. 2^32 - 1
======  =========================  ============================
"""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import cost_up

MAX_TICKS = 4096
MAX_PERIODS = 256
MAX_QUANTITY_WH = 2**32 - 1
ORDER = np.dtype([("period", "u1"), ("sell", "u1"), ("tick", ">u2"), ("quantity_wh", ">u4")])
"""One order of a bundle, byte for byte."""


@dataclass(frozen=True, slots=True)
class PriceGrid:
    """Prices and delivery periods of a session.

    Parameters
    ----------
    base_price : int
        Price of tick 0 [uToken/kWh], signed.
    price_step : int
        Between two ticks [uToken/kWh].
    tick_count, period_count : int
        Number of ticks, 1 .. 4096, and of delivery periods, 1 .. 256.
    min_quantity_wh : int
        Smallest quantity of an order [Wh].
    """

    base_price: int
    price_step: int
    tick_count: int
    period_count: int = 1
    min_quantity_wh: int = 1

    def __post_init__(self):
        for name, low, high in (
            ("base_price", -(2**63), 2**63 - 1),
            ("price_step", 1, 2**32 - 1),
            ("tick_count", 1, MAX_TICKS),
            ("period_count", 1, MAX_PERIODS),
            ("min_quantity_wh", 1, MAX_QUANTITY_WH),
        ):
            if not low <= getattr(self, name) <= high:
                raise DomainError(f"price grid: {name} {getattr(self, name)} outside {low}..{high}")

    def price(self, tick: int) -> int:
        """Price of a tick [uToken/kWh]."""
        return self.base_price + tick * self.price_step

    def tick(self, price: int) -> int:
        """Tick of a price [uToken/kWh] on the grid."""
        tick, off = divmod(price - self.base_price, self.price_step)
        if off or not 0 <= tick < self.tick_count:
            raise DomainError(
                f"price {price} uToken/kWh is not on the grid",
                hint=f"{self.price(0)} to {self.price(self.tick_count - 1)} in steps of {self.price_step}",
            )
        return tick


def orders(rows) -> np.ndarray:
    """Orders from rows of (period, sell, tick, quantity [Wh]); refuses what a field cannot hold."""
    array = np.asarray(list(rows), dtype=np.int64).reshape(-1, 4)
    bounds = np.array([MAX_PERIODS - 1, 1, MAX_TICKS - 1, MAX_QUANTITY_WH])
    bad = np.argwhere((array < 0) | (array > bounds))
    if bad.size:
        position, field = bad[0]
        raise DomainError(f"order {position}: {ORDER.names[field]} {array[position, field]} outside 0..{bounds[field]}")
    packed = np.empty(len(array), ORDER)
    for field, name in enumerate(ORDER.names):
        packed[name] = array[:, field]
    return packed


def check_orders(grid: PriceGrid, book: np.ndarray) -> None:
    """Refuses the first order that the contract would refuse, by its position."""
    for name, allowed, bound in (
        ("period", book["period"] < grid.period_count, f"below {grid.period_count}"),
        ("sell", book["sell"] <= 1, "0 or 1"),
        ("tick", book["tick"] < grid.tick_count, f"below {grid.tick_count}"),
        ("quantity_wh", book["quantity_wh"] >= grid.min_quantity_wh, f"at least {grid.min_quantity_wh}"),
    ):
        bad = np.flatnonzero(~allowed)
        if bad.size:
            raise DomainError(f"order {bad[0]}: {name} {book[name][bad[0]]} is not {bound}")


def pack_bundle(grid: PriceGrid, book: np.ndarray) -> bytes:
    """Orders as calldata of ``place``, ``remove`` and ``fills``."""
    if not len(book):
        raise DomainError("a bundle has at least one order")
    check_orders(grid, book)
    return book.astype(ORDER).tobytes()  # numpy gives concatenated orders the byte order of the machine


def unpack_bundle(grid: PriceGrid, bundle: bytes) -> np.ndarray:
    """Inverse of :func:`pack_bundle`."""
    if not bundle or len(bundle) % ORDER.itemsize:
        raise DomainError(f"bundle of {len(bundle)} bytes", hint=f"{ORDER.itemsize} bytes an order, at least one")
    book = np.frombuffer(bundle, ORDER)
    check_orders(grid, book)
    return book


def worst_case_cost(limit_price: int, quantity_wh: int, sell: bool) -> int:
    """Most that an order can cost whoever placed it [uToken]; a seller pays below zero alone."""
    return cost_up(quantity_wh, max(0, -limit_price if sell else limit_price))


def escrow(grid: PriceGrid, book: np.ndarray) -> int:
    """Sum of :func:`worst_case_cost` over orders [uToken]."""
    rows = zip(book["tick"].tolist(), book["quantity_wh"].tolist(), book["sell"].tolist(), strict=True)
    return sum(worst_case_cost(grid.price(tick), quantity, sell == 1) for tick, quantity, sell in rows)
