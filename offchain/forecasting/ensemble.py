"""How the experts become one forecast: weights and intervals from errors that were known at run time."""

from dataclasses import dataclass

import numpy as np

from offchain.forecasting.features import Issues
from offchain.forecasting.horizons import Horizon
from offchain.forecasting.step_calendar import StepCalendar

HALF_LIFE_DAYS = 28.0
OTHER_CLASS = 0.5
OTHER_STRATUM = 0.3
POWER = 64.0
PRIOR_DAYS = 0.5
WINDOW_DAYS = 28
LEVEL = 0.8
ADAPT = 0.05
"""How much of a day's excess of values outside of the interval the next interval makes up for."""
LEAST_WIDTH = 1e-3
BLOCKS = 6


@dataclass(frozen=True)
class Combined:
    """Quantiles of every issue, lead and series in units of the scale, and the weights behind P50.

    ``weights`` has shape (n_issues, n_leads, n_series, n_experts).
    """

    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray
    weights: np.ndarray


def combine(
    experts: np.ndarray,
    widths: np.ndarray,
    values: np.ndarray,
    calendar: StepCalendar,
    issues: Issues,
    horizon: Horizon,
    dark: np.ndarray | None = None,
) -> Combined:
    """Walk through the issues day by day; each day uses the errors of days that were over by then.

    The weight of an expert falls with its mean absolute error, to the power of -64: the best one leads, ones as good
    share. Errors count more the newer they are, and the more the situation resembles the one ahead: the same class
    of day, and the same part of the day (next day) or lead (shorter horizons). A series without errors takes those
    of all series. P10 and P90 are the boosted trees' distances from the median, stretched per series so that 80% of
    the last 28 days would have been inside (split-conformal [1]_, normalised, one factor each side, and for each lead
    of a shorter horizon). Where more or fewer values than that fell outside of the intervals that were issued, the next
    ones get wider or narrower [2]_, because load and sun drift with the season.

    Parameters
    ----------
    experts : ndarray, shape (n_issues, n_leads, n_series, n_experts)
    widths : ndarray, shape (n_issues, n_leads, n_series, 2)
    values : ndarray, shape (n_steps, n_series)
        What was metered, in units of the scale; used where it was known by then only.
    dark : ndarray of bool, shape (n_steps,), optional
        Steps at which nothing can be produced; they say nothing about the width of intervals.

    References
    ----------
    .. [1] J. Lei et al., "Distribution-free predictive inference for regression", Journal of the American
       Statistical Association 113, 2018.
    .. [2] I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift", NeurIPS 34, 2021.
    """
    issue_day = calendar.day[issues.steps[:, 0]]
    days = np.unique(issue_day)
    shape = experts.shape[:3]
    result = Combined(*(np.full(shape, np.nan) for _ in range(3)), np.full(experts.shape, np.nan))
    past = _Past(experts, days, horizon, np.zeros(len(values), dtype=bool) if dark is None else dark)
    width = widths + LEAST_WIDTH
    for day in days:
        now = np.flatnonzero(issue_day == day)
        known_until = int(issues.known_until[now].min())
        for position in past.learn_until(known_until):
            rows = np.flatnonzero(issue_day == days[position])
            steps = issues.steps[rows]
            issued = result.p10[rows], result.p50[rows], result.p90[rows]
            past.learn(position, experts[rows], issued, width[rows], values[steps], calendar, steps)
        weights = past.weights(day, calendar, issues.steps[now])
        p50 = np.nansum(weights * np.nan_to_num(experts[now]), axis=-1)
        p50 = np.where(np.isnan(experts[now]).all(axis=-1), np.nan, p50)
        low, high = past.stretch(day)
        result.weights[now], result.p50[now] = weights, p50
        result.p10[now] = p50 - low * width[now][..., 0]
        result.p90[now] = p50 + high * width[now][..., 1]
        past.made(day, int(issues.steps[now].max()))
    return result


