"""
open
├── twice → BookAlreadyOpen
└── no tick, too many, no step, no period, too many, no smallest quantity → GridInvalid
place
├── length not a multiple of 8, or zero → BundleLength
├── period, reserved bits, tick, quantity out of bounds → own error with position and numbers, nothing changed
├── lane would pass 2^64 - 1 → TickFull, nothing changed
├── any orders → levels and bits are their sums; escrow that of the twin
└── several bundles in one call → as one after the other
worstCaseCost
└── any order → as the twin; no fill at a price within the limit costs more
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.domain.units import cost_up
from offchain.market.orders import MAX_TICKS, PriceGrid, escrow, orders, pack_bundle, worst_case_cost
from tests.contracts.TickBook.harness import Reverted, bundle_of, position

GRID = PriceGrid(-1_000, 10, 200, 24)
WIDE = PriceGrid(-50_000, 25, MAX_TICKS, 256)
SUMMARIES, WORDS, LEVELS = 1, 1 + 32, 1 + 32 + 512 * 16
GOOD = (3, 1, 7, 500)
PRICE = st.integers(-(2**63), 2**63 + 2**45)
QUANTITY = st.integers(1, 2**32 - 1)


@pytest.mark.parametrize(
    ("ticks", "step", "periods", "least"),
    [(0, 1, 1, 1), (4097, 1, 1, 1), (10, 0, 1, 1), (10, 1, 0, 1), (10, 1, 257, 1), (10, 1, 1, 0)],
)
def test_open_refuses_when_grid_is_invalid(book, ticks, step, periods, least):
    with pytest.raises(Reverted) as refused:
        book.call(
            "open", ["uint256", "(int64,uint32,uint16,uint16,uint32)"], [], 10**9, (0, step, ticks, periods, least)
        )
    assert (refused.value.name, refused.value.arguments) == ("GridInvalid", (ticks, step, periods, least))


def test_open_refuses_when_open(book):
    session = book.open(GRID)
    with pytest.raises(Reverted, match="BookAlreadyOpen"):
        book.call("open", ["uint256", "(int64,uint32,uint16,uint16,uint32)"], [], session, (0, 1, 1, 1, 1))


def test_place_refuses_when_session_is_not_open(book):
    with pytest.raises(Reverted, match=r"PeriodOutsideSession\(0, 3, 0\)"):
        book.place(10**9, bundle_of([GOOD]))


@pytest.mark.parametrize("length", [0, 1, 7, 9, 191])
@pytest.mark.parametrize("function", ["place", "remove", "fills"])
def test_bundle_is_refused_when_its_length_is_wrong(book, function, length):
    session = book.open(GRID)
    with pytest.raises(Reverted) as refused:
        getattr(book, function)(session, bytes(length))
    assert (refused.value.name, refused.value.arguments) == ("BundleLength", (length,))


@pytest.mark.parametrize("function", ["place", "remove", "fills"])
@pytest.mark.parametrize(
    ("bad", "error", "arguments"),
    [
        ("18 01 0007 000001f4", "PeriodOutsideSession", (2, 24, 24)),
        ("ff 01 0007 000001f4", "PeriodOutsideSession", (2, 255, 24)),
        ("03 02 0007 000001f4", "ReservedBitsSet", (2,)),
        ("03 81 0007 000001f4", "ReservedBitsSet", (2,)),
        ("03 01 00c8 000001f4", "TickOffGrid", (2, 200, 200)),
        ("03 01 ffff 000001f4", "TickOffGrid", (2, 65_535, 200)),
        ("03 01 0007 00000063", "QuantityTooSmall", (2, 99, 100)),
        ("03 01 0007 00000000", "QuantityTooSmall", (2, 0, 100)),
    ],
)
def test_bundle_is_refused_whole_when_one_order_breaks_a_bound(book, function, bad, error, arguments):
    session = book.open(replace(GRID, min_quantity_wh=100))
    book.place(session, bundle_of([GOOD, GOOD]))
    book.clear(session, 3)
    with pytest.raises(Reverted) as refused:
        getattr(book, function)(session, bundle_of([GOOD, GOOD]) + bytes.fromhex(bad) + bundle_of([GOOD]))
    assert (refused.value.name, refused.value.arguments) == (error, arguments)
    assert book.level(session, 7, 3) == (0, 1_000)


@pytest.mark.parametrize("sell", [0, 1])
@pytest.mark.parametrize("period", [2, 3])
def test_place_refuses_when_the_lane_would_run_over(book, sell, period):
    session = book.open(GRID)
    slot = LEVELS + MAX_TICKS * (2 * (period // 4) + sell) + 7
    full = (2**64 - 10) << (64 * (period % 4))
    book.store(session, slot, full)
    book.place(session, bundle_of([(period, sell, 7, 9)]))
    with pytest.raises(Reverted) as refused:
        book.place(session, bundle_of([(period, 1 - sell, 7, 5), (period, sell, 7, 1)]))
    assert (refused.value.name, refused.value.arguments) == ("TickFull", (1, 2**64 - 1, 1))
    assert book.level(session, 7, period)[sell] == 2**64 - 1
    assert book.level(session, 7, period)[1 - sell] == 0


ROWS = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.integers(0, 1),
        st.sampled_from([0, 1, 255, 256, 4094, 4095]) | st.integers(0, 4095),
        QUANTITY,
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(ROWS)
def test_place_stores_sums_and_bits_and_returns_the_escrow(book, rows):
    session = book.open(WIDE)
    packed = orders(rows)
    assert book.place(session, pack_bundle(WIDE, packed)) == escrow(WIDE, packed)
    sums = Counter()
    for period, sell, tick, quantity in rows:
        sums[period, tick, sell] += quantity
    for period, tick, _ in sums:
        assert book.level(session, tick, period) == (sums[period, tick, 0], sums[period, tick, 1])
    words, summaries = Counter(), Counter()
    for period, tick, sell in sums:
        side = 2 * period + sell
        word, bit = divmod(position(tick, sell), 256)
        words[WORDS + 16 * side + word] |= 1 << bit
        summaries[SUMMARIES + side // 16] |= 1 << (side % 16 * 16 + word)
    everywhere = range(SUMMARIES, LEVELS) if len(rows) < 3 else [*words, *summaries]
    bits = words | summaries
    assert book.storage(session, everywhere) == [bits[slot] for slot in everywhere]


def test_place_adds_bundles_of_many_traders_in_one_call(book):
    session = book.open(GRID)
    bundles = [bundle_of([(period, 0, tick, 5) for period in range(24)]) for tick in (3, 3, 9)]
    each = escrow(GRID, orders([(0, 0, 3, 5)])) * 48 + escrow(GRID, orders([(0, 0, 9, 5)])) * 24
    assert book.place_all(session, bundles) == each
    assert [book.level(session, tick, 23) for tick in (3, 9)] == [(10, 0), (5, 0)]


@settings(max_examples=200)
@given(PRICE, QUANTITY, st.booleans())
def test_worstCaseCost_equals_its_twin(book, limit, quantity, sell):
    assert book.worst_case_cost(limit, quantity, sell) == worst_case_cost(limit, quantity, sell)


@given(PRICE, QUANTITY, st.booleans(), st.data())
def test_worstCaseCost_covers_every_fill_within_the_limit(limit, quantity, sell, data):
    within = st.integers(limit, 2**64) if sell else st.integers(-(2**64), limit)
    price, filled = data.draw(within), data.draw(st.integers(0, quantity))
    owed = cost_up(filled, max(0, -price if sell else price))
    assert owed <= worst_case_cost(limit, quantity, sell)


def test_worstCaseCost_is_what_negative_prices_cost(book):
    assert book.worst_case_cost(-333, 1_500, True) == 500
    assert book.worst_case_cost(-333, 1_500, False) == 0
    assert book.worst_case_cost(333, 1_500, False) == 500
    assert book.worst_case_cost(333, 1_500, True) == 0
