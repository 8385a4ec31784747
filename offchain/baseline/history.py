"""Metered history of one connection, and which of its days resemble a given day."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay, isp_start

DEFAULT_ZONE = "Europe/Berlin"


class DayType(StrEnum):
    """Days of one type resemble each other."""

    WORKING = "working"
    FREE = "free"
    """Saturdays, Sundays and German nationwide public holidays."""


@lru_cache(maxsize=64)
def public_holidays(year: int) -> frozenset[date]:
    """The nine public holidays of all German states.

    Easter Sunday after the Gregorian computus: golden number, century corrections, epact, next Sunday.
    """
    golden, century = year % 19, year // 100
    leap_correction = century - century // 4 - (8 * century + 13) // 25
    epact = (19 * golden + leap_correction + 15) % 30
    epact -= (epact // 28) * (1 - (29 // (epact + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + epact + 2 - century + century // 4) % 7
    offset = epact - weekday
    month = 3 + (offset + 40) // 44
    easter = date(year, month, offset + 28 - 31 * (month // 4))
    moving = (-2, 1, 39, 50)  # Good Friday, Easter Monday, Ascension, Whit Monday
    fixed = ((1, 1), (5, 1), (10, 3), (12, 25), (12, 26))
    return frozenset([easter + timedelta(days) for days in moving] + [date(year, m, d) for m, d in fixed])


def day_type(day: date) -> DayType:
    """Type of a calendar day."""
    free = day.weekday() >= 5 or day in public_holidays(day.year)
    return DayType.FREE if free else DayType.WORKING


@dataclass(frozen=True, slots=True)
class History:
    """Net consumption of one connection over a run of ISPs.

    Attributes
    ----------
    first_isp : int
        ISP of the first value.
    net_wh : ndarray of int64, shape (n_isps,)
        Import minus export [Wh], no gaps; where a reading is missing any value.
    known : ndarray of bool, shape (n_isps,), optional
        False where the reading is missing; all are known when absent. Days with a missing reading are not
        used.
    zone : str
        Time zone of the market day.
    """

    first_isp: int
    net_wh: np.ndarray
    known: np.ndarray | None = None
    zone: str = DEFAULT_ZONE

    def __post_init__(self) -> None:
        if self.net_wh.ndim != 1 or not np.issubdtype(self.net_wh.dtype, np.integer):
            raise DomainError(f"history must be one row of integers [Wh], got {self.net_wh.dtype} {self.net_wh.shape}")
        if self.known is not None and self.known.shape != self.net_wh.shape:
            raise DomainError(f"history has {self.net_wh.size} values and {self.known.size} marks of known ones")

    def values_of(self, day: MarketDay) -> np.ndarray | None:
        """Net consumption of a whole day [Wh], None where it is not covered or misses a reading."""
        start, end = day.first_isp - self.first_isp, day.end_isp - self.first_isp
        if start < 0 or end > self.net_wh.size:
            return None
        if self.known is not None and not self.known[start:end].all():
            return None
        return self.net_wh[start:end].astype(np.int64)

    def aligned_values_of(self, source: date, target: MarketDay) -> np.ndarray | None:
        """As :meth:`values_of`, with the ISPs of ``source`` laid on those of ``target`` by local time of day.

        Only days on which clocks change need it: an hour that ``source`` has twice counts once, one that it
        lacks takes the ISP before.
        """
        day = MarketDay.of(source, self.zone)
        values = self.values_of(day)
        if values is None or day.isp_count == target.isp_count:
            return values
        minutes = _local_minutes(day, self.zone)
        # the first ISP at each time of day, in order of time
        times, first = np.unique(minutes, return_index=True)
        wanted = _local_minutes(target, self.zone)
        return values[first[np.searchsorted(times, wanted, side="right") - 1]]

    def similar_days(self, day: MarketDay, count: int) -> np.ndarray:
        """The last ``count`` complete days of the same type before ``day``, latest first.

        Returns
        -------
        ndarray of int64, shape (count, day.isp_count)

        Raises
        ------
        InsufficientHistoryError
            Fewer days than ``count``.
        """
        found: list[np.ndarray] = []
        wanted = day_type(day.day)
        earliest = isp_start(self.first_isp).astimezone(ZoneInfo(self.zone)).date()
        candidate = day.day - timedelta(days=1)
        while candidate >= earliest and len(found) < count:
            if day_type(candidate) is wanted:
                values = self.aligned_values_of(candidate, day)
                if values is not None:
                    found.append(values)
            candidate -= timedelta(days=1)
        if len(found) < count:
            raise InsufficientHistoryError(available=len(found), required=count, what=f"{wanted} days before {day.day}")
        return np.stack(found)


def _local_minutes(day: MarketDay, zone: str) -> np.ndarray:
    local = (isp_start(isp).astimezone(ZoneInfo(zone)) for isp in day.isps)
    return np.array([moment.hour * 60 + moment.minute for moment in local])
