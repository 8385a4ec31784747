"""Appliances whose run can start at another time."""

from dataclasses import dataclass

import numpy as np

from offchain.domain.errors import DomainError
from offchain.domain.units import Direction
from offchain.potential.checks import like, whole_cost, whole_wh
from offchain.potential.envelope import Alternatives


@dataclass(frozen=True)
class ShiftableAppliance:
    """A washing machine, a dishwasher, a process: one run that may begin anywhere in a window.

    Attributes
    ----------
    run_wh : ndarray of int, shape (n_run,)
        Electricity of the run by ISP [Wh], non-negative.
    planned_start : int
        Position at which it would begin.
    earliest_start, latest_end : int
        Window within which the run has to lie, last excluded.
    isps : int
        Length of the horizon.
    price_utoken_per_kwh : ndarray or float
    comfort_utoken_per_kwh : float
        What the inconvenience of another time is worth to the owner.
    """

    run_wh: np.ndarray
    planned_start: int
    earliest_start: int
    latest_end: int
    isps: int
    price_utoken_per_kwh: np.ndarray | float = 0.0
    comfort_utoken_per_kwh: float = 0.0

    def envelope(self, direction: Direction) -> Alternatives:
        """What every other start moves."""
        run = whole_wh(self.run_wh, "run of the appliance")
        last_start = self.latest_end - run.size
        if not 0 <= self.earliest_start <= self.planned_start <= last_start or self.latest_end > self.isps:
            raise DomainError(
                f"a run of {run.size} ISPs from {self.planned_start} is not within "
                f"{self.earliest_start}..{self.latest_end} of {self.isps} ISPs"
            )
        if (run < 0).any():
            raise DomainError("run of the appliance has negative energy")
        planned = self._course(run, self.planned_start)
        starts = [s for s in range(self.earliest_start, last_start + 1) if s != self.planned_start]
        moved = np.array([planned - self._course(run, s) for s in starts], dtype=np.int64).reshape(-1, self.isps)
        up = direction is Direction.UP
        price = like(self.price_utoken_per_kwh, planned, "price")
        mean = price[self.earliest_start : self.latest_end].mean()
        return Alternatives(
            direction=direction,
            moved_wh=moved if up else -moved,
            cost_utoken_per_kwh=whole_cost(mean - price if up else price - mean),
            comfort_utoken_per_kwh=np.full(self.isps, int(np.ceil(self.comfort_utoken_per_kwh)), dtype=np.int64),
        )

    def _course(self, run: np.ndarray, start: int) -> np.ndarray:
        course = np.zeros(self.isps, dtype=np.int64)
        course[start : start + run.size] = run
        return course
