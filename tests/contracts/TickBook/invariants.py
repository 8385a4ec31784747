"""What holds for every cleared book, by its definition alone: orders, result and fills are all that it takes."""

import numpy as np

from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.orders import PriceGrid


def sides(grid: PriceGrid, book: np.ndarray, filled_wh):
    """Rows of (limit price, quantity, filled) of the sellers and of the buyers, as Python integers."""
    columns = (book["sell"].tolist(), book["tick"].tolist(), book["quantity_wh"].tolist(), filled_wh)
    rows = [(sell, grid.price(tick), asked, int(got)) for sell, tick, asked, got in zip(*columns, strict=True)]
    return [row[1:] for row in rows if row[0]], [row[1:] for row in rows if not row[0]]


def price_is_an_equilibrium(grid: PriceGrid, book: np.ndarray, result: Clearing, filled_wh) -> None:
    """INV-T1: at the price, those who must trade on one side find enough who may on the other."""
    sellers, buyers = sides(grid, book, filled_wh)
    if result.kind is ClearingClass.NONE:
        assert not sellers or not buyers or min(s[0] for s in sellers) > max(b[0] for b in buyers)
        return
    must_sell = sum(asked for limit, asked, _ in sellers if limit < result.price)
    must_buy = sum(asked for limit, asked, _ in buyers if limit > result.price)
    may_sell = sum(asked for limit, asked, _ in sellers if limit <= result.price)
    may_buy = sum(asked for limit, asked, _ in buyers if limit >= result.price)
    assert max(must_sell, must_buy) <= min(may_sell, may_buy)


def nobody_is_filled_worse_than_the_limit(grid, book, result, filled_wh) -> None:
    """INV-T2, and nobody gets more than asked for."""
    sellers, buyers = sides(grid, book, filled_wh)
    for limit, asked, got in sellers:
        assert 0 <= got <= asked
        assert got == 0 or limit <= result.price
    for limit, asked, got in buyers:
        assert 0 <= got <= asked
        assert got == 0 or limit >= result.price


def whoever_wants_the_price_is_filled(grid, book, result, filled_wh) -> None:
    """INV-T3: a limit better than the price is filled whole."""
    if result.kind is ClearingClass.NONE:
        return
    sellers, buyers = sides(grid, book, filled_wh)
    assert all(got == asked for limit, asked, got in sellers if limit < result.price)
    assert all(got == asked for limit, asked, got in buyers if limit > result.price)


def energy_is_conserved_to_the_last_wh(grid, book, result, filled_wh) -> None:
    """INV-T4: the side that is not rationed sums up to the volume, the other misses it by less than its orders, and
    never so that more is paid out than comes in."""
    sellers, buyers = sides(grid, book, filled_wh)
    sold, bought = sum(row[2] for row in sellers), sum(row[2] for row in buyers)
    residual = (bought - sold) * (-1 if result.price < 0 else 1)
    if result.kind is ClearingClass.MARGINAL_SELLER:
        marginal = sum(limit == grid.price(result.sell_tick) for limit, _, _ in sellers)
        assert bought == result.volume_wh and 0 <= residual < marginal
    elif result.kind is ClearingClass.MARGINAL_BUYER:
        marginal = sum(limit == grid.price(result.buy_tick) for limit, _, _ in buyers)
        assert sold == result.volume_wh and 0 <= residual < marginal
    else:
        assert sold == bought == result.volume_wh


INVARIANTS = (
    price_is_an_equilibrium,
    nobody_is_filled_worse_than_the_limit,
    whoever_wants_the_price_is_filled,
    energy_is_conserved_to_the_last_wh,
)


def check(grid: PriceGrid, book: np.ndarray, result: Clearing, filled_wh) -> None:
    for invariant in INVARIANTS:
        invariant(grid, book, result, filled_wh)
