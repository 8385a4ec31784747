"""Features of a forecast: what was known at issue time about every step ahead, for many series at once.

Energies are in units of the scale of their series and relative to ``reference``, what the weeks before let
expect; so one model serves homes and factories alike.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offchain.forecasting.horizons import Horizon
from offchain.forecasting.known import KnownValues
from offchain.forecasting.step_calendar import StepCalendar

WEEK = 7
RECENT_DAYS = 7
WEEKS = 4
ALIKE_DAYS = 5
MAX_DELAY_DAYS = 14
ENVELOPE_DAYS = 14
SMOOTH_STEPS = 2
ANALOGUE_DAYS = 28
LIKENESS_STEPS = 8
LIKENESS_WIDTH = 0.15
"""Sum of squared differences over the last steps, in units of the scale, at which a day counts 1/e."""
DIMMEST_W_M2 = 10.0
"""Below this clear-sky irradiance nothing is said about cloudiness."""


@dataclass(frozen=True)
class Issues:
    """Moments of issue and the steps they speak of; positions in a :class:`StepCalendar`.

    Attributes
    ----------
    known_until : ndarray of int, shape (n_issues,)
        First step whose value was not known yet.
    steps : ndarray of int, shape (n_issues, n_leads)
        Steps ahead.
    """

    known_until: np.ndarray
    steps: np.ndarray

    def pick(self, which: np.ndarray | slice) -> "Issues":
        """Some of the issues."""
        return Issues(self.known_until[which], self.steps[which])


@dataclass(frozen=True)
class Features:
    """Features of every issue, lead and series.

    Attributes
    ----------
    names : tuple of str
    values : ndarray of float32, shape (n_issues, n_leads, n_series, n_features)
        NaN where unknown.
    linear : tuple of int
        Positions of the features that a linear model uses.
    reference : ndarray, shape (n_issues, n_leads, n_series)
        Mean of the weeks before and of the latest days of the same class, in units of the scale.
    naive, latest : ndarray, shape (n_issues, n_leads, n_series)
        The same step one week before (more weeks where it is missing); the latest value, or the latest of this
        time of day in forecasts of the next day.
    median : ndarray, shape (n_issues, n_leads, n_series)
        Median of the values that ``reference`` is the mean of.
    """

    names: tuple[str, ...]
    values: np.ndarray
    linear: tuple[int, ...]
    reference: np.ndarray
    naive: np.ndarray
    latest: np.ndarray
    median: np.ndarray


class _Columns:
    """Features in the order in which they are added."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.columns: list[np.ndarray] = []
        self.linear: list[int] = []

    def add(self, name: str, column: np.ndarray, *, linear: bool = False) -> None:
        if linear:
            self.linear.append(len(self.names))
        self.names.append(name)
        self.columns.append(column)


def build_features(
    values: np.ndarray,
    calendar: StepCalendar,
    issues: Issues,
    horizon: Horizon,
    *,
    clear_sky: np.ndarray | None = None,
    weather: Mapping[str, np.ndarray] | None = None,
) -> Features:
    """Features of many series at many moments of issue.

    Parameters
    ----------
    values : ndarray, shape (n_steps, n_series)
        Energy per step in units of the scale, from the first step of ``calendar``; NaN where missing. May reach
        beyond the moments of issue: what was not known yet is not used.
    clear_sky : ndarray, shape (calendar.count,), optional
        Irradiance under a clear sky [W/m2].
    weather : mapping of str to ndarray, shape (n_issues, n_leads), optional
        Weather as it was forecast at each issue.

    Raises
    ------
    LeakageError
        A feature would use what was not known yet; a fault of this module.
    """
    known = KnownValues(values, issues.known_until)
    columns = _Columns()
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN, and meant to be
        past = _Past(known, calendar, issues)
        reference = past.reference
        _add_days(columns, past)
        latest = _add_level(columns, past, horizon)
        _add_calendar(columns, past, horizon)
        if clear_sky is not None:
            _add_sun(columns, past, horizon, clear_sky)
        for name, forecast in (weather or {}).items():
            columns.add(name, forecast[..., None])
        naive = past.weeks[0]
        for older in past.weeks[1:]:
            naive = np.where(np.isnan(naive), older, naive)
    table = np.empty((*reference.shape, len(columns.names)), dtype=np.float32)
    for position, column in enumerate(columns.columns):
        table[..., position] = column
    latest = np.where(np.isnan(latest), reference, latest)
    naive = np.where(np.isnan(naive), reference, naive)
    return Features(tuple(columns.names), table, tuple(columns.linear), reference, naive, latest, past.median)


