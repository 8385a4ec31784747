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
    """

    def __init__(self, values: np.ndarray, known_until: np.ndarray):
        self.values, self.known_until = values, known_until

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
        bad = np.argwhere(steps >= limit)
        if bad.size:
            where = tuple(bad[0])
            raise LeakageError(step=int(steps[where]), known_until=int(self.known_until[where[0]]))
