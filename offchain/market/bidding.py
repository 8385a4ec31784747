"""Orders from a forecast by the limit prices of whoever trades: what is short is bought, what is left is sold."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import BPS
from offchain.market.orders import MAX_QUANTITY_WH, orders
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


def orders_from_forecast(terms: SessionTerms, net_wh: np.ndarray, preference: TradingPreference) -> np.ndarray:
    """One order for every delivery period with enough to trade.

    Parameters
    ----------
    net_wh : ndarray of int, shape (isps_per_period * period_count,)
        Expected net consumption per ISP of the session, import minus export [Wh].

    Returns
    -------
    ndarray of ``ORDER``
        Empty when no period reaches the smallest quantity or no limit is on the grid.
    """
    expected = np.asarray(net_wh, dtype=np.int64)
    if expected.shape != (terms.isps_per_period * terms.period_count,):
        raise DomainError(
            f"forecast of shape {expected.shape} for {terms.period_count} periods of {terms.isps_per_period} ISPs"
        )
    by_period = expected.reshape(terms.period_count, terms.isps_per_period).sum(axis=1).tolist()
    grid = terms.grid
    buy_tick = min((preference.buy_limit - grid.base_price) // grid.price_step, grid.tick_count - 1)
    sell_tick = max(-((grid.base_price - preference.sell_limit) // grid.price_step), 0)
    rows = []
    for period, energy_wh in enumerate(by_period):
        quantity = min(abs(energy_wh) * preference.share_bps // BPS, MAX_QUANTITY_WH)
        sell = energy_wh < 0
        tick = sell_tick if sell else buy_tick
        if quantity >= terms.min_quantity_wh and 0 <= tick < grid.tick_count:
            energy_type = preference.sells if sell else preference.buys
            rows.append((terms.product(energy_type, period), int(sell), tick, quantity))
    return orders(rows)