class _Past:
    """Known values at the same time of day on earlier days, per issue, lead and series."""

    def __init__(self, known: KnownValues, calendar: StepCalendar, issues: Issues):
        self.known, self.calendar, self.issues = known, calendar, issues
        self.day, self.slot = calendar.day[issues.steps], calendar.slot[issues.steps]
        self.unknown = issues.known_until[:, None]
        self.back = np.ones_like(self.day)
        for _ in range(MAX_DELAY_DAYS):
            late = self.at(self.day - self.back) >= self.unknown
            if not late.any():
                break
            self.back += late
        self.week = WEEK * -(-self.back // WEEK)
        alike = self._alike()
        self.steps = [
            [self.at(self.day - self.week - WEEK * j) for j in range(WEEKS)],
            [self.at(alike[..., j]) for j in range(ALIKE_DAYS)],
            [self.at(self.day - self.back - j) for j in range(RECENT_DAYS)],
        ]
        self.weeks, self.likes, self.days = (np.stack([known.take(s) for s in steps]) for steps in self.steps)
        pooled = np.concatenate([self.weeks, self.likes])
        self.spread = np.nanstd(pooled, axis=0)
        mean_weeks, mean_likes = np.nanmean(self.weeks, axis=0), np.nanmean(self.likes, axis=0)
        reference = 0.5 * (mean_weeks + mean_likes)
        for other in (mean_weeks, mean_likes, np.nanmean(self.days, axis=0)):
            reference = np.where(np.isnan(reference), other, reference)
        self.reference = reference
        median = np.nanmedian(pooled, axis=0)
        self.median = np.where(np.isnan(median), reference, median)

    def at(self, day: np.ndarray) -> np.ndarray:
        """Steps of the same time of day on other days, -1 before the data."""
        return np.where(day >= 0, self.calendar.at[np.maximum(day, 0), self.slot], -1)

    def _alike(self) -> np.ndarray:
        """Known days of the same class, latest first, shape (n_issues, n_leads, ALIKE_DAYS)."""
        alike = self.calendar.alike[self.day]
        late = np.stack([self.at(alike[..., j]) >= self.unknown for j in range(alike.shape[-1])], axis=-1)
        first = late.sum(axis=-1, keepdims=True)
        wanted = np.minimum(first + np.arange(ALIKE_DAYS), alike.shape[-1] - 1)
        return np.take_along_axis(np.where(late, -1, alike), wanted, axis=-1)


def _add_days(columns: _Columns, past: _Past) -> None:
    reference = past.reference
    columns.add("reference", reference)
    for j, name in ((0, "week_1"), (1, "week_2")):
        columns.add(name, past.weeks[j] - reference, linear=True)
    columns.add("mean_4_weeks", np.nanmean(past.weeks, axis=0) - reference, linear=True)
    for j, name in ((0, "alike_1"), (1, "alike_2")):
        columns.add(name, past.likes[j] - reference, linear=True)
    columns.add("mean_5_alike", np.nanmean(past.likes, axis=0) - reference)
    columns.add("median_weeks_alike", past.median - reference, linear=True)
    columns.add("spread_weeks_alike", past.spread)
    for j, name in ((0, "day_1"), (1, "day_2")):
        columns.add(name, past.days[j] - reference, linear=True)
    columns.add("mean_7_days", np.nanmean(past.days, axis=0) - reference, linear=True)
    columns.add("spread_7_days", np.nanstd(past.days, axis=0))
    week_before = past.at(past.day - past.week)
    for offset, name in ((-1, "week_1_step_before"), (1, "week_1_step_after")):
        steps = np.minimum(week_before + offset, past.unknown - 1)
        columns.add(name, past.known.take(steps) - reference, linear=True)


def _add_level(columns: _Columns, past: _Past, horizon: Horizon) -> np.ndarray:
    """How the last day ran against the week before, and the latest values; returns the latest for each lead."""
    per_day, reference = horizon.steps_per_day, past.reference
    window = past.unknown - 1 - np.arange(per_day)
    last = past.known.take(window)
    deviation = last - past.known.take(window - WEEK * per_day)
    eighth = max(per_day // 8, 1)
    columns.add("last_day_mean", np.nanmean(last, axis=1)[:, None])
    columns.add("last_day_deviation", np.nanmean(deviation, axis=1)[:, None], linear=True)
    columns.add("last_3h_deviation", np.nanmean(deviation[:, :eighth], axis=1)[:, None], linear=True)
    columns.add("group_last_day_deviation", np.nanmean(deviation, axis=(1, 2))[:, None, None], linear=True)
    columns.add("group_day_1", np.nanmean(past.days[0] - reference, axis=2)[..., None])
    if horizon.next_day:
        columns.add("last_value", last[:, 0][:, None])
        return past.days[0]
    for j in range(min(8, per_day)):
        columns.add(f"last_{j + 1}", last[:, j][:, None] - reference, linear=True)
    usual = 0.5 * (
        past.known.take(window[:, :4] - WEEK * per_day) + past.known.take(window[:, :4] - 2 * WEEK * per_day)
    )
    unusual = last[:, :4] - usual
    columns.add("last_deviation", unusual[:, 0][:, None], linear=True)
    columns.add("last_4_deviation", np.nanmean(unusual, axis=1)[:, None], linear=True)
    columns.add("trend", (last[:, 0] - last[:, 1])[:, None])
    _add_envelope(columns, past, horizon, last)
    _add_smoothed(columns, past, per_day)
    _add_analogues(columns, past, horizon, last[:, :LIKENESS_STEPS])
    columns.add("group_last", np.nanmean(last[:, 0][:, None] - reference, axis=2)[..., None], linear=True)
    return np.broadcast_to(last[:, 0][:, None], reference.shape)


def _add_envelope(columns: _Columns, past: _Past, horizon: Horizon, last: np.ndarray) -> None:
    """The highest of the last days at the same time of day: what a PV system yields under a clear sky."""
    per_day = horizon.steps_per_day
    back = per_day * np.arange(ENVELOPE_DAYS)
    steps = past.issues.steps
    first = per_day * -(-(steps - past.unknown + 1) // per_day)
    ahead = np.nanmax([past.known.take(steps - first - b) for b in back], axis=0)
    lately = [np.nanmax([past.known.take(past.unknown - 1 - k - per_day - b) for b in back], axis=0) for k in (0, 1)]
    usual = lately[0] + lately[1]
    share = np.where(usual > 0.02, (last[:, 0] + last[:, 1])[:, None] / np.maximum(usual, 0.02), np.nan)
    columns.add("highest_14_days", ahead - past.reference)
    columns.add("share_of_highest", share)
    columns.add("last_by_highest", share * ahead - past.reference, linear=True)
    columns.add("group_share_of_highest", np.nanmean(share, axis=2, keepdims=True))


def _add_analogues(columns: _Columns, past: _Past, horizon: Horizon, lately: np.ndarray) -> None:
    """How the latest steps ran, and what followed at this time on earlier days, on all and on those like today."""
    reference, per_day = past.reference, horizon.steps_per_day
    columns.add("lowest_of_8", np.nanmin(lately, axis=1)[:, None] - reference)
    columns.add("highest_of_8", np.nanmax(lately, axis=1)[:, None] - reference)
    columns.add("spread_of_8", np.nanstd(lately, axis=1)[:, None])
    steps = past.issues.steps
    back = per_day * -(-(steps - past.unknown + 1) // per_day)
    change, weighted, weights, days = np.zeros((4, *reference.shape))
    for day in range(ANALOGUE_DAYS):
        shift = back + per_day * day
        followed = past.known.take(steps - shift)
        before = [past.known.take(past.unknown - 1 - k - shift) for k in range(lately.shape[1])]
        unlike = sum((then - lately[:, k][:, None]) ** 2 for k, then in enumerate(before))
        weight = np.nan_to_num(np.exp(-unlike / LIKENESS_WIDTH))
        weight[np.isnan(followed)] = 0.0
        weighted += weight * np.nan_to_num(followed)
        weights += weight
        if day < ANALOGUE_DAYS // 2:
            step = followed - np.mean(before[:4], axis=0)
            change += np.nan_to_num(step)
            days += ~np.isnan(step)
    now = np.mean(lately[:, :4], axis=1)[:, None]
    columns.add("last_hour_and_usual_change", now + np.where(days > 0, change / days, np.nan) - reference)
    columns.add("days_like_today", np.where(weights > 0, weighted / weights, np.nan) - reference)


def _add_smoothed(columns: _Columns, past: _Past, per_day: int) -> None:
    """Earlier days at about the same time: homes do the same things, but not in the same quarter hour."""
    smooth = past.known.smoothed(SMOOTH_STEPS)
    weeks, likes, days = (np.stack([smooth.take(s) for s in steps]) for steps in past.steps)
    pooled = np.concatenate([weeks, likes])
    columns.add("smooth_weeks_alike", np.nanmean(pooled, axis=0) - past.reference, linear=True)
    columns.add("smooth_median_weeks_alike", np.nanmedian(pooled, axis=0) - past.reference, linear=True)
    columns.add("smooth_7_days", np.nanmean(days, axis=0) - past.reference, linear=True)
    columns.add("smooth_day_1", days[0] - past.reference)
    lately = np.nanmean(
        np.stack([smooth.take(past.unknown - 1 - SMOOTH_STEPS - per_day * j) for j in range(1, 8)]), axis=0
    )
    now = past.known.take(past.unknown - 1 - np.arange(4))
    columns.add("last_hour_deviation", np.nanmean(now, axis=1)[:, None] - lately)


def _add_calendar(columns: _Columns, past: _Past, horizon: Horizon) -> None:
    calendar, day = past.calendar, past.day
    last_day = calendar.day_class.size - 1
    columns.add("slot", past.slot[..., None])
    columns.add("weekday", calendar.weekday[day][..., None])
    columns.add("day_class", calendar.day_class[day][..., None])
    columns.add("day_class_before", calendar.day_class[np.maximum(day - 1, 0)][..., None])
    columns.add("day_class_after", calendar.day_class[np.minimum(day + 1, last_day)][..., None])
    columns.add("public_holiday", calendar.holiday[day][..., None])
    columns.add("season", np.cos(2 * np.pi * (calendar.day_of_year[day] - 172) / 365.25)[..., None])
    columns.add("days_back", past.back[..., None])
    if not horizon.next_day:
        columns.add("lead", np.broadcast_to(np.arange(day.shape[1])[:, None], (*day.shape, 1)))


def _add_sun(columns: _Columns, past: _Past, horizon: Horizon, clear_sky: np.ndarray) -> None:
    """Clear-sky irradiance ahead, and what of it arrived lately; a calculation, not an observation."""
    now = clear_sky[past.issues.steps][..., None]
    sun = [clear_sky[np.maximum(past.at(past.day - past.back - j), 0)] for j in range(RECENT_DAYS)]
    usual = np.mean(sun, axis=0)[..., None]
    ratio = np.minimum(now / np.maximum(usual, 1), 3)
    scaled = np.where(usual > DIMMEST_W_M2, np.nanmean(past.days, axis=0) * ratio, 0) - past.reference
    window = past.unknown - 1 - np.arange(horizon.steps_per_day)
    last, shone = past.known.take(window), clear_sky[np.maximum(window, 0)]
    day_sum = np.maximum(shone.sum(axis=1), horizon.steps_per_day * DIMMEST_W_M2)[:, None, None]
    columns.add("clear_sky", now)
    columns.add("mean_7_days_by_sun", scaled, linear=True)
    columns.add("last_day_clearness", np.nansum(last, axis=1)[:, None] / day_sum)
    if horizon.next_day:
        return
    two = shone[:, :2].sum(axis=1)[:, None, None]
    clearness = np.where(two > 2 * DIMMEST_W_M2, last[:, :2].sum(axis=1)[:, None] / np.maximum(two, 1), np.nan)
    columns.add("clearness", clearness)
    columns.add("last_by_sun", clearness * now - past.reference, linear=True)
    columns.add("group_clearness", np.nanmean(clearness, axis=2, keepdims=True))
