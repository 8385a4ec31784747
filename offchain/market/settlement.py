"""Money of a session: escrow, what a final match needs, and the outcome by meters.

Twin of ``EnergyMarket`` and ``MarketSettlement`` over integers; the formulas stand in ``interfaces/IEnergyMarket.sol``
and ``interfaces/IMarketSettlement.sol``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.units import WH_PER_KWH, cost_down, cost_up
from offchain.market.clearing import Clearing, ClearingClass, fills
from offchain.market.netting import Fills, Netted
from offchain.market.orders import escrow as limit_escrow
from offchain.market.terms import EnergyType, SessionTerms


@dataclass(frozen=True, slots=True)
class FinalRates:
    """Rates that the budgets of a session suffice for [uToken/kWh]."""

    surplus_price: int
    green_reward_rate: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a bundle; field for field ``IMarketSettlement.Outcome``: energy in Wh, money in uToken."""

    bought_wh: int
    sold_wh: int
    injected_green_wh: int
    injected_brown_wh: int
    covered_wh: int
    shortage_wh: int
    surplus_wh: int
    guarantee: int
    receipts: int
    charges: int
    surplus_payment: int
    green_reward: int
    payout: int


def bundle_escrow(terms: SessionTerms, book: np.ndarray) -> int:
    """Escrow of a bundle when it is placed [uToken]: worst-case costs, fee, delivery guarantee."""
    quantity = book["quantity_wh"].astype(np.int64)
    sold = int(quantity[book["sell"] == 1].sum())
    return (
        limit_escrow(terms.grid, book)
        + cost_up(int(quantity.sum()), terms.fee_rate)
        + cost_up(sold, terms.guarantee_rate)
    )


def bundle_fills(terms: SessionTerms, results: Sequence[Clearing], book: np.ndarray) -> Fills:
    """Fills of a bundle by the results of all products."""
    bought, sold = [0] * terms.product_count, [0] * terms.product_count
    for product in np.unique(book["period"]).tolist():
        own = book[book["period"] == product]
        filled = fills(results[product], own)
        bought[product] = int(filled[own["sell"] == 0].sum())
        sold[product] = int(filled[own["sell"] == 1].sum())
    touched = [b or s for b, s in zip(bought, sold, strict=True)]
    prices = [results[p].price if touched[p] else 0 for p in range(terms.product_count)]
    return Fills(bought, sold, prices)


def final_needs(terms: SessionTerms, final: Fills) -> int:
    """What a final match keeps in the pot [uToken]: costs at clearing prices, fee, delivery guarantee."""
    costs = sum(
        cost_up(bought, max(price, 0)) + cost_up(sold, max(-price, 0))
        for bought, sold, price in zip(final.bought_wh, final.sold_wh, final.prices, strict=True)
    )
    bought, sold = sum(final.bought_wh), sum(final.sold_wh)
    return costs + cost_up(bought + sold, terms.fee_rate) + cost_up(sold, terms.guarantee_rate)


def final_rates(terms: SessionTerms, results: Sequence[Clearing]) -> FinalRates:
    """Rates that the budgets suffice for, whoever injects or takes how little.

    See :func:`most_filled_wh`.
    """
    green = results[terms.product(EnergyType.GREEN, 0) :]
    bought = sum(most_filled_wh(terms, result, ClearingClass.MARGINAL_BUYER) for result in results)
    sold_green = sum(most_filled_wh(terms, result, ClearingClass.MARGINAL_SELLER) for result in green)
    return FinalRates(
        min(terms.surplus_price, terms.surplus_budget * WH_PER_KWH // bought) if bought else terms.surplus_price,
        min(terms.green_reward_rate, terms.reward_budget * WH_PER_KWH // sold_green)
        if sold_green
        else terms.green_reward_rate,
    )


def most_filled_wh(terms: SessionTerms, result: Clearing, rationed: ClearingClass) -> int:
    """Bound on the fills of a side of a product [Wh]; ``rationed`` is the class in which that side is rationed.

    Rationed orders are rounded up by less than a Wh each, and at the margin there are at most as many as smallest
    quantities.
    """
    if result.kind is not rationed:
        return result.volume_wh
    return result.volume_wh + result.ration_denominator // terms.min_quantity_wh + 1


def outcome(terms: SessionTerms, rates: FinalRates, final: Fills, netted: Netted) -> Outcome:
    """Outcome of a bundle by what :func:`offchain.market.netting.net` made of its fills."""
    receipts = charges = surplus = reward = shortage_wh = 0
    for product in range(terms.product_count):
        kind, period = terms.type_and_period(product)
        bought, sold, price = final.bought_wh[product], final.sold_wh[product], final.prices[product]
        injected, taken = netted.injected_wh[product], netted.taken_wh[product]
        short = sold - injected - netted.covered_wh[product]
        shortage_wh += short
        paid_price = max(price, 0)
        receipts += cost_down(taken, -price) if price < 0 else cost_down(sold, price)
        surplus += cost_down(bought - taken, min(rates.surplus_price, paid_price))
        with_penalty = max(terms.shortage_price, paid_price) + terms.shortage_penalty_rate
        charges += cost_up(short, paid_price if netted.incomplete[period] else with_penalty)
        if kind is EnergyType.GREEN:
            reward += cost_down(injected, rates.green_reward_rate)
        else:
            charges += cost_up(injected, terms.brown_penalty_rate)
    bought, sold = sum(final.bought_wh), sum(final.sold_wh)
    brown = sum(netted.injected_wh[: terms.period_count])
    guarantee = cost_up(sold, terms.guarantee_rate)
    charges = min(charges, guarantee + receipts)
    return Outcome(
        bought,
        sold,
        sum(netted.injected_wh) - brown,
        brown,
        sum(netted.covered_wh),
        shortage_wh,
        bought - sum(netted.taken_wh),
        guarantee,
        receipts,
        charges,
        surplus,
        reward,
        guarantee + receipts - charges + surplus + reward,
    )
