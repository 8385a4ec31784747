"""What a forecast method is, which ones there are, and how expectations become whole Wh."""

from typing import Protocol

import numpy as np

from offchain.baseline.history import History
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.forecasting.weekly_naive import WeeklyNaive


class ForecastMethod(Protocol):
    """A named, versioned rule from history to expectation."""

    name: str
    version: int

    def forecast(self, history: History, day: MarketDay) -> np.ndarray:
        """Expected net consumption per ISP of ``day``, import minus export, float [Wh], shape (isp_count,).

        Uses what ``history`` holds from before ``day`` only. Raises :class:`InsufficientHistoryError`.
        """
        ...


def method_id(method: ForecastMethod) -> str:
    """The identifier that commitments carry."""
    return f"{method.name}@{method.version}"


FORECAST_METHODS: dict[str, ForecastMethod] = {method_id(m): m for m in (WeeklyNaive(),)}


def forecast_method(identifier: str) -> ForecastMethod:
    """Method by ``"name@version"``."""
    if identifier not in FORECAST_METHODS:
        known = ", ".join(FORECAST_METHODS)
        raise DomainError(f"unknown forecast method {identifier!r}", hint=f"one of {known}")
    return FORECAST_METHODS[identifier]


def round_forecast_wh(expected_wh: np.ndarray) -> np.ndarray:
    """Expectations as whole Wh, halves toward plus infinity; the only place where forecasts are rounded."""
    expected_wh = np.asarray(expected_wh, dtype=float)
    if not np.isfinite(expected_wh).all():
        raise DomainError(
            f"{(~np.isfinite(expected_wh)).sum()} of {expected_wh.size} expected values are missing or infinite",
            hint="leave out who has no forecast",
        )
    return np.floor(expected_wh + 0.5).astype(np.int64)


def forecasts(method: ForecastMethod, first_isp: int, net_wh: np.ndarray, day: MarketDay) -> np.ndarray:
    """Forecasts of several connections at once.

    Parameters
    ----------
    first_isp : int
        ISP of the first row of ``net_wh``.
    net_wh : ndarray of int, shape (n_isps, n_connections)
        Complete history, import minus export [Wh].

    Returns
    -------
    ndarray of float, shape (day.isp_count, n_connections)
    """
    columns = [method.forecast(History(first_isp, column), day) for column in net_wh.T]
    return np.stack(columns, axis=1)
