"""Local calendar of a run of steps: which day and time of day a step is, and which days resemble each other."""

from functools import cached_property

import holidays
import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP

WORKING, SATURDAY, FREE = 0, 1, 2
"""Day classes; public holidays are FREE like Sundays."""


class StepCalendar:
    """Calendar of ``count`` steps of ``step_isps`` ISPs from ``first_step``.

    Steps are numbered from 1970 UTC (``isp // step_isps``); arrays here are indexed from ``first_step``. A slot is
    a local time of day in steps. On days on which clocks change, an hour that comes twice counts by its first
    occurrence, and one that is left out by the step before it.

    Attributes
    ----------
    day, slot : ndarray of int, shape (count,)
        Local day from the first one, and slot, of every step.
    at : ndarray of int, shape (n_days, slots)
        Position of the step of a day and slot; of the first and last day also positions outside of the run.
    day_class, weekday : ndarray of int, shape (n_days,)
    """

    def __init__(self, first_step: int, count: int, step_isps: int, zone: str, country: str):
        self.first_step, self.count, self.step_isps, self.zone = first_step, count, step_isps, zone
        step_s = step_isps * SECONDS_PER_ISP
        self.slots = 86_400 // step_s
        seconds = (first_step + np.arange(count, dtype=np.int64)) * step_s
        local = pd.to_datetime(seconds, unit="s", utc=True).tz_convert(zone)
        dates = local.tz_localize(None).normalize()
        self.slot = ((local.hour * 3_600 + local.minute * 60) // step_s).to_numpy()
        number = (dates - dates[0]).days.to_numpy()
        self.day = number
        self.dates = pd.date_range(dates[0], periods=number[-1] + 1)
        self.at = self._positions()
        self.weekday = self.dates.weekday.to_numpy()
        free = _public_holidays(country, self.dates)
        self.holiday = free
        self.day_class = np.where(free | (self.weekday == 6), FREE, np.where(self.weekday == 5, SATURDAY, WORKING))
        self.day_of_year = self.dates.dayofyear.to_numpy()

    def _positions(self) -> np.ndarray:
        days = int(self.day[-1]) + 1
        at = np.full((days, self.slots), -1, dtype=np.int64)
        backwards = np.arange(self.count - 1, -1, -1)
        at[self.day[backwards], self.slot[backwards]] = backwards  # the first occurrence is written last
        for day in range(days):
            empty = np.flatnonzero(at[day] < 0)
            if not empty.size:
                continue
            filled = np.flatnonzero(at[day] >= 0)
            for slot in empty:
                before = filled[filled < slot]
                if day == 0 and not before.size:
                    at[day, slot] = at[day, filled[0]] - (filled[0] - slot)
                elif day == days - 1 and slot > filled[-1]:
                    at[day, slot] = at[day, filled[-1]] + (slot - filled[-1])
                else:
                    at[day, slot] = at[day, before[-1]]
        return at

    @cached_property
    def alike(self) -> np.ndarray:
        """Earlier days of the same class, latest first, shape (n_days, 20); -1 where there are no more."""
        found = np.full((self.day_class.size, 20), -1, dtype=np.int64)
        for day, kind in enumerate(self.day_class):
            earlier = np.flatnonzero(self.day_class[:day] == kind)[::-1][:20]
            found[day, : earlier.size] = earlier
        return found


def _public_holidays(country: str, dates: pd.DatetimeIndex) -> np.ndarray:
    code, _, subdivision = country.partition("-")
    years = range(dates[0].year, dates[-1].year + 1)
    try:
        known = holidays.country_holidays(code, subdiv=subdivision or None, years=years)
    except NotImplementedError as exc:
        raise DomainError(f"no public holidays of {country!r}", hint="for example DE or DE-BY") from exc
    return np.array([day.date() in known for day in dates])
