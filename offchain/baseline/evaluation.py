"""How good a baseline method is for a customer: placebo events on days without one, on the customer's own data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import inf, isfinite, sqrt
from typing import Generic

import numpy as np

from offchain.baseline.history import DayType, Eligibility, History, market_day
from offchain.baseline.method import Key, method_id
from offchain.baseline.similar_days import SimilarDayMethod
from offchain.domain.errors import DomainError, FlexError, InsufficientHistoryError
from offchain.domain.isp import isp_start

ISPS_PER_DAY = 96
LEAST_EVENTS = 10
TOGETHER = 256
"""Connections that are evaluated in one array."""


@dataclass(frozen=True)
class Quality:
    """Errors of a method in placebo events, baseline minus metered.

    Attributes
    ----------
    method : str
    same_day : bool
        Whether it needs readings of the day itself.
    events, isps : int
        Placebo events, and ISPs in all of them.
    mean_wh : float
        Mean size of the metered net consumption [Wh per ISP], which the percentages refer to.
    bias_percent : float
        Mean error; positive where a reduction would be overpaid.
    bias_error_percent : float
        Standard error of the bias, from the spread between events.
    cv_rmse_percent, mape_percent : float
        Root mean square error; mean absolute error of each ISP by its own metered value, without ISPs of zero.

    A connection that metered nothing at all has infinite percentages, or zero where the baseline was right.
    """

    method: str
    same_day: bool
    events: int
    isps: int
    mean_wh: float
    bias_percent: float
    bias_error_percent: float
    cv_rmse_percent: float
    mape_percent: float

    @property
    def unexplained_bias_percent(self) -> float:
        """Size of the bias beyond its standard error."""
        return max(abs(self.bias_percent) - self.bias_error_percent, 0.0) if isfinite(self.bias_percent) else inf


@dataclass(frozen=True)
class Evaluation(Generic[Key]):
    """Quality by connection and method; for connections that could not be evaluated the reason."""

    quality: Mapping[Key, Mapping[str, Quality]]
    refused: Mapping[Key, FlexError]


def evaluate(
    methods: Sequence[SimilarDayMethod],
    histories: Mapping[Key, History],
    window: range,
    *,
    kind: DayType = DayType.WORKING,
    first: date | None = None,
    at_most: int | None = None,
    unknown_days: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation[Key]:
    """Compare methods on placebo events.

    Every eligible day of the kind with enough days before it has one placebo event; each baseline is computed from
    what was known before it. All methods are measured on the same days.

    Parameters
    ----------
    methods : sequence
    histories : mapping
        By connection; groups are histories too, see :func:`offchain.baseline.history.group_history`.
    window : range of int
        Positions of the event in a day of 96 ISPs: 17 to 19 h are ``range(68, 76)``.
    kind : DayType
        Days on which there are events.
    first : date, optional
        First day with an event.
    at_most : int, optional
        Latest events only.
    unknown_days : int
        Calendar days right before an event that methods without same-day adjustment do not know yet: 1 where
        baselines are committed the day before, while that day is not over.
    progress : callable
        Told how many connections are done, and how many there are.

    Returns
    -------
    Evaluation
        Connections with fewer than ten placebo events are refused with :class:`InsufficientHistoryError`.
    """
    if not methods:
        raise DomainError("no baseline methods to evaluate")
    if window.step != 1 or not 0 <= window.start < window.stop <= ISPS_PER_DAY:
        raise DomainError(f"event window {window.start}..{window.stop} is not within a day of {ISPS_PER_DAY} ISPs")
    event = slice(window.start, window.stop)
    quality: dict[Key, dict[str, Quality]] = {}
    refused: dict[Key, FlexError] = {}
    alike: dict[tuple[date, ...], tuple[int, list[tuple[Key, np.ndarray]]]] = {}

    def finish(days: tuple[date, ...], events: int, group: list[tuple[Key, np.ndarray]]) -> None:
        known = [_first_known(days, n, unknown_days) for n in range(events)]
        values = np.stack([values for _, values in group], axis=-1)
        measured = [_errors(method, values, event, events, known) for method in methods]
        for n, (key, _) in enumerate(group):
            quality[key] = {
                method_id(method): _quality(method, error_wh[..., n], values[:events, event, n])
                for method, error_wh in zip(methods, measured, strict=True)
            }
        progress(len(quality) + len(refused), len(histories))
        group.clear()

    for key, history in histories.items():
        try:
            eligible, events = placebo_days(
                methods, history, kind=kind, first=first, at_most=at_most, unknown_days=unknown_days
            )
        except InsufficientHistoryError as refusal:
            refused[key] = refusal
            continue
        _, group = alike.setdefault(eligible.days, (events, []))
        group.append((key, eligible.values_wh))
        if len(group) == TOGETHER:
            finish(eligible.days, events, group)
    for days, (events, group) in alike.items():
        if group:
            finish(days, events, group)
    return Evaluation(quality, refused)


def placebo_days(
    methods: Sequence[SimilarDayMethod],
    history: History,
    *,
    kind: DayType = DayType.WORKING,
    first: date | None = None,
    at_most: int | None = None,
    unknown_days: int = 0,
) -> tuple[Eligibility, int]:
    """Eligible days of a history, latest first, and on how many of them all methods have a placebo event.

    Raises
    ------
    InsufficientHistoryError
        Fewer than ten events.
    """
    least = unknown_days + max(method.least_days for method in methods)
    most = unknown_days + max(method.most_days for method in methods)
    eligible = _all_days(history, kind, None if at_most is None else at_most + most)
    wanted = [len(eligible.days) - least, len(eligible.days) if at_most is None else at_most]
    if first is not None:
        wanted.append(sum(day >= first for day in eligible.days))
    if min(wanted) < LEAST_EVENTS:
        raise InsufficientHistoryError(
            available=len(eligible.days),
            required=least + LEAST_EVENTS,
            what=f"placebo events on {kind} days{eligible.summary()}",
        )
    return eligible, min(wanted)


def _all_days(history: History, kind: DayType, at_most: int | None) -> Eligibility:
    """Eligible days of a kind in the whole history, laid on a day of 96 ISPs."""
    after = isp_start(history.first_isp + history.net_wh.size).date() + timedelta(days=1)
    while history.type_of(after) is not kind or market_day(after, history.zone).isp_count != ISPS_PER_DAY:
        after += timedelta(days=1)
    return history.eligible_days(market_day(after, history.zone), at_most or history.net_wh.size)


def _first_known(days: tuple[date, ...], event: int, unknown_days: int) -> int:
    """Position of the latest day that is known when the baseline of day ``event`` is made; latest days come first."""
    return next(n for n in range(event + 1, len(days)) if (days[event] - days[n]).days > unknown_days)


def _errors(
    method: SimilarDayMethod, values: np.ndarray, event: slice, events: int, known: Sequence[int]
) -> np.ndarray:
    """Baseline minus metered [Wh], shape (events, n_isps, n_connections), latest event first."""
    errors = []
    for n in range(events):
        start = n + 1 if method.same_day else known[n]
        past = values[start : start + method.most_days]
        today = values[n, : event.start] if method.same_day else None
        errors.append(method.in_event(past, today, event) - values[n, event])
    return np.stack(errors)


def _quality(method: SimilarDayMethod, error_wh: np.ndarray, metered_wh: np.ndarray) -> Quality:
    size = np.abs(metered_wh)
    total = int(size.sum())
    nonzero = size > 0

    def percent(wh: float) -> float:
        return 100 * wh * error_wh.size / total if total else (inf if wh else 0.0)

    per_event = error_wh.mean(axis=1)
    return Quality(
        method=method_id(method),
        same_day=method.same_day,
        events=len(error_wh),
        isps=error_wh.size,
        mean_wh=total / error_wh.size,
        bias_percent=percent(float(error_wh.mean())),
        bias_error_percent=percent(float(per_event.std(ddof=1)) / sqrt(len(error_wh))),
        cv_rmse_percent=percent(sqrt(float((error_wh.astype(float) ** 2).mean()))),
        mape_percent=float(100 * (np.abs(error_wh[nonzero]) / size[nonzero]).mean()) if total else percent(0.0),
    )


def recommend(quality: Mapping[str, Quality], *, same_day: bool = False) -> list[Quality]:
    """Methods from best to worst: bias first, then the spread of errors.

    Money follows the bias; random errors cancel over events. Bias counts in whole percents beyond its standard
    error, so that chance does not decide; among methods of equal bias the one with the lower CV(RMSE) comes
    first.

    Parameters
    ----------
    same_day : bool
        Also methods that need readings of the day itself. They cannot be committed a day ahead, and load raised
        before an event raises them.
    """
    candidates = [q for q in quality.values() if same_day or not q.same_day]
    if not candidates:
        raise DomainError("no method to recommend: all of them need readings of the day itself")

    def rank(q: Quality) -> tuple[float, float, str]:
        bias = q.unexplained_bias_percent
        return (float(int(bias)) if isfinite(bias) else inf, q.cv_rmse_percent, q.method)

    return sorted(candidates, key=rank)
