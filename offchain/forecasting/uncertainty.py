"""How far a forecast may be off, from its own past: what a grid operator plans for beside the expectation."""

from datetime import timedelta

import numpy as np

from offchain.baseline.history import History
from offchain.domain.errors import InsufficientHistoryError
from offchain.domain.isp import MarketDay
from offchain.forecasting.method import ForecastMethod

DAYS = 28


def error_quantile_wh(
    method: ForecastMethod, history: History, day: MarketDay, share: float, *, days: int = DAYS
) -> np.ndarray:
    """Quantile of a method's errors per ISP over the last days, metered less forecast.

    ``forecast + error_quantile_wh(..., 0.8)`` was exceeded on one day in five at that time of day. Use it on
    sums (a congestion point, a portfolio): errors of single connections mostly cancel, their quantiles do not
    add up.

    Parameters
    ----------
    history : History
        Complete history of the sum before ``day``, longer than ``days`` by what the method itself needs.
    share : float
        Between 0 and 1: high for import that may be larger, low for feed-in that may be larger.
    days : int
        Days before ``day`` to look at; those without readings or forecast, or of another length, do not
        count.

    Returns
    -------
    ndarray of float, shape (day.isp_count,)
        Positive where more is consumed than forecast [Wh].

    Raises
    ------
    InsufficientHistoryError
        Less than half of the days can be used.
    """
    errors = []
    for back in range(1, days + 1):
        past = MarketDay.of(day.day - timedelta(days=back), history.zone)
        metered = history.values_of(past)
        if metered is None or past.isp_count != day.isp_count:
            continue
        try:
            errors.append(metered - method.forecast(history, past))
        except InsufficientHistoryError:
            continue
    if 2 * len(errors) < days:
        raise InsufficientHistoryError(
            available=len(errors), required=(days + 1) // 2, what=f"forecast errors before {day.day}"
        )
    return np.quantile(np.array(errors), share, axis=0)
