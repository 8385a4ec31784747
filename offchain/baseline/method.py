"""What a baseline method is, and which ones there are."""

from typing import Protocol

import numpy as np

from offchain.baseline.history import History
from offchain.baseline.mid_4_of_6 import Mid4Of6
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay


class BaselineMethod(Protocol):
    """A named, versioned rule from history to baseline; a change of results is a new version.

    Agreements refer to a method by ``"name@version"``, see :func:`method_id`.
    """

    name: str
    version: int

    def baseline(self, history: History, day: MarketDay) -> np.ndarray:
        """Expected net consumption per ISP of ``day``, import minus export, int64 [Wh], shape (isp_count,).

        Uses days before ``day`` only. Raises :class:`InsufficientHistoryError`.
        """
        ...


def method_id(method: BaselineMethod) -> str:
    """The identifier that agreements and commitments carry."""
    return f"{method.name}@{method.version}"


BASELINE_METHODS: dict[str, BaselineMethod] = {method_id(m): m for m in (Mid4Of6(),)}


def baseline_method(identifier: str) -> BaselineMethod:
    """Method by ``"name@version"``."""
    if identifier not in BASELINE_METHODS:
        known = ", ".join(BASELINE_METHODS)
        raise DomainError(f"unknown baseline method {identifier!r}", hint=f"one of {known}")
    return BASELINE_METHODS[identifier]


def baselines(method: BaselineMethod, first_isp: int, net_wh: np.ndarray, day: MarketDay) -> np.ndarray:
    """Baselines of several connections at once.

    Parameters
    ----------
    first_isp : int
        ISP of the first row of ``net_wh``.
    net_wh : ndarray of int, shape (n_isps, n_connections)
        Complete history, import minus export [Wh].

    Returns
    -------
    ndarray of int64, shape (day.isp_count, n_connections)
    """
    columns = [method.baseline(History(first_isp, column), day) for column in net_wh.T]
    return np.stack(columns, axis=1)
