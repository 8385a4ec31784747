"""A day-ahead forecast brought up to date by the readings of the day so far."""

import numpy as np

from offchain.domain.isp import ISPS_PER_HOUR

LOOK_BACK_ISPS = 2 * ISPS_PER_HOUR
KEPT_PER_HOUR = 0.5
"""Share of a deviation that is still there an hour later."""


def updated_by_readings(forecast_wh: np.ndarray, metered_wh: np.ndarray) -> np.ndarray:
    """Forecast of a day, shifted by how far the last two hours were off; the shift fades.

    It takes consumption down to nothing at most: the sun of the last hours says nothing of hours without any.

    Parameters
    ----------
    forecast_wh : ndarray, shape (n_isps, n_series)
        Net consumption of the whole day, import minus export [Wh].
    metered_wh : ndarray, shape (n_known, n_series)
        Readings of its first ISPs [Wh], NaN where one is missing.

    Returns
    -------
    ndarray, shape (n_isps, n_series)
        What is over stays as it was forecast; so does a series without a reading in those hours.
    """
    known = len(metered_wh)
    deviation = (metered_wh - forecast_wh[:known])[-LOOK_BACK_ISPS:]
    read = ~np.isnan(deviation)
    shift = np.where(read, deviation, 0).sum(axis=0) / np.maximum(read.sum(axis=0), 1)
    hours_ahead = np.arange(len(forecast_wh) - known)[:, None] / ISPS_PER_HOUR
    updated = np.array(forecast_wh, dtype=float)
    updated[known:] += shift * KEPT_PER_HOUR**hours_ahead
    return np.where(forecast_wh >= 0, np.maximum(updated, 0), updated)
