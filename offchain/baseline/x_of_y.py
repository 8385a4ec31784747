"""X of Y: mean of some of the last similar days, chosen by their energy."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from offchain.baseline.rounding import rounded_mean_wh
from offchain.baseline.similar_days import SimilarDayMethod
from offchain.domain.errors import DomainError


class Choice(StrEnum):
    """Which of the days are averaged."""

    HIGHEST = "highest"
    """Those of highest net consumption during the event; over the whole day where no event is named."""
    MIDDLE = "middle"
    """Without as many of highest as of lowest net consumption over the whole day."""


@dataclass(frozen=True)
class XOfY(SimilarDayMethod):
    """Mean per ISP of ``x`` of the last ``y`` similar days.

    Of equal days the earlier one counts as lower. Worked example of the middle 4 of 6, one ISP a day: 10, 80,
    20, 30, 41, 50 Wh; 10 and 80 go, the mean of 20, 30, 41, 50 is 35.25, the baseline 35 Wh.

    With ``x == y`` all days count. Dropping days by rank moves the mean wherever days are not spread
    symmetrically: the highest ones overstate always, the middle ones understate households, whose rare high
    days are real (measured in ``benchmarks/results/baselines.json``).
    """

    x: int
    y: int
    choice: Choice = Choice.MIDDLE

    def __post_init__(self) -> None:
        if not 1 <= self.x <= self.y or (self.choice is Choice.MIDDLE and (self.y - self.x) % 2):
            raise DomainError(f"{self.name}: {self.choice} {self.x} of {self.y} days cannot be chosen")

    @property
    def least_days(self) -> int:
        return self.y

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        days = past
        if self.x < self.y:
            ranked_by = slice(None) if event is None or self.choice is Choice.MIDDLE else event
            earliest_first = past[::-1]
            rank = np.argsort(earliest_first[:, ranked_by].sum(axis=1), axis=0, kind="stable")
            drop = self.y - self.x
            kept = rank[drop:] if self.choice is Choice.HIGHEST else rank[drop // 2 : self.y - drop // 2]
            days = np.take_along_axis(earliest_first, kept[:, None, :], axis=0)
        return rounded_mean_wh(days.sum(axis=0), self.x)


@dataclass(frozen=True)
class LinearlyWeighted(SimilarDayMethod):
    """Mean of the last ``days`` similar days; the latest counts ``days`` times, the one before once less, and so on.

    Three days of 30, 20 and 10 Wh, latest first: ``(3 * 30 + 2 * 20 + 10) / 6`` = 23.3, the baseline is 23 Wh.
    """

    days: int

    @property
    def least_days(self) -> int:
        return self.days

    def expected(self, past: np.ndarray, today: np.ndarray | None, event: slice | None) -> np.ndarray:
        weights = np.arange(self.days, 0, -1, dtype=np.int64)
        return rounded_mean_wh((weights[:, None, None] * past).sum(axis=0), int(weights.sum()))
