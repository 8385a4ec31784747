"""Metered history of one connection, and which of its days resemble a given day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

import numpy as np

from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import MarketDay, isp_start, zone_of

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


class Exclusion(StrEnum):
    """Why a day before the one asked for is not used."""

    OTHER_TYPE = "other day type"
    HOLIDAY = "holiday"
    EVENT = "event"
    OUTAGE = "outage"
    METER_CHANGE = "meter change"
    MISSING = "missing reading"


def day_type(day: date, holidays: frozenset[date] | None = None) -> DayType:
    """Type of a calendar day; ``holidays`` instead of the German nationwide ones where given."""
    free = day.weekday() >= 5 or day in (public_holidays(day.year) if holidays is None else holidays)
    return DayType.FREE if free else DayType.WORKING


@lru_cache(maxsize=4096)
def market_day(day: date, zone: str) -> MarketDay:
    """``MarketDay.of``, remembered: histories of many connections ask for the same days."""
    return MarketDay.of(day, zone)


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
    excluded : mapping of date to Exclusion, optional
        Days that are not used whatever was read: events, outages, the day of a meter change.
    holidays : frozenset of date, optional
        Public holidays where the connection is; the German nationwide ones when absent. They are data, not
        looked up, so that whoever recomputes a baseline uses the same.
    """

    first_isp: int
    net_wh: np.ndarray
    known: np.ndarray | None = None
    zone: str = DEFAULT_ZONE
    excluded: Mapping[date, Exclusion] = field(default_factory=dict)
    holidays: frozenset[date] | None = None

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
        day = market_day(source, self.zone)
        values = self.values_of(day)
        if values is None or day.isp_count == target.isp_count:
            return values
        return values[_alignment(day, target, self.zone)]

    def type_of(self, day: date) -> DayType:
        """Type of a calendar day where this connection is."""
        return day_type(day, self.holidays)

    def eligible_days(self, day: MarketDay, at_most: int) -> "Eligibility":
        """The last days before ``day`` that resemble it and can be used, and why the others cannot.

        Parameters
        ----------
        at_most : int
            Looking back ends when so many are found, or where the history begins.
        """
        found: list[date] = []
        rows: list[np.ndarray] = []
        left_out: dict[date, Exclusion] = {}
        wanted = self.type_of(day.day)
        earliest = isp_start(self.first_isp).astimezone(zone_of(self.zone)).date()
        candidate = day.day - timedelta(days=1)
        while candidate >= earliest and len(found) < at_most:
            kind = self.type_of(candidate)
            if kind is not wanted:
                holiday = wanted is DayType.WORKING and candidate.weekday() < 5
                left_out[candidate] = Exclusion.HOLIDAY if holiday else Exclusion.OTHER_TYPE
            elif candidate in self.excluded:
                left_out[candidate] = self.excluded[candidate]
            elif (values := self.aligned_values_of(candidate, day)) is None:
                left_out[candidate] = Exclusion.MISSING
            else:
                found.append(candidate)
                rows.append(values)
            candidate -= timedelta(days=1)
        values_wh = np.stack(rows) if rows else np.empty((0, day.isp_count), dtype=np.int64)
        return Eligibility(tuple(found), left_out, values_wh)

    def similar_days(self, day: MarketDay, count: int, at_most: int | None = None) -> np.ndarray:
        """The last ``count`` eligible days before ``day``, up to ``at_most`` where there are more, latest first.

        Returns
        -------
        ndarray of int64, shape (n_days, day.isp_count)

        Raises
        ------
        InsufficientHistoryError
            Fewer days than ``count``; says what the days left out were.
        """
        eligible = self.eligible_days(day, at_most or count)
        if len(eligible.days) < count:
            raise InsufficientHistoryError(
                available=len(eligible.days),
                required=count,
                what=f"{self.type_of(day.day)} days before {day.day}{eligible.summary()}",
            )
        return eligible.values_wh

    def before(self, day: MarketDay, event: range) -> np.ndarray:
        """Readings of ``day`` itself before an event [Wh], shape (event.start - day.first_isp,).

        Raises
        ------
        DomainError
            The event is not within the day, or a reading before it is missing.
        """
        check_event(day, event)
        start, end = day.first_isp - self.first_isp, event.start - self.first_isp
        if start < 0 or end > self.net_wh.size or (self.known is not None and not self.known[start:end].all()):
            raise DomainError(
                f"readings of {day.day} before the event at ISP {event.start} are missing",
                hint="bring the readings of the day or choose a method without same-day adjustment",
            )
        return self.net_wh[start:end].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Days that a baseline may use, latest first, and the reason for every other day looked at.

    ``values_wh`` has shape (n_days, isp_count of the day asked for) [Wh].
    """

    days: tuple[date, ...]
    left_out: Mapping[date, Exclusion]
    values_wh: np.ndarray

    def summary(self) -> str:
        """How many days were left out and why, without those of another type; empty when there are none."""
        reasons = [r for r in self.left_out.values() if r is not Exclusion.OTHER_TYPE]
        counts = [f"{reasons.count(reason)} {reason}" for reason in Exclusion if reason in reasons]
        return f" (left out: {', '.join(counts)})" if counts else ""


def check_event(day: MarketDay, event: range) -> None:
    """Refuse an event that is empty or not within the day."""
    if event.step != 1 or not len(event) or event.start < day.first_isp or event.stop > day.end_isp:
        raise DomainError(
            f"event {event.start}..{event.stop} is not within {day.day} ({day.first_isp}..{day.end_isp})",
            hint="give ISPs of the market day, first included, last excluded",
        )


def group_history(histories: Sequence[History]) -> History:
    """Sum of several connections over the ISPs that all of them cover; known where all are known.

    A day that is excluded for one member is excluded for the group.
    """
    if not histories:
        raise DomainError("a group without members has no history")
    zones = {history.zone for history in histories}
    if len(zones) > 1 or len({history.holidays for history in histories}) > 1:
        raise DomainError(f"members of a group lie in different zones or calendars: {', '.join(sorted(zones))}")
    first = max(history.first_isp for history in histories)
    end = min(history.first_isp + history.net_wh.size for history in histories)
    if end <= first:
        raise DomainError("histories of the group's members have no ISP in common")
    total, known = np.zeros(end - first, dtype=np.int64), np.ones(end - first, dtype=bool)
    excluded: dict[date, Exclusion] = {}
    for history in histories:
        part = slice(first - history.first_isp, end - history.first_isp)
        total += history.net_wh[part]
        if history.known is not None:
            known &= history.known[part]
        excluded |= history.excluded
    return History(first, total, known, histories[0].zone, excluded, histories[0].holidays)


@lru_cache(maxsize=256)
def _alignment(source: MarketDay, target: MarketDay, zone: str) -> np.ndarray:
    minutes = _local_minutes(source, zone)
    # the first ISP at each time of day, in order of time
    times, first = np.unique(minutes, return_index=True)
    wanted = _local_minutes(target, zone)
    return first[np.searchsorted(times, wanted, side="right") - 1]


def _local_minutes(day: MarketDay, zone: str) -> np.ndarray:
    local = (isp_start(isp).astimezone(zone_of(zone)) for isp in day.isps)
    return np.array([moment.hour * 60 + moment.minute for moment in local])
