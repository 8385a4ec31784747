"""Daily, weekly and monthly load profiles, and the figures that describe a connection."""

from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from offchain.baseline.history import History
from offchain.profiling.days import QUARTER_HOURS, DayCurves, ProfileDay, day_curves, profile_day, season

HOURS_PER_QUARTER = 0.25


class Period(StrEnum):
    """What a profile spans."""

    DAILY = "daily"
    """By season and day type."""
    WEEKLY = "weekly"
    """By season and day of the week, Monday first; holidays count as Sundays."""
    MONTHLY = "monthly"
    """By calendar month."""


GROUPS = {
    Period.DAILY: (("season", "day_type"), lambda d: (season(d).value, profile_day(d).value)),
    Period.WEEKLY: (
        ("season", "weekday"),
        lambda d: (season(d).value, 6 if profile_day(d) is ProfileDay.SUNDAY else d.weekday()),
    ),
    Period.MONTHLY: (("month",), lambda d: (d.month,)),
}


@dataclass(frozen=True)
class LoadProfile:
    """Typical curves of one connection.

    Attributes
    ----------
    period : Period
    keys : tuple of str
        What the groups are told apart by, for example ``("season", "day_type")``.
    groups : tuple of tuple
        One entry per group that has days, sorted.
    days : ndarray of int, shape (n_groups,)
        Days behind each curve: below about ten its quantiles say little.
    mean_wh, p10_wh, p50_wh, p90_wh : ndarray of float, shape (n_groups, 96)
        Net consumption per local quarter hour [Wh], import positive: mean and quantiles over the days.
    """

    period: Period
    keys: tuple[str, ...]
    groups: tuple[tuple, ...]
    days: np.ndarray
    mean_wh: np.ndarray
    p10_wh: np.ndarray
    p50_wh: np.ndarray
    p90_wh: np.ndarray

    def frame(self) -> pd.DataFrame:
        """One row per group and quarter hour: keys, ``local_time`` (HH:MM), ``days``, the four columns in Wh."""
        n = len(self.groups)
        times = [f"{q // 4:02d}:{q % 4 * 15:02d}" for q in range(QUARTER_HOURS)]
        columns = {
            key: np.repeat(np.array([g[i] for g in self.groups]), QUARTER_HOURS) for i, key in enumerate(self.keys)
        }
        columns["local_time"] = np.tile(times, n)
        columns["days"] = np.repeat(self.days, QUARTER_HOURS)
        for name in ("mean_wh", "p10_wh", "p50_wh", "p90_wh"):
            columns[name] = getattr(self, name).ravel()
        return pd.DataFrame(columns)


def load_profile(history: History, period: Period | str = Period.DAILY) -> LoadProfile:
    """Typical curves of a connection.

    Raises
    ------
    InsufficientHistoryError
        Not one complete day.
    """
    return profile_of_days(day_curves(history), Period(period))


def profile_of_days(curves: DayCurves, period: Period) -> LoadProfile:
    """As :func:`load_profile`, from days."""
    keys, group_of = GROUPS[period]
    members: dict[tuple, list[int]] = {}
    for row, day in enumerate(curves.days):
        members.setdefault(group_of(day), []).append(row)
    groups = tuple(sorted(members))
    blocks = [curves.wh[members[g]] for g in groups]
    p10, p50, p90 = (np.array([np.quantile(b, q, axis=0) for b in blocks]) for q in (0.1, 0.5, 0.9))
    return LoadProfile(
        period,
        keys,
        groups,
        np.array([len(b) for b in blocks]),
        np.array([b.mean(axis=0) for b in blocks]),
        p10,
        p50,
        p90,
    )


@dataclass(frozen=True)
class LoadFigures:
    """What a connection is like, in figures.

    Attributes
    ----------
    days : int
        Complete days behind the figures.
    import_wh_per_day, export_wh_per_day : float
        Mean energy from and to the grid [Wh], both non-negative.
    base_w, peak_w : float
        5% and 99% quantiles of net power [W]; negative when the connection mostly injects.
    load_factor : float
        Mean of import over ``peak_w``; 0 where the peak is not positive.
    night_share, evening_share : float
        Share of import from 22 to 6 h, and from 17 to 21 h.
    weekend_ratio : float
        Import of a Saturday or Sunday over that of a working day; 1 where either is not known.
    winter_ratio : float
        Import of a winter day over that of a summer day; 1 where either is not known.
    variability : float
        Standard deviation of daily import over its mean.
    """

    days: int
    import_wh_per_day: float
    export_wh_per_day: float
    base_w: float
    peak_w: float
    load_factor: float
    night_share: float
    evening_share: float
    weekend_ratio: float
    winter_ratio: float
    variability: float

    def as_dict(self) -> dict[str, float]:
        """Names and values."""
        return asdict(self)


def load_figures(curves: DayCurves) -> LoadFigures:
    """Figures of a connection from its complete days; every one is finite, whatever the data."""
    imported = np.maximum(curves.wh, 0.0)
    daily = imported.sum(axis=1)
    total = daily.sum()
    base, peak = np.quantile(curves.wh, [0.05, 0.99]) / HOURS_PER_QUARTER
    hour = np.arange(QUARTER_HOURS) // 4
    seasons = np.array([season(d).value for d in curves.days])
    free = np.array([profile_day(d) is not ProfileDay.WORKING for d in curves.days])

    def share(hours: np.ndarray) -> float:
        return float(imported[:, hours].sum() / total) if total > 0 else 0.0

    def ratio(above: np.ndarray, below: np.ndarray) -> float:
        if not (above.any() and below.any()) or daily[below].mean() == 0:
            return 1.0
        return float(daily[above].mean() / daily[below].mean())

    return LoadFigures(
        days=len(curves.days),
        import_wh_per_day=float(daily.mean()),
        export_wh_per_day=float(np.maximum(-curves.wh, 0.0).sum(axis=1).mean()),
        base_w=float(base),
        peak_w=float(peak),
        load_factor=float(imported.mean() / HOURS_PER_QUARTER / peak) if peak > 0 else 0.0,
        night_share=share((hour >= 22) | (hour < 6)),
        evening_share=share((hour >= 17) & (hour < 21)),
        weekend_ratio=ratio(free, ~free),
        winter_ratio=ratio(seasons == "winter", seasons == "summer"),
        variability=float(daily.std() / daily.mean()) if total > 0 else 0.0,
    )
