"""
fills
├── period never cleared → NotCleared
├── rationed → rounded up who pays, down who is paid, negative prices included; residual below their number
├── largest quantities → no product runs over
└── any book → see test_clear.py
invariants
└── each of them fails for a result that breaks it
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.market import clearing as twin
from offchain.market.orders import PriceGrid, orders
from tests.contracts.TickBook import invariants
from tests.contracts.TickBook.harness import Reverted, bundle_of

GRID = PriceGrid(-50, 10, 100, 24)
BUY, SELL = 0, 1
LARGEST = 2**32 - 1


def settled(book, rows):
    """Orders of period 0, their result and their fills."""
    session = book.open(GRID)
    packed = orders((0, *row) for row in rows)
    book.place(session, packed.tobytes())
    book.clear(session)
    return packed, book.result(session), book.fills(session, packed.tobytes())


def test_fills_refuses_when_period_was_not_cleared(book):
    session = book.open(GRID)
    book.place(session, bundle_of([(0, BUY, 1, 1), (7, BUY, 1, 1)]))
    book.clear(session, 0)
    with pytest.raises(Reverted, match=r"NotCleared\(7,\)"):
        book.fills(session, bundle_of([(0, BUY, 1, 1), (7, BUY, 1, 1)]))


def test_fills_rounds_down_when_sellers_are_rationed(book):
    packed, _, filled = settled(book, [(SELL, 5, 100), (SELL, 5, 100), (SELL, 5, 100), (BUY, 9, 200)])
    assert filled == [66, 66, 66, 200]
    assert twin.residual_wh(packed, np.array(filled)) == 2


def test_fills_rounds_up_when_buyers_are_rationed(book):
    packed, _, filled = settled(book, [(BUY, 9, 100), (BUY, 9, 100), (BUY, 9, 100), (SELL, 5, 200)])
    assert filled == [67, 67, 67, 200]
    assert twin.residual_wh(packed, np.array(filled)) == 1


def test_fills_rounds_the_other_way_when_the_price_is_negative(book):
    packed, result, filled = settled(book, [(SELL, 2, 100), (SELL, 2, 100), (SELL, 2, 100), (BUY, 9, 200)])
    assert (result.price, filled) == (-30, [67, 67, 67, 200])
    assert twin.residual_wh(packed, np.array(filled)) == -1
    packed, result, filled = settled(book, [(BUY, 2, 100), (BUY, 2, 100), (BUY, 2, 100), (SELL, 0, 200)])
    assert (result.price, filled) == (-30, [66, 66, 66, 200])
    assert twin.residual_wh(packed, np.array(filled)) == -2


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("marginal", [2, 3, 50])
def test_fills_leaves_a_residual_below_the_number_of_marginal_orders(book, side, marginal):
    rows = [(side, 5, 1)] * marginal + [(1 - side, 5, 1)]
    packed, _, filled = settled(book, rows)
    # Sellers of 1 Wh each round down to nothing, buyers up to all: no residual can be larger.
    assert twin.residual_wh(packed, np.array(filled)) == (1 if side == SELL else marginal - 1) < marginal


def test_fills_gain_less_than_one_wh_a_piece_when_an_order_is_split(book):
    rivals = [(BUY, 5, 10_000), (SELL, 5, 10_000)]
    whole = settled(book, [(BUY, 5, 10_000), *rivals])[2][0]
    pieces = settled(book, [(BUY, 5, 300)] * 33 + [(BUY, 5, 100), *rivals])[2][:-2]
    assert whole <= sum(pieces) < whole + len(pieces)


@settings(max_examples=40)
@given(st.lists(st.integers(1, LARGEST), min_size=1, max_size=6), st.integers(1, LARGEST), st.sampled_from([BUY, SELL]))
def test_fills_is_exact_when_quantities_are_large(book, quantities, other, side):
    packed, result, filled = settled(book, [(side, 5, q) for q in quantities] + [(1 - side, 5, other)])
    assert filled == twin.fills(result, packed).tolist()
    invariants.check(GRID, packed, result, filled)


def test_fills_does_not_ask_whose_order_it_is(book):
    """Fills are a function of result and order: an order that nobody placed has one too; the caller knows bundles."""
    session = book.open(GRID)
    book.place(session, bundle_of([(0, SELL, 5, 10), (0, BUY, 9, 10)]))
    book.clear(session)
    assert book.fills(session, bundle_of([(0, SELL, 4, 77), (0, BUY, 6, 77)])) == [77, 0]


RATIONED = [(SELL, 2, 5), (SELL, 5, 9), (BUY, 9, 8), (BUY, 1, 4)]


def spoilt(result, filled):
    """One broken pair of result and fills for each invariant."""
    return {
        invariants.price_is_an_equilibrium: (replace(result, price=result.price + 1), filled),
        invariants.nobody_is_filled_worse_than_the_limit: (replace(result, price=GRID.price(4)), filled),
        invariants.whoever_wants_the_price_is_filled: (result, [4, *filled[1:]]),
        invariants.energy_is_conserved_to_the_last_wh: (result, [filled[0], filled[1] + 1, *filled[2:]]),
    }


@pytest.mark.parametrize("invariant", invariants.INVARIANTS)
def test_invariant_fails_when_it_is_broken(book, invariant):
    packed, result, filled = settled(book, RATIONED)
    invariants.check(GRID, packed, result, filled)
    with pytest.raises(AssertionError):
        invariant(GRID, packed, *spoilt(result, filled)[invariant])


def test_none_is_refused_when_a_match_exists(book):
    packed, _, _ = settled(book, RATIONED)
    with pytest.raises(AssertionError):
        invariants.price_is_an_equilibrium(GRID, packed, twin.Clearing(twin.ClearingClass.NONE), [0] * 4)


def test_fills_beyond_the_quantity_is_refused(book):
    packed, result, filled = settled(book, RATIONED)
    with pytest.raises(AssertionError):
        invariants.nobody_is_filled_worse_than_the_limit(GRID, packed, result, [6, *filled[1:]])
