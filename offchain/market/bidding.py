"""Orders from a forecast by the limit prices of whoever trades: what is short is bought, what is left is sold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import BPS, share_down
from offchain.market.orders import MAX_QUANTITY_WH, PriceGrid, orders
from offchain.market.terms import EnergyType, SessionTerms


@dataclass(frozen=True, slots=True)
class TradingPreference:
    """How a prosumer trades its forecast.

    Parameters
    ----------
    buy_limit, sell_limit : int
        Most that it pays, least that it takes [uToken/kWh]; rounded to the grid so that neither is broken.
    share_bps : int
        Share of the forecast to trade [1/10,000].
    buys, sells : EnergyType
        Type of what it buys and of what it produces.
    """

    buy_limit: int
    sell_limit: int
    share_bps: int = BPS
    buys: EnergyType = EnergyType.BROWN
    sells: EnergyType = EnergyType.BROWN

    def __post_init__(self):
        if not 0 <= self.share_bps <= BPS:
            raise DomainError(f"share {self.share_bps} of the forecast is outside 0..{BPS} basis points")


Limits = tuple[int | None, int | None]
"""Most that a buyer pays and least that a seller takes in one delivery period [uToken/kWh]; ``None``: no trade."""


def orders_from_forecast(terms: SessionTerms, net_wh: np.ndarray, preference: TradingPreference) -> np.ndarray:
    """One order for every delivery period with enough to trade, at the same limits in all of them.

    Parameters
    ----------
    net_wh : ndarray of int, shape (isps_per_period * period_count,)
        Expected net consumption per ISP of the session, import minus export [Wh].

    Returns
    -------
    ndarray of ``ORDER``
        Empty when no period reaches the smallest quantity or no limit is on the grid.
    """
    limits = [(preference.buy_limit, preference.sell_limit)] * terms.period_count
    return orders_by_limits(terms, net_wh, limits, preference.share_bps, preference.buys, preference.sells)


def orders_by_limits(
    terms: SessionTerms,
    net_wh: np.ndarray,
    limits: Sequence[Limits],
    share_bps: int,
    buys: EnergyType,
    sells: EnergyType,
) -> np.ndarray:
    """As :func:`orders_from_forecast`, with limits of their own for every delivery period."""
    expected = np.asarray(net_wh, dtype=np.int64)
    if expected.shape != (terms.isps_per_period * terms.period_count,):
        raise DomainError(
            f"forecast of shape {expected.shape} for {terms.period_count} periods of {terms.isps_per_period} ISPs"
        )
    by_period = expected.reshape(terms.period_count, terms.isps_per_period).sum(axis=1).tolist()
    rows = []
    for period, (energy_wh, (buy_limit, sell_limit)) in enumerate(zip(by_period, limits, strict=True)):
        quantity = min(share_down(abs(energy_wh), share_bps), MAX_QUANTITY_WH)
        sell = energy_wh < 0
        limit = sell_limit if sell else buy_limit
        tick = None if limit is None else _tick(terms.grid, limit, sell)
        if tick is not None and quantity >= terms.min_quantity_wh:
            rows.append((terms.product(sells if sell else buys, period), int(sell), tick, quantity))
    return orders(rows)


def _tick(grid: PriceGrid, limit: int, sell: bool) -> int | None:
    """Tick of a limit price, rounded so that the limit is not broken; ``None`` when no price on the grid keeps it."""
    if sell:
        tick = max(-((grid.base_price - limit) // grid.price_step), 0)
    else:
        tick = min((limit - grid.base_price) // grid.price_step, grid.tick_count - 1)
    return tick if 0 <= tick < grid.tick_count else None
