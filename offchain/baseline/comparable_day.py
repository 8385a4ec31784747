"""Comparable day: mean of the days whose hours before the event were most like those of the day itself."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offchain.baseline.adjustment import window_before
from offchain.baseline.rounding import rounded_mean_wh
from offchain.baseline.similar_days import SimilarDayMethod


@dataclass(frozen=True)
class ComparableDay(SimilarDayMethod):
    """Mean of the ``nearest`` among the last similar days.

    The distance of a day is the sum of squared differences to the day asked for, over the three hours that end
    one hour before the event; of equal days the later one is nearer. Outside the event the baseline is the same
    mean. Limits: only the hours before the event are compared, so that a connection which behaves differently
    in the evening after equal afternoons is not told apart.

    Attributes
    ----------
    nearest : int
    among : int
        Similar days looked at; ten are enough to begin with.
    """

    nearest: int
    among: int = 60
    from_isps: int = 16
    until_isps: int = 4

    same_day: ClassVar[bool] = True

    @property
    def least_days(self) -> int:
        return min(10, self.among)

    @property
    def most_days(self) -> int:
        return self.among

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        window = window_before(event, self.from_isps, self.until_isps)
        difference_wh = past[:, window] - today[window]
        if np.abs(difference_wh).max(initial=0) >= 2**29:  # squares of 16 ISPs have to fit into 63 bits
            difference_wh = difference_wh.astype(object)
        distance = (difference_wh**2).sum(axis=1)
        nearest = np.argsort(distance, axis=0, kind="stable")[: self.nearest]
        return rounded_mean_wh(np.take_along_axis(past, nearest[:, None, :], axis=0).sum(axis=0), self.nearest)
