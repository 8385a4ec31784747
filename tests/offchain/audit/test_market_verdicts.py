"""The auditor's own clearing and settlement against the twin that operators go by, and against numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.audit import market_verdicts as own
from offchain.audit.market_verdicts import Books, Order, Trade
from offchain.domain.errors import DomainError
from offchain.market import settlement as twin
from offchain.market.clearing import Clearing, ClearingClass, clear_orders
from offchain.market.orders import pack_bundle
from offchain.market.settlement import FinalRates, Metered
from tests.offchain.market.session import TERMS, bundles, sessions


@st.composite
def books(draw):
    """Terms, some bundles, and what the meter of the first saw."""
    terms = draw(sessions())
    found = draw(st.lists(bundles(terms), min_size=1, max_size=5))
    metered = draw(
        st.lists(
            st.builds(Metered, st.integers(0, 9_000), st.integers(0, 9_000), st.booleans()),
            min_size=terms.period_count,
            max_size=terms.period_count,
        )
    )
    return terms, found, metered


@given(books())
def test_verdicts_agree_with_the_twin(case):
    terms, found, metered = case
    kept = Books()
    for number, book in enumerate(found):
        kept.put(bytes([number]), own.orders_of(terms, pack_bundle(terms.grid, book)))
    every = np.concatenate(found)
    products = range(terms.product_count)
    results = {p: clear_orders(terms.grid, every[every["period"] == p]) for p in products}
    assert {p: own.clear(terms.grid, kept.levels(p, 1), kept.levels(p, 0)) for p in products} == results
    everything = list(results.values())
    final = twin.final_rates(terms, everything)
    assert own.rates(terms, results) == final
    for number, book in enumerate(found):
        orders = kept.orders[bytes([number])]
        traded = own.trades(results, orders)
        fills = twin.bundle_fills(terms, everything, book)
        assert own.escrow(terms, orders) == twin.bundle_escrow(terms, book)
        assert own.needed(terms, traded) == twin.final_needs(terms, fills)
        assert own.outcome(terms, final, traded, metered) == twin.outcome(terms, final, fills, metered)


@given(st.lists(st.tuples(st.integers(0, 3), bundles(TERMS)), max_size=8))
def test_books_sum_what_stands_whatever_was_replaced(changes):
    kept, latest = Books(), {}
    for number, book in changes:
        orders = [Order(*row) for row in book.tolist()]
        kept.put(bytes([number]), orders)
        latest[bytes([number])] = orders
    fresh = Books()
    for connection_id, orders in latest.items():
        fresh.put(connection_id, orders)
    assert kept.occupied() == fresh.occupied()
    for product in range(TERMS.product_count):
        for sell in (0, 1):
            assert kept.levels(product, sell) == fresh.levels(product, sell)


def test_clear_rations_the_marginal_seller_as_the_contract_says():
    """The worked example of TickBook: 100, 100 and 100 Wh offered, 200 Wh left for them."""
    tick = TERMS.grid.tick(200_000)
    result = own.clear(TERMS.grid, [(tick, 300)], [(tick, 200)])
    ration = (200, 300)
    assert result == Clearing(ClearingClass.MARGINAL_SELLER, 200_000, 200, tick, tick, tick, tick, *ration)
    assert own.filled_wh(result, Order(0, 1, tick, 100)) == 66
    assert own.filled_wh(replace(result, price=-200_000), Order(0, 1, tick, 100)) == 67


def test_outcome_pays_the_worked_example_of_the_interface():
    """1,000 Wh sold at 120,000, 600 injected: receipts 120,000, guarantee 200,000, charges 120,000, payout 200,000."""
    terms = replace(TERMS, shortage_price=250_000, shortage_penalty_rate=50_000, brown_penalty_rate=0)
    metered = [Metered(0, 600), Metered(0, 0), Metered(0, 0)]
    found, injected_wh = own.outcome(terms, FinalRates(0, 0), {0: Trade(0, 1_000, 120_000)}, metered)
    assert (found.receipts, found.guarantee, found.charges, found.payout) == (120_000, 200_000, 120_000, 200_000)
    assert injected_wh == [600, 0, 0, 0, 0, 0]


def test_orders_of_names_an_order_that_is_not_on_the_grid():
    with pytest.raises(DomainError, match="order 0: tick"):
        own.orders_of(TERMS, bytes.fromhex("0000ffff000003e8"))
