"""What of an expectation is not traded yet: what a connection buys and sells in a later session of the same hours."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import BPS
from offchain.market.bidding import TradingPreference
from offchain.market.netting import Position, traded_wh
from offchain.market.terms import SessionTerms

METHOD = "open_position@1"
"""Of commitments of open positions: a forecaster commits them as forecasts, so that trading rules hold for them."""


def open_position_wh(
    first_isp: int, expected_wh: np.ndarray, positions: Iterable[Position], share_bps: int = BPS
) -> np.ndarray:
    """Part of the expected net consumption that is to be traded still, per ISP [Wh].

    Positive is to be bought, negative to be sold. Whoever trades a share of its forecast trades the same share of this:
    900 Wh sold at a share of 9,000 use up 1,000 Wh of what is expected.

    A position counts in any ISP of its period, so what is open is told period by period of the longest product: an hour
    of which 1,000 Wh are sold and 300 Wh and 700 Wh are to be injected in its halves is not open. What is open lies
    where as much is expected to be consumed (injected); evenly, where nothing is.

    Parameters
    ----------
    first_isp : int
        First ISP of the window, which holds whole periods of the longest product.
    expected_wh : ndarray of int, shape (n_isps,)
        Expected net consumption, import minus export [Wh].
    positions : iterable of Position
        Final fills of the connection in sessions that deliver in the window.
    share_bps : int
        Share of its forecast that the connection trades [1/10,000].
    """
    if not 0 < share_bps <= BPS:
        raise DomainError(f"share {share_bps} of the forecast is outside 1..{BPS} basis points")
    positions, expected = list(positions), np.asarray(expected_wh, dtype=np.int64)
    length = max((p.span.isps_per_period for p in positions), default=1)
    longest = [p.span.first_isp for p in positions if p.span.isps_per_period == length]
    if len(expected) % length or any((first - first_isp) % length for first in longest):
        raise DomainError(
            f"{len(expected)} ISPs from {first_isp} cut periods of {length} ISPs", hint="take whole periods"
        )
    bought, sold = traded_wh(first_isp, len(expected), positions)
    by_period = expected.reshape(-1, length)
    traded = (bought - sold).reshape(-1, length).sum(axis=1)
    still_open = by_period.sum(axis=1) - traded * BPS // share_bps
    return np.concatenate([_laid_on(total, wanted) for total, wanted in zip(still_open, by_period, strict=True)])


def by_reason(
    terms: SessionTerms, open_wh: np.ndarray, bought_wh: np.ndarray, sold_wh: np.ndarray, usual: TradingPreference
) -> Iterator[tuple[np.ndarray, TradingPreference]]:
    """Parts of an open position [Wh], each with how it is traded.

    Where something was sold, the type that was sold is bought back, because no other covers it. Where something was
    bought, what is too much is sold as green only by a green producer that bought green. Both at the limits beyond
    which the balancing party is cheaper. Elsewhere as usual.

    Parameters
    ----------
    open_wh, bought_wh, sold_wh : ndarray of int, shape (isps_per_period * period_count,)
        Of the ISPs of the session.
    """
    sold, bought = sold_wh > 0, (bought_wh > 0) & (sold_wh == 0)
    shortage_price = terms.shortage_price + terms.shortage_penalty_rate - terms.fee_rate
    surplus_price = terms.surplus_price + terms.fee_rate
    buys_back = replace(usual, buys=usual.sells, buy_limit=max(usual.buy_limit, shortage_price))
    resells = replace(usual, sells=min(usual.buys, usual.sells), sell_limit=min(usual.sell_limit, surplus_price))
    yield np.where(sold, open_wh, 0), buys_back
    yield np.where(bought, open_wh, 0), resells
    yield np.where(sold | bought, 0, open_wh), usual


def _laid_on(total_wh: int, expected_wh: np.ndarray) -> np.ndarray:
    """A total in whole Wh, in the proportions of what is expected with its sign."""
    weights = np.maximum(expected_wh if total_wh > 0 else -expected_wh, 0)
    if not weights.any():
        weights = np.ones_like(weights)
    # Differences of a rounded running sum: whole Wh that add up.
    return np.diff(total_wh * np.cumsum(weights) // weights.sum(), prepend=0)
