"""Horizons: when a forecast is issued, in which steps it speaks, and how far it reaches."""

from dataclasses import dataclass

from offchain.domain.errors import DomainError

MINUTES_PER_ISP = 15
MINUTES_PER_DAY = 1_440


@dataclass(frozen=True, slots=True)
class Horizon:
    """What a forecast covers, seen from the moment it is issued.

    Attributes
    ----------
    name : str
    step_isps : int
        Length of a step in ISPs; steps begin at whole multiples of it, counted from 1970 UTC.
    steps : int
        Steps after the issue, or 0 for all steps of the next local day (23, 24 or 25 hours).
    issue_minute : int
        Local minute of the day of issue, for forecasts of the next day; others are issued at every step.
    trees_per_lead : bool
        Whether every step ahead has boosted trees of its own, trained on as many rows as otherwise serve all steps.
    version : int
        Version of the method at this horizon; counts up when the same inputs give other forecasts.
    """

    name: str
    step_isps: int
    steps: int
    issue_minute: int = 0
    trees_per_lead: bool = False
    version: int = 2

    @property
    def step_minutes(self) -> int:
        return self.step_isps * MINUTES_PER_ISP

    @property
    def steps_per_day(self) -> int:
        """Steps of a day on which clocks do not change."""
        return MINUTES_PER_DAY // self.step_minutes

    @property
    def next_day(self) -> bool:
        """Whether it speaks of a whole local day."""
        return self.steps == 0


DAY_AHEAD = Horizon("day_ahead", step_isps=4, steps=0, issue_minute=11 * 60)
DAY_AHEAD_ISP = Horizon("day_ahead_isp", step_isps=1, steps=0, issue_minute=11 * 60)
"""As ``DAY_AHEAD``, in ISPs: what prognoses and grid safety analysis speak in."""
INTRADAY = Horizon("intraday", step_isps=2, steps=8)
HOUR_AHEAD = Horizon("hour_ahead", step_isps=1, steps=4, trees_per_lead=True, version=3)

HORIZONS = {h.name: h for h in (DAY_AHEAD, DAY_AHEAD_ISP, INTRADAY, HOUR_AHEAD)}


def horizon(name: str) -> Horizon:
    """Horizon by name."""
    if name not in HORIZONS:
        raise DomainError(f"unknown horizon {name!r}", hint=f"one of {', '.join(HORIZONS)}")
    return HORIZONS[name]
