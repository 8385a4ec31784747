"""Recursive least squares with forgetting, in exact integers.

The recursion for forgetting ``f`` minimises ``sum f^age * (metered - x . theta)^2 + f^n * ridge * |theta - prior|^2``
over the days that it has seen. This sum is formed directly, with integer weights, and its normal equations are
solved exactly, so that the result does not depend on the order of additions, a linear algebra library or a
machine: ``A theta = b`` has integers only, fraction-free elimination gives ``theta`` as quotients of integers,
and the prediction is rounded once.

References
----------
.. [1] E. H. Bareiss, "Sylvester's identity and multistep integer-preserving Gaussian elimination",
   Mathematics of Computation 22, 565-578, 1968.
.. [2] S. Haykin, "Adaptive filter theory", Prentice Hall, chapter on recursive least squares.
"""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import numpy as np

from offchain.baseline.adjustment import window_before
from offchain.baseline.rounding import rounded_mean_wh
from offchain.baseline.similar_days import SimilarDayMethod
from offchain.domain.isp import ISPS_PER_HOUR

MEAN_DAYS = 10
"""Days of the mean that is the first feature, and the prior before there is anything to learn from."""
LAGS = (1, 5)
"""Days back of the lagged features: the day before, and (five working days) the week before."""
WEIGHT_ONE = 1 << 20
"""Weight of the latest day."""
RIDGE = 4
"""Weight of the prior: that of four ISPs of usual size."""
SPLIT = 30
_MEAN = 0


