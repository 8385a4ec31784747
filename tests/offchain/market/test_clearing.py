import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.market.clearing import Clearing, ClearingClass, clear_levels, clear_orders, fills, levels, residual_wh
from offchain.market.orders import PriceGrid, orders
from tests.reference import tick_book as reference

GRID = PriceGrid(-35, 7, 12)
QUANTITY = st.one_of(st.integers(1, 4), st.integers(1, 2**32 - 1))
ROWS = st.lists(st.tuples(st.just(0), st.integers(0, 1), st.integers(0, 11), QUANTITY), min_size=0, max_size=14)


@settings(max_examples=300)
@given(ROWS)
def test_clear_orders_and_fills_equal_brute_force(rows):
    book = orders(rows)
    result = clear_orders(GRID, book)
    by_definition = [reference.Order(sell == 1, GRID.price(tick), asked) for _, sell, tick, asked in rows]
    expected = reference.clear(by_definition)
    assert result.volume_wh == expected.volume_wh
    if expected.volume_wh:
        assert result.price == expected.price
        assert (GRID.price(result.low_tick), GRID.price(result.high_tick)) == expected.interval
    assert fills(result, book).tolist() == [
        reference.rounded_fill(order, share) for order, share in zip(by_definition, expected.shares, strict=True)
    ]


@given(ROWS)
def test_residual_is_below_the_number_of_marginal_orders(rows):
    book = orders(rows)
    result = clear_orders(GRID, book)
    residual = residual_wh(book, fills(result, book)) * (-1 if result.price < 0 else 1)
    of_sellers = result.kind is ClearingClass.MARGINAL_SELLER
    tick = result.sell_tick if of_sellers else result.buy_tick
    marginal = sum(1 for _, sell, at, _ in rows if sell == of_sellers and at == tick)
    assert 0 <= residual < max(1, marginal if result.ration_denominator else 1)


@given(ROWS, st.integers(2**40, 2**60))
def test_clear_levels_scales_when_quantities_need_more_than_64_bits(rows, factor):
    supply, demand = levels(GRID, orders(rows))
    small = clear_levels(GRID, supply, demand)
    large = clear_levels(GRID, supply.astype(object) * factor, demand.astype(object) * factor)
    assert (large.kind, large.price, large.sell_tick, large.buy_tick) == (
        small.kind,
        small.price,
        small.sell_tick,
        small.buy_tick,
    )
    assert large.volume_wh == small.volume_wh * factor
    assert large.ration_numerator == small.ration_numerator * factor


def test_fills_is_exact_when_the_rationed_tick_exceeds_31_bits():
    book = orders([(0, 1, 9, 2**32 - 1)] * 3 + [(0, 0, 9, 2**32 - 2)])
    share = (2**32 - 1) * (2**32 - 2) // (3 * (2**32 - 1))
    assert fills(clear_orders(GRID, book), book).tolist() == [share] * 3 + [2**32 - 2]


def test_clear_orders_is_none_when_there_are_none():
    book = orders([])
    assert clear_orders(GRID, book) == Clearing(ClearingClass.NONE)
    assert fills(Clearing(ClearingClass.NONE), book).tolist() == []


def test_clear_orders_refuses_an_order_off_the_grid():
    with pytest.raises(DomainError, match="order 0: tick 12"):
        clear_orders(GRID, orders([(0, 1, 12, 1)]))


def test_levels_sums_both_sides():
    supply, demand = levels(GRID, orders([(0, 1, 2, 5), (0, 1, 2, 6), (0, 0, 2, 7), (0, 0, 11, 1)]))
    assert supply.tolist() == np.bincount([2], [11], 12).tolist()
    assert demand.tolist() == np.bincount([2, 11], [7, 1], 12).tolist()
