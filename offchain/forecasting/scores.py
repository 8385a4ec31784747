"""Scores of forecasts, and how they compare with a reference."""

import numpy as np

QUANTILES = (0.1, 0.5, 0.9)


def relative_mae(measured: np.ndarray, p50: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Mean absolute error over the span of the series (99th less 1st percentile), per series (last axis)."""
    return _mean(np.abs(p50 - measured)) / span


def span(values: np.ndarray) -> np.ndarray:
    """99th less 1st percentile per series, 1 for constant series."""
    width = np.nanquantile(values, 0.99, axis=0) - np.nanquantile(values, 0.01, axis=0)
    return np.where(width > 0, width, 1.0)


def pinball(measured: np.ndarray, predicted: np.ndarray, level: float) -> np.ndarray:
    """Pinball loss of a quantile per series (last axis): ``level`` of what was too low, the rest of too high."""
    error = measured - predicted
    return _mean(np.maximum(level * error, (level - 1) * error))


def relative_crps(
    measured: np.ndarray, p10: np.ndarray, p50: np.ndarray, p90: np.ndarray, span: np.ndarray
) -> np.ndarray:
    """Continuous ranked probability score over the span, per series, from the three quantiles.

    Twice the mean pinball loss of P10, P50, P90, which approximates the integral over all quantiles; with more
    quantiles it would converge to the CRPS.
    """
    losses = [pinball(measured, p, q) for p, q in zip((p10, p50, p90), QUANTILES, strict=True)]
    return 2 * np.mean(losses, axis=0) / span


def coverage(measured: np.ndarray, p10: np.ndarray, p90: np.ndarray) -> np.ndarray:
    """Share of measured values within P10 to P90 per series, NaN where the interval never has a width.

    Steps whose interval has no width (a PV system at night) say nothing and do not count.
    """
    counted = ~np.isnan(measured) & (p90 > p10)
    inside = counted & (measured >= p10) & (measured <= p90)
    axes = tuple(range(measured.ndim - 1))
    total = counted.sum(axis=axes)
    return np.where(total > 0, inside.sum(axis=axes) / np.maximum(total, 1), np.nan)


def _mean(errors: np.ndarray) -> np.ndarray:
    return np.nanmean(errors, axis=tuple(range(errors.ndim - 1)))
