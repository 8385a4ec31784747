"""Escrow, needs, rates and outcomes of sessions: worked numbers and conservation."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offchain.market.clearing import Clearing, ClearingClass, clear_orders
from offchain.market.netting import Fills, MeteredWindow, Position, net
from offchain.market.orders import orders
from offchain.market.settlement import (
    FinalRates,
    bundle_escrow,
    bundle_fills,
    final_needs,
    final_rates,
    outcome,
)
from offchain.market.terms import EnergyType, Span
from tests.offchain.market.session import TERMS, bundles, sessions

RATES = FinalRates(surplus_price=80_000, green_reward_rate=20_000)
BROWN_0 = TERMS.product(EnergyType.BROWN, 0)
GREEN_0 = TERMS.product(EnergyType.GREEN, 0)
NOTHING = (0, 0)


def trade(product: int, *, bought_wh: int = 0, sold_wh: int = 0, price: int = 120_000) -> Fills:
    """Fills in one product alone."""
    fills = Fills([0] * TERMS.product_count, [0] * TERMS.product_count, [0] * TERMS.product_count)
    fills.bought_wh[product], fills.sold_wh[product], fills.prices[product] = bought_wh, sold_wh, price
    return fills


def settled(terms, rates, fills: Fills, readings):
    """Outcome of a lone position by readings of its ISPs."""
    position = Position(1, Span(0, terms.isps_per_period, terms.period_count), fills)
    return outcome(terms, rates, fills, net([position], MeteredWindow.of(0, readings)).sessions[1])


def outcome_of(fills: Fills, reading: tuple[int, int] | None, terms=TERMS, rates=RATES):
    """With one reading other than zero, or missing, in the first ISP."""
    isps = terms.isps_per_period * terms.period_count
    return settled(terms, rates, fills, [reading, *[NOTHING] * (isps - 1)])


def test_escrow_holds_worst_case_fee_and_guarantee():
    book = orders([(0, 0, 17, 1_000), (1, 1, 2, 500), (2, 0, 1, 100)])
    # Buys 1,000 Wh at most 120,000; sells 500 Wh at -30,000 at least; buys at -40,000: nothing to pay.
    assert bundle_escrow(TERMS, book) == 120_000 + 15_000 + 1_600 + 100_000


def test_outcome_pays_receipts_and_guarantee_when_all_is_injected():
    result = outcome_of(trade(GREEN_0, sold_wh=1_000), (0, 1_000))
    assert (result.receipts, result.guarantee, result.charges) == (120_000, 200_000, 0)
    assert result.green_reward == 20_000
    assert result.payout == 340_000


def test_outcome_charges_shortage_price_and_penalty_when_less_is_injected():
    terms = replace(TERMS, shortage_price=250_000)
    result = outcome_of(trade(GREEN_0, sold_wh=1_000), (0, 600), terms, FinalRates(0, 0))
    # The example of IMarketSettlement.
    assert (result.shortage_wh, result.charges, result.payout) == (400, 120_000, 200_000)


def test_outcome_never_charges_less_than_the_price_that_the_seller_got():
    terms = replace(TERMS, shortage_price=0, shortage_penalty_rate=0)
    result = outcome_of(trade(BROWN_0, sold_wh=1_000), NOTHING, terms)
    assert result.payout == result.guarantee


def test_outcome_limits_charges_to_guarantee_and_receipts():
    terms = replace(TERMS, shortage_penalty_rate=10_000_000)
    result = outcome_of(trade(BROWN_0, sold_wh=1_000), NOTHING, terms)
    assert (result.charges, result.payout) == (320_000, 0)


def test_outcome_pays_surplus_at_most_at_the_price_paid():
    assert outcome_of(trade(BROWN_0, bought_wh=1_000, price=50_000), (400, 0)).surplus_payment == 30_000
    assert outcome_of(trade(BROWN_0, bought_wh=1_000, price=120_000), (400, 0)).surplus_payment == 48_000


def test_outcome_pays_for_taking_at_a_negative_price_only_what_was_taken():
    result = outcome_of(trade(BROWN_0, bought_wh=1_000, price=-40_000), (300, 0))
    assert (result.receipts, result.surplus_payment, result.payout) == (12_000, 0, 12_000)


def test_outcome_neither_earns_nor_costs_when_readings_are_missing():
    assert outcome_of(trade(BROWN_0, sold_wh=1_000), None).payout == 200_000
    bought = outcome_of(trade(BROWN_0, bought_wh=1_000), None)
    assert (bought.surplus_wh, bought.payout) == (0, 0)


def test_outcome_counts_injection_as_green_first():
    fills = trade(GREEN_0, sold_wh=700)
    fills.sold_wh[BROWN_0], fills.prices[BROWN_0] = 600, 100_000
    result = outcome_of(fills, (0, 1_000))
    assert (result.injected_green_wh, result.injected_brown_wh, result.shortage_wh) == (700, 300, 300)


def test_final_rates_go_down_when_a_budget_does_not_suffice():
    results = [Clearing(ClearingClass.NONE)] * TERMS.product_count
    results[BROWN_0] = Clearing(ClearingClass.EXACT, 1, 10_000)
    results[GREEN_0] = Clearing(ClearingClass.MARGINAL_BUYER, 1, 990, ration_numerator=40, ration_denominator=90)
    # 50,000 uToken for 10,000 + 990 + 10 Wh; 10,000 uToken for 990 Wh.
    assert final_rates(TERMS, results) == FinalRates(50_000 * 1_000 // 11_000, 10_000 * 1_000 // 990)


readings = st.none() | st.tuples(st.integers(0, 5_000), st.integers(0, 5_000))


@given(st.data())
def test_pot_covers_every_payout_in_any_order(data):
    terms = data.draw(sessions())
    books = data.draw(st.lists(bundles(terms), min_size=1, max_size=6))
    everything = np.concatenate(books)
    results = [clear_orders(terms.grid, everything[everything["period"] == p]) for p in range(terms.product_count)]
    rates = final_rates(terms, results)
    pot = terms.surplus_budget + terms.reward_budget + sum(bundle_escrow(terms, book) for book in books)
    for book in books:
        fills = bundle_fills(terms, results, book)
        needs = final_needs(terms, fills)
        assert needs <= bundle_escrow(terms, book)
        isps = terms.isps_per_period * terms.period_count
        metered = data.draw(st.lists(readings, min_size=isps, max_size=isps))
        pot -= bundle_escrow(terms, book) - needs
        pot -= settled(terms, rates, fills, metered).payout
    assert pot >= 0
