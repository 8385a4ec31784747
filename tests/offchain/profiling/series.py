"""Histories that tests share."""

from datetime import date

import numpy as np

from offchain.baseline.history import History
from offchain.domain.isp import MarketDay

ZONE = "Europe/Berlin"


def history(first: date, last: date, value=None, zone: str = ZONE) -> History:
    """Whole local days from ``first`` to ``last``; ``value(isp_position)`` or zeros [Wh]."""
    start, end = MarketDay.of(first, zone).first_isp, MarketDay.of(last, zone).end_isp
    at = np.arange(end - start)
    values = np.zeros(at.size, dtype=np.int64) if value is None else np.asarray(value(at), dtype=np.int64)
    return History(start, values, None, zone)
