"""
clear
├── any book → result and fills of the twin and of the brute force; all invariants
├── orders in another sequence or in other bundles → same result
├── one-sided, empty, no overlap → class None
├── equal prices, gap between the curves, negative prices, odd interval → as derived by hand
├── lanes at 2^64 - 1 → as the twin with Python's integers
├── in any number of calls → result of one; book refuses changes meanwhile; other periods go on
├── again → same result; after a change → result of the changed book
└── period outside the session → PeriodOutsideSession
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.market import clearing as twin
from offchain.market.clearing import Clearing, ClearingClass
from offchain.market.orders import MAX_TICKS, PriceGrid, orders, pack_bundle
from tests.contracts.TickBook.harness import Harness, Reverted, bundle_of, random_book
from tests.contracts.TickBook.invariants import check
from tests.reference import tick_book as reference

PERIODS = 256
BUY, SELL = 0, 1
GRID = PriceGrid(-1_000, 10, 200, 24)
GRIDS = [
    PriceGrid(-100_003, 1_001, MAX_TICKS, PERIODS),
    PriceGrid(-1_000, 7, 300, PERIODS),
    PriceGrid(250_000, 1, 16, PERIODS),
    PriceGrid(-(2**63), 2**32 - 1, 2, PERIODS),
]


def as_reference(grid: PriceGrid, rows: np.ndarray) -> list[reference.Order]:
    columns = rows["sell"].tolist(), rows["tick"].tolist(), rows["quantity_wh"].tolist()
    return [reference.Order(sell == 1, grid.price(tick), asked) for sell, tick, asked in zip(*columns, strict=True)]


def agrees_with_reference(grid: PriceGrid, rows: np.ndarray, result: Clearing, filled_wh: list[int]) -> None:
    book = as_reference(grid, rows)
    expected = reference.clear(book)
    assert result.volume_wh == expected.volume_wh
    if expected.volume_wh:
        assert result.price == expected.price
        assert (grid.price(result.low_tick), grid.price(result.high_tick)) == expected.interval
    assert filled_wh == [
        reference.rounded_fill(order, share) for order, share in zip(book, expected.shares, strict=True)
    ]


def compare_session(book: Harness, grid: PriceGrid, rng: np.random.Generator) -> None:
    """A session with a random book in each of its periods, against twin, brute force and invariants."""
    books = [
        random_book(
            rng,
            size=int(rng.integers(0, 1 + rng.choice([2, 8, 30]))),
            ticks=int(rng.integers(1, grid.tick_count + 1)) if rng.random() < 0.3 else min(grid.tick_count, 8),
            largest=int(rng.choice([1, 3, 1_000, 2**32 - 1])),
            period=period,
        )
        for period in range(PERIODS)
    ]
    everything = np.concatenate(books)
    rng.shuffle(everything)
    session = book.open(grid)
    bundle = pack_bundle(grid, everything)
    book.place(session, bundle)
    results = book.clear_all(session, PERIODS)
    filled = np.array(book.fills(session, bundle))
    for period, result in enumerate(results):
        chosen = everything["period"] == period
        rows = everything[chosen]
        assert result == twin.clear_orders(grid, rows)
        filled_wh = filled[chosen].tolist()
        assert filled_wh == twin.fills(result, rows).tolist()
        agrees_with_reference(grid, rows, result, filled_wh)
        check(grid, rows, result, filled_wh)


@pytest.mark.parametrize("seed", range(40))
def test_clear_equals_twin_and_brute_force_in_10_240_random_books(book, seed):
    compare_session(book, GRIDS[seed % len(GRIDS)], np.random.default_rng(seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_400))
def test_clear_equals_twin_and_brute_force_in_102_400_more_books(book, seed):
    compare_session(book, GRIDS[seed % len(GRIDS)], np.random.default_rng(seed))


def cleared(book: Harness, rows, grid: PriceGrid = GRID) -> tuple[int, Clearing]:
    """Session and result of orders given as (side, tick, quantity) of period 0."""
    session = book.open(grid)
    rows = list(rows)
    if rows:
        book.place(session, bundle_of((0, *row) for row in rows))
    assert book.clear(session)
    return session, book.result(session)


ROWS = st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(0, 7), st.integers(1, 5)), min_size=1, max_size=8)


@settings(max_examples=150)
@given(ROWS)
def test_clear_equals_brute_force_when_books_are_small(book, rows):
    session, result = cleared(book, rows)
    packed = orders((0, *row) for row in rows)
    agrees_with_reference(GRID, packed, result, book.fills(session, packed.tobytes()))


@settings(max_examples=60)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 8))
def test_clear_does_not_depend_on_arrival(book, rows, random, cut):
    _, expected = cleared(book, rows)
    random.shuffle(rows)
    session = book.open(GRID)
    for start in range(0, len(rows), cut):
        book.place(session, bundle_of((0, *row) for row in rows[start : start + cut]))
    book.clear(session)
    assert book.result(session) == expected


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(SELL, 5, 10), (SELL, 7, 3)],
        [(BUY, 5, 10), (BUY, 199, 3)],
        [(BUY, 5, 10), (SELL, 6, 10), (SELL, 199, 1), (BUY, 0, 4)],
    ],
    ids=["empty", "supply only", "demand only", "no overlap"],
)
def test_clear_is_none_when_nothing_can_be_matched(book, rows):
    session, result = cleared(book, rows)
    assert result == Clearing(ClearingClass.NONE)
    if rows:
        assert set(book.fills(session, bundle_of((0, *row) for row in rows))) == {0}


def test_clear_meets_at_the_price_when_all_limits_are_equal(book):
    _, result = cleared(book, [(BUY, 9, 70), (SELL, 9, 40), (SELL, 9, 60)])
    assert result == Clearing(ClearingClass.MARGINAL_SELLER, GRID.price(9), 70, 9, 9, 9, 9, 70, 100)
    _, result = cleared(book, [(BUY, 9, 170), (SELL, 9, 40), (SELL, 9, 60)])
    assert result == Clearing(ClearingClass.MARGINAL_BUYER, GRID.price(9), 100, 9, 9, 9, 9, 100, 170)
    _, result = cleared(book, [(BUY, 9, 100), (SELL, 9, 40), (SELL, 9, 60)])
    assert result == Clearing(ClearingClass.EXACT, GRID.price(9), 100, 9, 9, 9, 9)


def test_clear_takes_the_midpoint_when_the_curves_cross_in_a_gap(book):
    matched = [(SELL, 10, 50), (BUY, 31, 50)]
    _, result = cleared(book, matched)
    assert result == Clearing(ClearingClass.EXACT, -1_000 + 205, 50, 10, 31, 10, 31)
    # The first bid that lost and the first offer that lost narrow the interval.
    _, result = cleared(book, [*matched, (BUY, 14, 9), (SELL, 25, 9), (BUY, 3, 9), (SELL, 190, 9)])
    assert result == Clearing(ClearingClass.EXACT, -1_000 + 195, 50, 10, 31, 14, 25)


def test_clear_rounds_the_price_down_when_it_is_negative_and_odd(book):
    grid = PriceGrid(-11, 3, 10)
    _, result = cleared(book, [(SELL, 0, 5), (BUY, 1, 5)], grid)
    assert result.price == -10  # between -11 and -8
    assert cleared(book, [(SELL, 1, 5), (BUY, 2, 5)], grid)[1].price == -7  # between -8 and -5


def test_clear_walks_every_word_when_ticks_are_far_apart(book):
    grid = PriceGrid(0, 1, MAX_TICKS)
    _, result = cleared(book, [(SELL, 0, 5), (SELL, 4095, 9), (BUY, 4095, 7), (BUY, 255, 3), (SELL, 256, 1)], grid)
    assert result == Clearing(ClearingClass.MARGINAL_SELLER, 4095, 7, 4095, 4095, 4095, 4095, 1, 9)


def test_clear_finds_every_bit_of_a_word_and_every_word(book):
    grid = PriceGrid(0, 1, MAX_TICKS)
    for tick in (*range(256), *range(256, MAX_TICKS, 257)):
        _, result = cleared(book, [(SELL, tick, 5), (BUY, tick, 5)], grid)
        assert result == Clearing(ClearingClass.EXACT, tick, 5, tick, tick, tick, tick, 0, 0)


@pytest.mark.parametrize("full", [(SELL, 2), (BUY, 5)])
def test_clear_equals_twin_when_lanes_are_full(book, full):
    grid = PriceGrid(0, 1, 8)
    session = book.open(grid)
    largest = 2**64 - 1
    rows = [(0, side, tick, 1) for side in (SELL, BUY) for tick in range(8)]
    book.place(session, bundle_of(rows))
    first_level = 1 + 32 + 512 * 16
    levels = np.ones((2, 8), dtype=object)  # demand, supply
    for tick in range(8):
        levels[:, tick] = largest
        if tick == full[1]:
            levels[1 - full[0], tick] -= 12_345
        for side in (BUY, SELL):
            book.store(session, first_level + MAX_TICKS * side + tick, int(levels[side, tick]))
    book.clear(session)
    assert book.level(session, full[1]) == tuple(levels[:, full[1]])
    result = book.result(session)
    assert result == twin.clear_levels(grid, levels[1], levels[0])
    assert result.volume_wh > 2**65
    one = orders([(0, side, tick, 2**32 - 1) for side in (SELL, BUY) for tick in range(8)])
    assert book.fills(session, one.tobytes()) == twin.fills(result, one).tolist()


def spread_rows(rng: np.random.Generator, n: int) -> list[tuple[int, int, int]]:
    """Orders far apart, many of them at the ends of bitmap words, where a resumed walk must not lose its place."""
    edges = [tick for word in range(0, 4096, 256) for tick in (word, word + 255)]
    ticks = np.where(rng.random(n) < 0.6, rng.choice(edges, n), rng.integers(0, 4096, n))
    return [(int(rng.integers(2)), int(tick), int(rng.integers(1, 9))) for tick in ticks]


@pytest.mark.parametrize("seed", range(12))
def test_clear_gives_one_result_when_it_takes_any_number_of_calls(book, seed):
    rng = np.random.default_rng(seed)
    grid = PriceGrid(-5, 1, MAX_TICKS, 2)
    rows = spread_rows(rng, 12)
    if seed == 0:
        rows = [(SELL, 4095, 3), (BUY, 4095, 1)]
    _, expected = cleared(book, rows, grid)
    levels = len({row[:2] for row in rows})
    reads = None
    bundle = bundle_of((0, *row) for row in rows)
    for step in range(1, levels + 1):
        session = book.open(grid)
        book.place(session, bundle)
        calls = 1
        while not book.clear(session, 0, step):
            assert book.unfinished(session) == 1
            calls += 1
            assert calls <= levels  # each side of a tick is read once at most
        reads = reads or calls
        assert calls == -(-reads // step)
        assert book.result(session) == expected and book.unfinished(session) == 0


@settings(max_examples=60)
@given(ROWS, st.lists(st.integers(0, 3), max_size=12))
def test_clear_gives_one_result_when_calls_differ(book, rows, steps):
    _, expected = cleared(book, rows)
    session = book.open(GRID)
    book.place(session, bundle_of((0, *row) for row in rows))
    for step in steps:
        if book.clear(session, 0, step):
            break
    else:
        assert book.clear(session)
    assert book.result(session) == expected


def test_clear_refuses_changes_while_unfinished(book):
    session, expected = cleared(book, [(SELL, 1, 5), (BUY, 4, 5), (BUY, 2, 5)])
    more = bundle_of([(0, BUY, 3, 1)])
    assert not book.clear(session, 0, 1)
    for change in (book.place, book.remove):
        with pytest.raises(Reverted, match=r"ClearingUnfinished\(1,\)"):
            change(session, more)
    assert not book.clear(session, 1, 0) or book.unfinished(session) == 1
    assert book.result(session) == expected  # of before
    assert book.clear(session)
    assert book.result(session) == expected
    book.place(session, more)


def test_clear_keeps_periods_of_a_slot_apart(book):
    session = book.open(GRID)
    book.place(session, bundle_of([(4, SELL, 3, 8), (4, BUY, 3, 5), (5, BUY, 3, 9), (5, SELL, 3, 2)]))
    book.clear(session, 4)
    book.clear(session, 5)
    assert book.result(session, 4).kind is ClearingClass.MARGINAL_SELLER
    assert book.result(session, 5).kind is ClearingClass.MARGINAL_BUYER
    assert (book.level(session, 3, 4), book.level(session, 3, 5)) == ((5, 8), (9, 2))


def test_clear_repeats_and_follows_the_book(book):
    session, expected = cleared(book, [(SELL, 1, 5), (BUY, 4, 5)])
    assert book.clear(session)
    assert book.result(session) == expected
    book.place(session, bundle_of([(0, BUY, 6, 2)]))
    assert book.clear(session)
    rows = orders([(0, SELL, 1, 5), (0, BUY, 4, 5), (0, BUY, 6, 2)])
    assert book.result(session) == twin.clear_orders(GRID, rows) != expected


def test_clear_refuses_when_period_is_outside_the_session(book):
    session = book.open(GRID)
    for call in (book.clear, book.result):
        with pytest.raises(Reverted, match=r"PeriodOutsideSession\(0, 24, 24\)"):
            call(session, 24)
