"""
remove
├── more than the lane holds → NotInBook, nothing changed
├── any part of the book → storage byte for byte as if never placed; escrow additive
└── every rejection pattern of a small book → final clearing is that of the remaining orders
"""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offchain.market import clearing as twin
from offchain.market.orders import MAX_TICKS, PriceGrid, orders
from tests.contracts.TickBook.harness import Reverted, bundle_of, position
from tests.contracts.TickBook.invariants import check
from tests.contracts.TickBook.test_clear import agrees_with_reference

GRID = PriceGrid(-30, 10, MAX_TICKS, 24)
BUY, SELL = 0, 1
SUMMARIES, WORDS, LEVELS = 1, 1 + 32, 1 + 32 + 512 * 16
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 1),
        st.sampled_from([0, 1, 255, 256, 4095]),
        st.integers(1, 2**32 - 1),
    ),
    min_size=1,
    max_size=12,
)


def touched(rows) -> list[int]:
    """Slots that orders may change."""
    slots = {SUMMARIES}
    for period, sell, tick, _ in rows:
        level = LEVELS + MAX_TICKS * (2 * (period // 4) + sell) + tick
        slots |= {WORDS + 16 * (2 * period + sell) + position(tick, sell) // 256, level}
    return sorted(slots)


@settings(max_examples=80)
@given(ROWS, ROWS)
def test_remove_restores_the_storage(book, kept, taken):
    session = book.open(GRID)
    first = book.place(session, bundle_of(kept))
    before = book.storage(session, touched(kept + taken))
    placed = book.place(session, bundle_of(taken))
    assert book.remove(session, bundle_of(reversed(taken))) == placed
    assert book.storage(session, touched(kept + taken)) == before
    assert book.remove(session, bundle_of(kept)) == first
    assert set(book.storage(session, touched(kept + taken))) == {0}


@settings(max_examples=40)
@given(ROWS, st.data())
def test_remove_returns_the_escrow_of_a_part(book, rows, data):
    session = book.open(GRID)
    placed = book.place(session, bundle_of(rows))
    cut = data.draw(st.integers(0, len(rows) - 1))
    parts = [bundle_of(part) for part in (rows[:cut], rows[cut:]) if part]
    assert sum(book.remove(session, part) for part in parts) == placed


@pytest.mark.parametrize("row", [(4, BUY, 9, 11), (4, SELL, 9, 1), (5, BUY, 9, 1), (4, BUY, 8, 1)])
def test_remove_refuses_when_it_is_not_in_the_book(book, row):
    session = book.open(GRID)
    book.place(session, bundle_of([(4, BUY, 9, 10)]))
    with pytest.raises(Reverted) as refused:
        book.remove(session, bundle_of([(4, BUY, 9, 2), row]))
    present = 8 if row[:3] == (4, BUY, 9) else 0
    assert (refused.value.name, refused.value.arguments) == ("NotInBook", (1, present, row[3]))
    assert book.level(session, 9, 4) == (10, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [(SELL, 1, 5), (SELL, 1, 3), (SELL, 4, 4), (BUY, 4, 2), (BUY, 4, 7), (BUY, 9, 1)],
        [(SELL, 2, 5), (BUY, 2, 5), (SELL, 3, 5), (BUY, 3, 5), (SELL, 2, 1), (BUY, 3, 1)],
        [(SELL, 0, 9), (BUY, 7, 3), (BUY, 6, 3), (BUY, 5, 3), (SELL, 5, 2), (BUY, 1, 4)],
        [(SELL, 300, 2), (SELL, 600, 2), (BUY, 900, 3), (BUY, 500, 3), (SELL, 500, 1), (BUY, 500, 2)],
    ],
)
def test_clear_follows_every_pattern_of_rejected_matches(book, rows):
    session = book.open(GRID)
    everything = orders((0, *row) for row in rows)
    book.place(session, everything.tobytes())
    for count in range(len(rows) + 1):
        for rejected in combinations(range(len(rows)), count):
            kept = [n for n in range(len(rows)) if n not in rejected]
            if rejected:
                book.remove(session, everything[list(rejected)].tobytes())
            book.clear(session)
            result, remaining = book.result(session), everything[kept]
            assert result == twin.clear_orders(GRID, remaining)
            filled_wh = book.fills(session, remaining.tobytes()) if kept else []
            agrees_with_reference(GRID, remaining, result, filled_wh)
            check(GRID, remaining, result, filled_wh)
            if rejected:
                book.place(session, everything[list(rejected)].tobytes())
