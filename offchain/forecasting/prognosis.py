"""D-prognosis: what an aggregator announces for a congestion point."""

from collections.abc import Mapping, Sequence

import numpy as np

from offchain.domain.errors import DomainError
from offchain.forecasting.method import round_forecast_wh


def d_prognoses(expected_wh: np.ndarray, members: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Sum of the members' forecasts per group, each member rounded first.

    Because every member is rounded by :func:`round_forecast_wh` before the sum, a prognosis equals the sum of
    the members' committed forecasts to the last Wh. A group is an aggregator, a congestion point or both.

    Parameters
    ----------
    expected_wh : ndarray, shape (n_isps, n_connections)
        Expected net consumption, import minus export [Wh].
    members : mapping of str to sequence of int
        Columns of each group; a connection belongs to one group at most.

    Returns
    -------
    dict of str to ndarray of int64, shape (n_isps,)
        Net consumption per ISP and group [Wh].
    """
    columns = [column for group in members.values() for column in group]
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise DomainError(f"connection {twice} is counted twice in the D-prognoses")
    outside = [column for column in columns if not 0 <= column < expected_wh.shape[1]]
    if outside:
        raise DomainError(f"connection {outside[0]} is not among {expected_wh.shape[1]} forecasts")
    rounded_wh = round_forecast_wh(expected_wh)
    return {name: rounded_wh[:, list(group)].sum(axis=1) for name, group in members.items()}
