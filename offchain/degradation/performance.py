"""Performance of a plant day by day: metered over expected yield, without the days that say nothing."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import pandas as pd

from offchain.baseline.history import DEFAULT_ZONE
from offchain.domain.errors import DomainError
from offchain.profiling.days import local_days

LEAST_EXPECTED = 0.1
"""Quarter hours below this share of the largest expected one are twilight."""
STANDING_STILL = 0.02
MOST_STANDING = 0.05
"""Share of a day's expected energy during which the plant may yield next to nothing."""
LEAST_COVERAGE = 0.7
DULL = 0.15
"""Days with less than this share of the largest expected daily energy."""
AT_LIMIT = 0.98
CLEAR_RIPPLE = 0.04
OUTLIER_DAYS = 61
OUTLIER = 0.3


class LeftOut(StrEnum):
    """Why a day does not count."""

    GAPS = "readings missing"
    DULL = "too little expected"
    OUTAGE = "plant stood still"
    CLOUDY = "not a clear day"
    OUTLIER = "far from the days around it"


@dataclass(frozen=True)
class Performance:
    """Daily performance of a plant.

    Attributes
    ----------
    days : tuple of date
        Days that count, ascending.
    index : ndarray of float, shape (n_days,)
        Metered over expected energy of the day, 1 = as new and clean.
    left_out : dict of date to LeftOut
    """

    days: tuple[date, ...]
    index: np.ndarray
    left_out: dict[date, LeftOut]


def daily_performance(
    generation_wh: np.ndarray,
    expected_wh: np.ndarray,
    first_isp: int,
    *,
    clear_sky: bool = False,
    inverter_w: float | None = None,
    zone: str = DEFAULT_ZONE,
) -> Performance:
    """Metered over expected energy, day by day.

    Left out are days with gaps, dull ones, ones on which the plant stood still during more than 5% of the
    expected energy, and ones more than 30% from the median of the 61 days around (snow, part of the plant
    down for a day). Quarter hours at the limit of the inverter do not count: there a loss does not show.

    Parameters
    ----------
    generation_wh : ndarray of float, shape (n_isps,)
        Metered generation [Wh], non-negative, NaN where missing.
    expected_wh : ndarray of float, shape (n_isps,)
        See :func:`offchain.degradation.plant.expected_wh`.
    clear_sky : bool
        Expected is the clear sky's: only clear days count, those on which the ratio hardly changes from one
        quarter hour to the next.
    inverter_w : float, optional
        Limit of the inverter [W].

    Raises
    ------
    DomainError
        Shapes differ, or generation is negative.
    """
    if generation_wh.shape != expected_wh.shape or generation_wh.ndim != 1:
        raise DomainError(f"generation {generation_wh.shape} and expected yield {expected_wh.shape} differ in shape")
    known = ~np.isnan(generation_wh)
    if (generation_wh[known] < 0).any():
        raise DomainError("generation is negative", hint="give export minus import of the plant's own meter")
    days, index = local_days(first_isp, generation_wh.size, zone)
    inside = (index >= 0) & (index < generation_wh.size)
    at = np.where(inside, index, 0)
    known = known[at] & inside
    metered = np.where(known, np.nan_to_num(generation_wh)[at], 0.0)
    expected = np.where(inside, expected_wh[at], 0.0)
    light = expected > LEAST_EXPECTED * expected.max(initial=0.0)
    bright = np.where(light, expected, 0.0).sum(axis=1)
    counted = known & light
    if inverter_w is not None:
        counted &= metered < AT_LIMIT * inverter_w / 4
    weight = np.where(counted, expected, 0.0)
    energy = weight.sum(axis=1)
    standing = np.where(counted & (metered < STANDING_STILL * expected), expected, 0.0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(counted, metered / expected, np.nan)
        performance = np.where(counted, metered, 0.0).sum(axis=1) / energy
        gaps = np.where(known & light, expected, 0.0).sum(axis=1) < LEAST_COVERAGE * bright
        # the inverter may be at its limit for most of a day; what is left must still be a fair part of it
        dull = (bright < DULL * bright.max(initial=0.0)) | (energy < DULL * bright)
        outage = standing > MOST_STANDING * energy
    reasons = {LeftOut.GAPS: gaps, LeftOut.DULL: dull, LeftOut.OUTAGE: outage}
    if clear_sky:
        reasons[LeftOut.CLOUDY] = ~_clear(ratio)
    left_out: dict[date, LeftOut] = {}
    for reason, mask in reasons.items():
        for i in np.flatnonzero(mask):
            left_out.setdefault(days[i], reason)
    kept = np.array([d not in left_out for d in days], dtype=bool)
    far = _far(days, performance, kept)
    left_out |= {days[i]: LeftOut.OUTLIER for i in np.flatnonzero(far)}
    kept &= ~far
    return Performance(tuple(d for d, k in zip(days, kept, strict=True) if k), performance[kept], left_out)


def _clear(ratio: np.ndarray) -> np.ndarray:
    """Days on which the ratio of metered to clear-sky energy runs smoothly."""
    change = np.abs(np.diff(ratio, axis=1))
    count = (~np.isnan(change)).sum(axis=1)
    ripple = np.nansum(change, axis=1) / np.maximum(count, 1)
    level = np.nansum(ratio, axis=1) / np.maximum((~np.isnan(ratio)).sum(axis=1), 1)
    return (count > 0) & (ripple < CLEAR_RIPPLE * level)


def _far(days: tuple[date, ...], performance: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Days that count and are far from the median of those around them."""
    series = pd.Series(np.where(kept, performance, np.nan), pd.DatetimeIndex(days))
    median = series.rolling(f"{OUTLIER_DAYS}D", center=True, min_periods=1).median()
    return (np.abs(series / median - 1) > OUTLIER).to_numpy() & kept