class _Past:
    """Errors of past days, once they are known."""

    def __init__(self, experts: np.ndarray, days: np.ndarray, horizon: Horizon, dark: np.ndarray):
        leads, series, count = experts.shape[1:]
        self.days, self.horizon, self.dark = days, horizon, dark
        self.strata = BLOCKS if horizon.next_day else leads
        self.error = np.zeros((days.size, self.strata, series, count))
        self.count = np.zeros((days.size, self.strata, series, 1))
        self.scores: list[np.ndarray | None] = [None] * days.size
        self.last_step: dict[int, int] = {}
        self.learnt = 0
        self.day_class = np.zeros(days.size, dtype=np.int64)
        self.groups = 1 if horizon.next_day else leads
        self.side = np.full((2, self.groups, series), 0.5 + LEVEL / 2)

    def made(self, day: int, last_step: int) -> None:
        self.last_step[int(day)] = last_step

    def learn_until(self, known_until: int) -> list[int]:
        """Days (positions) that are over by now and were not learnt from yet."""
        fresh = []
        while self.learnt < self.days.size:
            day = int(self.days[self.learnt])
            if day not in self.last_step or self.last_step[day] >= known_until:
                break
            fresh.append(self.learnt)
            self.learnt += 1
        return fresh

    def learn(self, position, experts, issued, width, measured, calendar, steps) -> None:
        p10, p50, p90 = issued
        self.day_class[position] = calendar.day_class[self.days[position]]
        error = np.abs(experts - measured[..., None])
        valid = np.isfinite(error).all(axis=-1)
        error = np.where(valid[..., None], error, 0.0)
        for stratum, inside in self._inside(calendar, steps):
            self.error[position, stratum] = error[inside].sum(axis=0)
            self.count[position, stratum] = valid[inside].sum(axis=0)[..., None]
        flat = (-1, self.groups, p50.shape[-1])
        below = ((p50 - measured) / width[..., 0]).reshape(flat)
        above = ((measured - p50) / width[..., 1]).reshape(flat)
        moving = ((width.max(axis=-1) > 2 * LEAST_WIDTH) & ~self.dark[steps][..., None]).reshape(flat)
        self.scores[position] = np.where(moving, np.stack([below, above]), np.nan)
        counted = moving & np.isfinite(below)
        outside = np.stack([measured < p10, measured > p90]).reshape(2, *below.shape) & counted
        number = counted.sum(axis=0)
        excess = outside.sum(axis=1) / np.maximum(number, 1) - (1 - LEVEL) / 2
        self.side = np.clip(self.side + np.where(number > 0, ADAPT * excess, 0.0), 0.5, 0.995)

    def _inside(self, calendar, steps):
        """Masks over (issue, lead) of every stratum."""
        if self.horizon.next_day:
            block = calendar.slot[steps] * BLOCKS // calendar.slots
            return [(b, block == b) for b in range(BLOCKS)]
        lead = np.broadcast_to(np.arange(steps.shape[1]), steps.shape)
        return [(s, lead == s) for s in range(steps.shape[1])]

    def weights(self, day: int, calendar: StepCalendar, steps: np.ndarray) -> np.ndarray:
        series, count = self.error.shape[2:]
        result = np.empty((*steps.shape, series, count))
        known = slice(0, self.learnt)
        age = day - self.days[known]
        kernel = 0.5 ** (age / HALF_LIFE_DAYS) * np.where(
            self.day_class[known] == calendar.day_class[day], 1.0, OTHER_CLASS
        )
        error = np.einsum("d,dsnm->snm", kernel, self.error[known])
        number = np.einsum("d,dsnm->snm", kernel, self.count[known])
        for stratum, inside in self._inside(calendar, steps):
            near = np.full(self.strata, OTHER_STRATUM)
            near[stratum] = 1.0
            total, weight = np.einsum("s,snm->nm", near, error), np.einsum("s,snm->nm", near, number)
            if weight.sum() > 0:
                common = total.sum(axis=0) / weight.sum()
                prior = PRIOR_DAYS * max(float(weight.max()) / max(self.learnt, 1), 1.0)
                score = (total + prior * common) / (weight + prior)
                share = (score + LEAST_WIDTH) ** -POWER
            else:
                share = np.ones((series, count))
            result[inside] = share / share.sum(axis=-1, keepdims=True)
        return result

    def stretch(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        """Factors of the widths below and above P50, shape (n_leads, n_series); one lead for all of a next day."""
        recent = [s for d, s in zip(self.days, self.scores, strict=True) if s is not None and d >= day - WINDOW_DAYS]
        if not recent:
            return np.ones(self.side.shape[1:]), np.ones(self.side.shape[1:])
        scores = np.concatenate(recent, axis=1)
        counted = np.isfinite(scores)
        number = counted.sum(axis=1)
        level = np.minimum(self.side * (number + 1) / np.maximum(number, 1), 1.0)
        ordered = np.sort(np.where(counted, scores, np.inf), axis=1)
        rank = np.maximum(np.ceil(level * number).astype(int) - 1, 0)
        factors = np.take_along_axis(ordered, rank[:, None], axis=1)[:, 0]
        pooled = scores[counted]
        usual = np.quantile(pooled, 0.5 + LEVEL / 2) if pooled.size else 1.0
        factors = np.where(number >= 30, factors, usual)
        low, high = np.maximum(np.where(np.isfinite(factors), factors, 1.0), 0.0)
        return low, high
