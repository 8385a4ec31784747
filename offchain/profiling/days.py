"""A metered history as daily curves of 96 local quarter hours, with day types and seasons."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from offchain.baseline.history import DEFAULT_ZONE, History, public_holidays
from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay, isp_start, zone_of

QUARTER_HOURS = 96
"""Values of a daily curve, whatever the length of its day."""
DAY = timedelta(days=1)


class ProfileDay(StrEnum):
    """Day types of load profiles; public holidays are Sundays."""

    WORKING = "working"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class Season(StrEnum):
    """Seasons of the German standard load profiles: winter 1 November to 20 March, summer 15 May to 14 September.

    References
    ----------
    .. [1] C. Fünfgeld, R. Tiedemann, "Anwendung der Repräsentativen VDEW-Lastprofile step-by-step", VDEW, 2000.
    """

    WINTER = "winter"
    SUMMER = "summer"
    TRANSITION = "transition"


def profile_day(day: date) -> ProfileDay:
    """Day type of a calendar day."""
    if day.weekday() == 6 or day in public_holidays(day.year):
        return ProfileDay.SUNDAY
    return ProfileDay.SATURDAY if day.weekday() == 5 else ProfileDay.WORKING


def season(day: date) -> Season:
    """Season of a calendar day."""
    if (day.month, day.day) >= (11, 1) or (day.month, day.day) <= (3, 20):
        return Season.WINTER
    if (5, 15) <= (day.month, day.day) <= (9, 14):
        return Season.SUMMER
    return Season.TRANSITION


@dataclass(frozen=True)
class DayCurves:
    """Complete days of one connection.

    Attributes
    ----------
    days : tuple of date
        Local calendar days, ascending.
    wh : ndarray of float, shape (n_days, 96)
        Net consumption per local quarter hour [Wh], import positive; column 0 is local midnight. On days on
        which clocks change, an hour that comes twice counts once and one that is missing takes the value
        before it.
    unusable : dict of date to str
        Days that were left out, and why.
    """

    days: tuple[date, ...]
    wh: np.ndarray
    unusable: dict[date, str]


def history_of(first_isp: int, net_wh: np.ndarray, zone: str = DEFAULT_ZONE) -> History:
    """History from values that may be missing.

    Parameters
    ----------
    net_wh : array of float or int, shape (n_isps,)
        Import minus export [Wh]; NaN where a reading is missing, rounded to whole Wh.

    Raises
    ------
    DomainError
        Not one row, infinite values, or energy that no connection has (beyond 2^31 Wh a quarter hour).
    """
    values = np.asarray(net_wh, dtype=float)
    if values.ndim != 1:
        raise DomainError(f"readings must be one row, got shape {values.shape}")
    known = ~np.isnan(values)
    bad = np.flatnonzero(known & ~(np.abs(values) < 2**31))
    if bad.size:
        raise DomainError(f"reading {values[bad[0]]} Wh at ISP {first_isp + bad[0]} is impossible", hint="check units")
    whole = np.floor(np.where(known, values, 0.0) + 0.5).astype(np.int64)
    return History(first_isp, whole, None if known.all() else known, zone)


def extended(history: History, forecast: History) -> History:
    """History followed by what is expected: profiles that already know a change.

    Where both have a value the metered one counts.
    """
    if history.zone != forecast.zone:
        raise DomainError(f"history in zone {history.zone}, forecast in zone {forecast.zone}")
    first = min(history.first_isp, forecast.first_isp)
    end = max(h.first_isp + h.net_wh.size for h in (history, forecast))
    values, known = np.zeros(end - first, dtype=np.int64), np.zeros(end - first, dtype=bool)
    for part in (forecast, history):
        at = slice(part.first_isp - first, part.first_isp - first + part.net_wh.size)
        there = np.ones(part.net_wh.size, dtype=bool) if part.known is None else part.known
        values[at] = np.where(there, part.net_wh, values[at])
        known[at] |= there
    return History(first, values, known, history.zone)


def local_days(first_isp: int, isps: int, zone: str) -> tuple[tuple[date, ...], np.ndarray]:
    """Calendar days that touch a run of ISPs, and where in the run their quarter hours are.

    Returns
    -------
    days : tuple of date
    index : ndarray of int, shape (n_days, 96)
        Position in the run of each local quarter hour; outside ``0 .. isps - 1`` where the run does not reach.
    """
    if isps == 0:
        return (), np.empty((0, QUARTER_HOURS), dtype=int)
    tz = zone_of(zone)
    first = isp_start(first_isp).astimezone(tz).date()
    last = isp_start(first_isp + isps - 1).astimezone(tz).date()
    days, absolute = _day_index(first, last, zone)
    return days, absolute - first_isp


@lru_cache(maxsize=16)
def _day_index(first: date, last: date, zone: str) -> tuple[tuple[date, ...], np.ndarray]:
    days = tuple(first + DAY * i for i in range((last - first).days + 1))
    return days, np.array([_quarter_hours(MarketDay.of(d, zone), zone) for d in days])


def _quarter_hours(day: MarketDay, zone: str) -> np.ndarray:
    """ISP of each local quarter hour of a day."""
    if day.isp_count == QUARTER_HOURS:
        return np.arange(day.first_isp, day.end_isp)
    tz = ZoneInfo(zone)
    local = [isp_start(isp).astimezone(tz) for isp in day.isps]
    number = np.array([(m.hour * 3600 + m.minute * 60) // SECONDS_PER_ISP for m in local])
    numbers, first = np.unique(number, return_index=True)
    return day.first_isp + first[np.searchsorted(numbers, np.arange(QUARTER_HOURS), side="right") - 1]


def day_curves(history: History) -> DayCurves:
    """Complete days of a history as curves of 96 local quarter hours.

    Raises
    ------
    InsufficientHistoryError
        Not one complete day.
    """
    days, index = local_days(history.first_isp, history.net_wh.size, history.zone)
    covered = ((index >= 0) & (index < history.net_wh.size)).all(axis=1)
    index = np.where(covered[:, None], index, 0)
    known = np.ones(history.net_wh.size, dtype=bool) if history.known is None else history.known
    missing = (~known[index]).sum(axis=1) if index.size else np.zeros(0, dtype=int)
    unusable = {}
    for day, inside, gaps in zip(days, covered, missing, strict=True):
        if not inside:
            unusable[day] = "not covered to its end"
        elif gaps:
            unusable[day] = f"{gaps} of {QUARTER_HOURS} readings missing"
    usable = covered & (missing == 0)
    if not usable.any():
        raise InsufficientHistoryError(available=0, required=1, what="complete days")
    kept = tuple(d for d, u in zip(days, usable, strict=True) if u)
    return DayCurves(kept, history.net_wh[index[usable]].astype(float), unusable)
