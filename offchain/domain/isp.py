"""Calendar of imbalance settlement periods (ISPs): quarter hours, index = floor(unix / 900)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from offchain.domain.errors import DomainError

SECONDS_PER_ISP = 900
ISPS_PER_HOUR = 4


def zone_of(name: str) -> ZoneInfo:
    """Time zone by its name, or one line that there is none of it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise DomainError(f"no time zone {name!r}", hint="for example Europe/Berlin") from exc


def isp_of(moment: datetime) -> int:
    """Index of the ISP that contains ``moment``; naive times are refused."""
    if moment.tzinfo is None:
        raise DomainError(f"time without zone: {moment.isoformat()}", hint="add a UTC offset, for example +00:00")
    return int(moment.timestamp()) // SECONDS_PER_ISP


def isp_start(isp: int) -> datetime:
    """Start of an ISP in UTC; the period is half open, ``[start, start + 15 min)``."""
    return datetime.fromtimestamp(isp * SECONDS_PER_ISP, UTC)


@dataclass(frozen=True, slots=True)
class MarketDay:
    """A local calendar day as a run of ISPs: 96 of them, 92 or 100 when clocks change.

    ``first_isp`` is the ISP of local midnight, ``isp_count`` the number of ISPs.
    """

    day: date
    first_isp: int
    isp_count: int

    @classmethod
    def of(cls, day: date, zone: str = "Europe/Berlin") -> "MarketDay":
        tz = zone_of(zone)
        first = isp_of(datetime.combine(day, time(0), tz))
        end = isp_of(datetime.combine(day + timedelta(days=1), time(0), tz))
        return cls(day, first, end - first)

    @property
    def end_isp(self) -> int:
        """First ISP after the day."""
        return self.first_isp + self.isp_count

    @property
    def isps(self) -> range:
        return range(self.first_isp, self.end_isp)

    def position(self, isp: int) -> int:
        """Position of an ISP in the day, 0 at local midnight."""
        if not self.first_isp <= isp < self.end_isp:
            raise DomainError(f"ISP {isp} is not in {self.day} ({self.first_isp}..{self.end_isp - 1})")
        return isp - self.first_isp
