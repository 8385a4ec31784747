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
from offchain.market.netting import Fills, MeteredWindow, Position, net, widened
from offchain.market.orders import pack_bundle
from offchain.market.settlement import FinalRates
from offchain.market.terms import Span
from tests.offchain.market.session import TERMS, bundles, sessions


@st.composite
def books(draw):
    """Terms, some bundles, and what the meter of the first saw."""
    terms = draw(sessions())
    found = draw(st.lists(bundles(terms), min_size=1, max_size=5))
    metered = draw(
        st.lists(
            st.none() | st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)),
            min_size=terms.period_count * terms.isps_per_period,
            max_size=terms.period_count * terms.isps_per_period,
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
        span = Span(0, terms.isps_per_period, terms.period_count)
        netted = net([Position(1, span, fills)], MeteredWindow.of(0, metered)).sessions[1]
        found = own.flows({1: (span, traded)}, dict(enumerate(metered)))
        flow = {product: found[1, product] for product in traded}
        expected = twin.outcome(terms, final, fills, netted), netted.injected_wh
        assert own.outcome(terms, final, traded, flow) == expected


@st.composite
def held(draw):
    """What a connection holds in sessions whose periods nest, and what its meter saw of all ISPs."""
    found = {}
    for session_id in range(1, draw(st.integers(2, 5)) + 1):
        length = draw(st.sampled_from([1, 2, 4]))
        count = draw(st.integers(1, 8 // length))
        span = Span(length * draw(st.integers(0, 8 // length)), length, count)
        wh = st.integers(0, 400) | st.just(0)
        traded = {p: Trade(draw(wh), draw(wh), 0) for p in draw(st.sets(st.integers(0, 2 * count - 1)))}
        found[session_id] = (span, traded)
    readings = draw(st.lists(st.none() | st.tuples(wh, wh), min_size=16, max_size=16))
    return found, readings


@given(held())
def test_flows_agree_with_the_twin_for_overlapping_sessions(case):
    found, readings = case
    flows = own.flows(found, dict(enumerate(readings)))
    positions = []
    for session_id, (span, traded) in found.items():
        sides = [[traded.get(p, Trade(0, 0, 0))[side] for p in range(2 * span.period_count)] for side in (0, 1, 2)]
        positions.append(Position(session_id, span, Fills(*sides)))
    expected = net(positions, MeteredWindow.of(0, readings)).sessions
    for (session_id, product), flow in flows.items():
        netted = expected[session_id]
        period = product % found[session_id][0].period_count
        by_product = netted.injected_wh[product], netted.covered_wh[product], netted.taken_wh[product]
        assert flow == (*by_product, netted.incomplete[period])


def test_flows_keep_green_purchases_for_green_sales():
    """A brown sale of a quarter hour comes before a green one of the hour, but the green purchase is not its."""
    found = {1: (Span(0, 1, 1), {0: Trade(0, 100, 0)}), 2: (Span(0, 4, 1), {1: Trade(0, 100, 0)})}
    found[3] = (Span(0, 1, 1), {1: Trade(100, 0, 0)})
    flows = own.flows(found, dict.fromkeys(range(4), (0, 0)))
    assert (flows[1, 0].covered_wh, flows[2, 1].covered_wh, flows[3, 1].taken_wh) == (0, 100, 100)
    empty = [0, 0]
    positions = [
        Position(1, Span(0, 1, 1), Fills(empty, [100, 0], empty)),
        Position(2, Span(0, 4, 1), Fills(empty, [0, 100], empty)),
        Position(3, Span(0, 1, 1), Fills([0, 100], empty, empty)),
    ]
    netted = net(positions, MeteredWindow.of(0, [(0, 0)] * 4)).sessions
    assert (netted[1].covered_wh, netted[2].covered_wh) == ([0, 0], [0, 100])


@given(held(), st.integers(1, 5))
def test_windows_agree_with_the_twin(case, which):
    found, _ = case
    spans = {session_id: span for session_id, (span, _) in found.items()}
    settled = spans[min(which, len(spans))]
    isps, inside = own.window_of(settled, spans)
    first, end, grown = settled.first_isp, settled.end_isp, True
    while grown:
        wider = widened(first, end, [s for s in spans.values() if s.first_isp < end and first < s.end_isp])
        grown, (first, end) = wider != (first, end), wider
    assert (isps.start, isps.stop) == (first, end)
    assert inside == [k for k, s in spans.items() if s.first_isp < isps.stop and isps.start < s.end_isp]


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
    traded = {0: Trade(0, 1_000, 120_000)}
    found, injected_wh = own.outcome(terms, FinalRates(0, 0), traded, {0: own.Flow(600)})
    assert (found.receipts, found.guarantee, found.charges, found.payout) == (120_000, 200_000, 120_000, 200_000)
    assert injected_wh == [600, 0, 0, 0, 0, 0]


def test_orders_of_names_an_order_that_is_not_on_the_grid():
    with pytest.raises(DomainError, match="order 0: tick"):
        own.orders_of(TERMS, bytes.fromhex("0000ffff000003e8"))
