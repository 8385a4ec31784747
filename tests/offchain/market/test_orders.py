import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.errors import DomainError
from offchain.market.orders import (
    MAX_TICKS,
    PriceGrid,
    escrow,
    orders,
    pack_bundle,
    unpack_bundle,
    worst_case_cost,
)

GRID = PriceGrid(-1_000, 10, 200, 24)
COARSE = PriceGrid(-1_000, 10, 200, 24, 100)
ROWS = st.lists(
    st.tuples(st.integers(0, 23), st.integers(0, 1), st.integers(0, 199), st.integers(1, 2**32 - 1)),
    min_size=1,
    max_size=40,
)


def test_pack_bundle_has_the_layout_of_the_contract():
    assert (
        pack_bundle(GRID, orders([(2, 1, 199, 2**32 - 1), (23, 0, 0, 1)])).hex() == "020100c7ffffffff1700000000000001"
    )


@given(ROWS)
def test_unpack_bundle_inverts_pack_bundle(rows):
    assert unpack_bundle(GRID, pack_bundle(GRID, orders(rows))).tolist() == rows


def test_pack_bundle_keeps_the_byte_order_when_orders_were_concatenated():
    parts = [orders([(1, 0, 5, 7)]), orders([(2, 1, 6, 8)])]
    assert pack_bundle(GRID, np.concatenate(parts)) == b"".join(pack_bundle(GRID, part) for part in parts)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((24, 0, 5, 1), "order 1: period 24 is not below 24"),
        ((0, 0, 200, 1), "order 1: tick 200 is not below 200"),
        ((0, 0, 5, 99), "order 1: quantity_wh 99 is not at least 100"),
    ],
)
def test_pack_bundle_refuses_what_the_contract_refuses(row, text):
    with pytest.raises(DomainError, match=text):
        pack_bundle(COARSE, orders([(0, 0, 5, 100), row]))


def test_unpack_bundle_refuses_when_the_side_is_unknown():
    with pytest.raises(DomainError, match="order 0: sell 2 is not 0 or 1"):
        unpack_bundle(GRID, bytes([0, 2, 0, 5, 0, 0, 0, 1]))


@pytest.mark.parametrize("bundle", [b"", b"1234567", b"123456789"])
def test_unpack_bundle_refuses_when_the_length_is_wrong(bundle):
    with pytest.raises(DomainError, match=f"bundle of {len(bundle)} bytes"):
        unpack_bundle(GRID, bundle)


def test_pack_bundle_refuses_when_empty():
    with pytest.raises(DomainError, match="at least one order"):
        pack_bundle(GRID, orders([]))


@pytest.mark.parametrize("row", [(256, 0, 0, 1), (0, 2, 0, 1), (0, 0, 4096, 1), (0, 0, 0, 2**32), (0, 0, 0, -1)])
def test_orders_refuses_what_no_field_holds(row):
    with pytest.raises(DomainError, match=r"order 0: .* outside"):
        orders([row])


@pytest.mark.parametrize(
    "terms",
    [
        (2**63, 1, 1),
        (0, 0, 1),
        (0, 2**32, 1),
        (0, 1, 0),
        (0, 1, MAX_TICKS + 1),
        (0, 1, 1, 0),
        (0, 1, 1, 257),
        (0, 1, 1, 1, 0),
    ],
)
def test_PriceGrid_refuses_when_a_field_is_out_of_bounds(terms):
    with pytest.raises(DomainError, match="price grid"):
        PriceGrid(*terms)


@given(st.integers(0, 199))
def test_PriceGrid_tick_inverts_price(tick):
    assert GRID.tick(GRID.price(tick)) == tick


@pytest.mark.parametrize("price", [-1_010, -995, 1_000])
def test_PriceGrid_tick_refuses_when_off_the_grid(price):
    with pytest.raises(DomainError, match="not on the grid"):
        GRID.tick(price)


@pytest.mark.parametrize(
    ("limit", "sell", "cost"), [(333, False, 500), (333, True, 0), (-333, False, 0), (-333, True, 500), (0, True, 0)]
)
def test_worst_case_cost_is_of_who_pays(limit, sell, cost):
    assert worst_case_cost(limit, 1_500, sell) == cost


@given(ROWS)
def test_escrow_is_the_sum_over_orders(rows):
    assert escrow(GRID, orders(rows)) == sum(worst_case_cost(GRID.price(t), q, s == 1) for _, s, t, q in rows)