def forgetting_weights(days: int) -> list[int]:
    """Weights by age for forgetting 0.995: the first is 2^20, each 199/200 of the one before, rounded half up."""
    weights = [WEIGHT_ONE]
    while len(weights) < days:
        weights.append((weights[-1] * 199 + 100) // 200)
    return weights[:days]


@dataclass(frozen=True)
class LeastSquares(SimilarDayMethod):
    """What metered values were made of over the last similar days: 10-day mean, lag 1, lag 5 and a constant.

    One model for each local hour of the day, over its four ISPs. Before there are more than ten days the result
    is the 10-day mean.
    """

    window_days: int = 250
    """Similar days looked back at: a year of working days; the oldest count 0.3 of the latest."""

    @property
    def least_days(self) -> int:
        return MEAN_DAYS

    @property
    def most_days(self) -> int:
        return self.window_days

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        return _hourly(past, slice(0, past.shape[1]))

    def in_event(self, past: np.ndarray, today: np.ndarray | None, event: slice) -> np.ndarray:
        return _hourly(past, event)


@dataclass(frozen=True)
class LeastSquaresSameDay(SimilarDayMethod):
    """As :class:`LeastSquares`, and by how much the two hours before the event differ from their 10-day mean.

    One model over the ISPs of the event; outside it the baseline is the 10-day mean. How much of a difference
    before an event lasts into it is learnt for each connection, so that a single home is hardly moved by it and
    a business is.
    """

    window_days: int = 250
    from_isps: int = 8
    until_isps: int = 0

    same_day: ClassVar[bool] = True

    @property
    def least_days(self) -> int:
        return MEAN_DAYS

    @property
    def most_days(self) -> int:
        return self.window_days

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        curve = rounded_mean_wh(past[:MEAN_DAYS].sum(axis=0), MEAN_DAYS)
        curve[event] = self.in_event(past, today, event)
        return curve

    def in_event(self, past: np.ndarray, today: np.ndarray | None, event: slice) -> np.ndarray:
        window = window_before(event, self.from_isps, self.until_isps)
        before = np.concatenate([today[None, window], past[:, window]])
        deviation_wh = rounded_mean_wh((before[: _rows(before)] - _means(before)).sum(axis=1), before.shape[1])
        return _predict(past[:, event], deviation_wh)


def _hourly(past: np.ndarray, wanted: slice) -> np.ndarray:
    """Predictions of the ISPs wanted, hour by hour; an hour is four ISPs from local midnight."""
    first = wanted.start // ISPS_PER_HOUR * ISPS_PER_HOUR
    hours = [
        _predict(past[:, start : start + ISPS_PER_HOUR], None) for start in range(first, wanted.stop, ISPS_PER_HOUR)
    ]
    return np.concatenate(hours)[wanted.start - first : wanted.stop - first]


def _rows(days: np.ndarray) -> int:
    """Days of an array, latest first, that have ten days before them."""
    return len(days) - MEAN_DAYS


def _means(days: np.ndarray) -> np.ndarray:
    """Rounded mean of the ten days before each day that has them."""
    sums = np.zeros((len(days) + 1, *days.shape[1:]), dtype=np.int64)
    np.cumsum(days, axis=0, out=sums[1:])
    return rounded_mean_wh(sums[MEAN_DAYS + 1 :] - sums[1:-MEAN_DAYS], MEAN_DAYS)


def _predict(past: np.ndarray, deviation_wh: np.ndarray | None) -> np.ndarray:
    """Predictions of one block of ISPs.

    Parameters
    ----------
    past : ndarray of int64, shape (n_days, n_isps, n_connections)
        Latest first.
    deviation_wh : ndarray of int64, shape (n_days + 1 - 10, n_connections), optional
        Of the day itself and of the days before it.

    Returns
    -------
    ndarray of int64, shape (n_isps, n_connections)
    """
    # Row 0 stands for the day itself; its metered values are unknown and not looked at.
    days = np.concatenate([np.zeros_like(past[:1]), past])
    rows = _rows(days)
    features = [_means(days), *(days[lag : lag + rows] for lag in LAGS)]
    unit_wh = np.array([_size(column) for column in features[_MEAN][-1].T], dtype=np.int64)
    features.append(np.broadcast_to(unit_wh, features[_MEAN].shape))
    if deviation_wh is not None:
        features.append(np.broadcast_to(deviation_wh[:, None], features[_MEAN].shape))
    x = np.stack(features)  # (n_features, rows, n_isps, n_connections)
    weights = forgetting_weights(rows)
    with_target = np.concatenate([x[:, 1:], days[None, 1:rows]])
    gram = _weighted_gram(with_target, np.array(weights[: rows - 1], dtype=np.int64))
    ridge = weights[rows - 1] * RIDGE
    result = np.empty(past.shape[1:], dtype=np.int64)
    for connection in range(past.shape[2]):
        matrix = [[int(value) for value in row] for row in gram[: len(x), :, connection]]
        prior = ridge * int(unit_wh[connection]) ** 2
        for feature in range(len(x)):
            matrix[feature][feature] += prior
        matrix[_MEAN][-1] += prior
        numerators, denominator = solve_exactly(matrix)
        for isp in range(past.shape[1]):
            total = sum(n * int(v) for n, v in zip(numerators, x[:, 0, isp, connection], strict=True))
            result[isp, connection] = (2 * total + denominator) // (2 * denominator)
    return result


def _size(values_wh: np.ndarray) -> int:
    """Root of the mean square, rounded down, at least one: what the constant and the prior are measured in [Wh]."""
    return max(isqrt(sum(int(v) ** 2 for v in values_wh) // len(values_wh)), 1)


def _weighted_gram(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``sum of weight * x_i * x_j`` over days and ISPs, exact, shape (n, n, n_connections), Python integers.

    Daily sums below 2^62 are split at bit 30, so that with weights of at most 2^20 and at most 2^10 days all sums
    stay within 63 bits, whatever their order; larger values take Python integers throughout.
    """
    if not x.shape[1]:
        return np.zeros((len(x), len(x), x.shape[-1]), dtype=object)
    if int(np.abs(x).max()) ** 2 * x.shape[2] >= 2**62:
        x, weights = x.astype(object), weights.astype(object)
        return np.stack([[(weights[:, None, None] * a * b).sum(axis=(0, 1)) for b in x] for a in x])
    result = np.empty((len(x), len(x), x.shape[-1]), dtype=object)
    for i, a in enumerate(x):
        for j in range(i, len(x)):
            daily = np.einsum("dtc,dtc->dc", a, x[j])
            high, low = daily >> SPLIT, daily & ((1 << SPLIT) - 1)
            total = (weights[:, None] * high).sum(axis=0).astype(object) * (1 << SPLIT)
            result[i, j] = result[j, i] = total + (weights[:, None] * low).sum(axis=0)
    return result


def solve_exactly(augmented: list[list[int]]) -> tuple[list[int], int]:
    """Solution of ``A x = b`` as integers over one denominator, from rows ``[A | b]``; overwrites them.

    ``A`` has to be positive definite, which a prior of positive weight ensures: no pivot is then zero, and the
    denominator, its determinant, is positive.
    """
    n, previous = len(augmented), 1
    for k in range(n - 1):
        pivot = augmented[k]
        for row in augmented[k + 1 :]:
            factor = row[k]
            for j in range(k + 1, n + 1):
                # divides without remainder (Sylvester's identity)
                row[j] = (row[j] * pivot[k] - factor * pivot[j]) // previous
        previous = pivot[k]
    determinant = augmented[n - 1][n - 1]
    numerators = [0] * n
    for i in range(n - 1, -1, -1):
        row = augmented[i]
        known = sum(row[j] * numerators[j] for j in range(i + 1, n))
        numerators[i] = (determinant * row[n] - known) // row[i]
    return numerators, determinant
