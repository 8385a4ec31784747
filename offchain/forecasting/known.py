"""The guard against using what nobody knew yet."""

import numpy as np

from offchain.domain.errors import DomainError


class LeakageError(DomainError):
    """A feature asked for a value that was not known when the forecast was issued."""

    def __init__(self, *, step: int, known_until: int):
        super().__init__(f"step {step} was asked for, but only steps before {known_until} were known at issue time")
        self.step = step
        self.known_until = known_until


class KnownValues:
    """Values seen from many moments of issue; hands out only what each of them knew.

    Parameters
    ----------
    values : ndarray, shape (n_steps, n_series)
        Values, NaN where missing.
    known_until : ndarray of int, shape (n_issues,)
        First step that was not known yet at each issue.
    reach : int
        Later steps that a value was computed from, for values that are smoothed.
    """

    def __init__(self, values: np.ndarray, known_until: np.ndarray, *, reach: int = 0):
        self.values, self.known_until, self.reach = values, known_until, reach

    def smoothed(self, reach: int) -> "KnownValues":
        """Means over each step and ``reach`` steps on both sides; NaN where all of them are missing."""
        padded = np.pad(self.values, ((reach, reach), (0, 0)), constant_values=np.nan)
        count = len(self.values)
        window = np.stack([padded[offset : offset + count] for offset in range(2 * reach + 1)])
        number = (~np.isnan(window)).sum(axis=0)
        mean = np.where(number > 0, np.nansum(window, axis=0) / np.maximum(number, 1), np.nan)
        return KnownValues(mean, self.known_until, reach=reach)

    def take(self, steps: np.ndarray) -> np.ndarray:
        """Values at ``steps``, shape (n_issues, ...); returns shape (n_issues, ..., n_series).

        Steps before the data are NaN. Raises :class:`LeakageError`.
        """
        self.check(steps)
        found = self.values[np.clip(steps, 0, len(self.values) - 1)]
        outside = (steps < 0) | (steps >= len(self.values))
        if outside.any():
            found[outside] = np.nan
        return found

    def check(self, steps: np.ndarray) -> None:
        """Raise :class:`LeakageError` when a step was not known at its issue."""
        limit = self.known_until.reshape(-1, *[1] * (steps.ndim - 1))
        bad = np.argwhere(steps + self.reach >= limit)
        if bad.size:
            where = tuple(bad[0])
            raise LeakageError(step=int(steps[where]) + self.reach, known_until=int(self.known_until[where[0]]))
