"""What is compared: curves of several scales as rows of numbers."""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from offchain.domain.errors import DomainError
from offchain.profiling.batch import Batch, for_each
from offchain.profiling.days import QUARTER_HOURS, DayCurves, ProfileDay, profile_day

HOURS = 24


class Scale(StrEnum):
    """What one row stands for."""

    DAY = "day"
    """One day of one connection, 96 quarter hours."""
    DAILY = "daily"
    """The mean working day and the mean free day of one connection, 48 hours."""
    WEEKLY = "weekly"
    """The mean week of one connection, 168 hours, Monday first; holidays count as Sundays."""
    MONTHLY = "monthly"
    """The mean day of each month of one connection, 12 times 24 hours; months without days take the mean of the
    others."""


class Normalisation(StrEnum):
    """What is left of size and level, so that shapes are compared."""

    SHAPE = "shape"
    """Divided by the mean absolute value: size goes, base load and sign stay. Right for loads."""
    SPREAD = "spread"
    """Mean 0 and standard deviation 1: the pattern over time alone."""
    NONE = "none"
    """As metered: large connections decide."""


def normalised(rows: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Rows made comparable; a row of zeros, and with ``SPREAD`` a constant one, becomes zeros.

    Returns
    -------
    ndarray of float32, shape as given
    """
    values = np.asarray(rows, dtype=np.float64)
    if normalisation is Normalisation.SPREAD:
        values = values - values.mean(axis=1, keepdims=True)
        scale = values.std(axis=1, keepdims=True)
    elif normalisation is Normalisation.SHAPE:
        scale = np.abs(values).mean(axis=1, keepdims=True)
    else:
        return values.astype(np.float32)
    # rounding leaves a constant row with a spread of about 1e-16 of its level
    floor = 1e-9 * np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-300)
    return np.divide(values, scale, out=np.zeros_like(values), where=scale > floor).astype(np.float32)


def checked(rows: np.ndarray, width: int | None = None) -> np.ndarray:
    """Rows as float64, refused with one line where they are no table of finite numbers of the expected width."""
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or (width is not None and values.shape[1] != width):
        expected = "(n, width)" if width is None else f"(n, {width})"
        raise DomainError(f"curves have shape {values.shape}, expected {expected}")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise DomainError(
            f"{bad.size} of {len(values)} curves have missing or infinite values, the first is row {bad[0]}",
            hint="leave out incomplete days",
        )
    return values


def scale_vector(curves: DayCurves, scale: Scale) -> np.ndarray:
    """One connection at one scale.

    Returns
    -------
    ndarray of float, shape (48,), (168,) or (288,)
        Mean energy per hour [Wh], import positive.

    Raises
    ------
    DomainError
        Days that the scale needs are missing, or the scale is ``DAY``.
    """
    hourly = curves.wh.reshape(-1, HOURS, QUARTER_HOURS // HOURS).sum(axis=2)
    kinds = [profile_day(d) for d in curves.days]
    if scale is Scale.DAILY:
        groups = np.array([0 if k is ProfileDay.WORKING else 1 for k in kinds])
        names = ("working days", "free days")
    elif scale is Scale.WEEKLY:
        sunday = ProfileDay.SUNDAY
        groups = np.array([6 if k is sunday else d.weekday() for d, k in zip(curves.days, kinds, strict=True)])
        names = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
    elif scale is Scale.MONTHLY:
        groups = np.array([d.month - 1 for d in curves.days])
        mean = hourly.mean(axis=0)
        return np.concatenate([hourly[groups == m].mean(axis=0) if (groups == m).any() else mean for m in range(12)])
    else:
        raise DomainError("scale day has one row per day: use the curves themselves")
    for group, name in enumerate(names):
        if not (groups == group).any():
            raise DomainError(f"no {name} among {len(curves.days)} complete days", hint="load more history")
    return np.concatenate([hourly[groups == g].mean(axis=0) for g in range(len(names))])


def scale_rows(curves: Mapping[str, DayCurves], scale: Scale) -> tuple[list[str], np.ndarray, dict[str, str]]:
    """Many connections at one scale.

    Returns
    -------
    prosumers : list of str
    rows : ndarray of float, shape (n_prosumers, width)
    unusable : dict of str to str
        Connections without a row, and why.
    """
    batch: Batch[np.ndarray] = for_each(curves, lambda c: scale_vector(c, scale))
    if not batch.results:
        raise DomainError(f"none of {len(curves)} connections can be used at scale {scale.value}")
    return list(batch.results), np.stack(list(batch.results.values())), batch.unusable
