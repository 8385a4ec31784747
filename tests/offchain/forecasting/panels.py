"""Synthetic prosumers with a rhythm, noise and working days; small enough to train in a second."""

from datetime import date

import numpy as np

from offchain.domain.isp import MarketDay
from offchain.forecasting.experts import Settings
from offchain.forecasting.panel import Panel

QUICK = Settings(trees=30, spread_trees=20, boosted_rows=20_000, spread_rows=10_000, calibration_days=14)


def isp_of_day(day: date) -> int:
    return MarketDay.of(day).first_isp


def homes(count: int = 6, *, first: date = date(2016, 1, 4), last: date = date(2016, 3, 14), seed: int = 1) -> Panel:
    """Homes from local midnight of ``first`` to that of ``last``: an evening peak, less on free days, noise."""
    begin, end = isp_of_day(first), isp_of_day(last)
    isps = np.arange(begin, end)
    hour = (isps * 0.25 + 1) % 24
    weekday = ((isps + 4) // 96 + 3) % 7
    rng = np.random.default_rng(seed)
    shape = 60 + 100 * np.exp(-(((hour - 19) / 2) ** 2)) + 40 * np.exp(-(((hour - 7) / 1.5) ** 2))
    shape = shape * np.where(weekday >= 5, 0.8, 1.0)
    size = rng.uniform(0.5, 2.0, count)
    values = shape[:, None] * size * rng.gamma(6, 1 / 6, (isps.size, count))
    return Panel(tuple(f"home-{i}" for i in range(count)), begin, values)
