"""Training a model for a group of series, and forecasting with it.

One model serves one group (homes, businesses, PV systems ...), one horizon and one target. It is trained on
readings before one moment and from then on forecasts at any later one, with the errors that it made since.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.errors import DomainError, InsufficientHistoryError
from offchain.domain.isp import SECONDS_PER_ISP, isp_start
from offchain.forecasting.ensemble import WINDOW_DAYS, combine
from offchain.forecasting.experts import EXPERTS, Experts, Settings, train_experts
from offchain.forecasting.features import Features, Issues, build_features
from offchain.forecasting.forecast import GROUP_PROFILE, GROUP_SCALED, OWN_HISTORY, REFERENCES, Forecast
from offchain.forecasting.horizons import Horizon
from offchain.forecasting.panel import Panel, in_steps, unusable
from offchain.forecasting.step_calendar import StepCalendar
from offchain.forecasting.weather import Weather, clear_sky_w_m2

NAME = "ensemble"
TARGETS = ("net_consumption", "consumption", "production", "flexibility_up", "flexibility_down")
"""All but net consumption are non-negative."""
LEAST_DAYS = 15
"""Days that the group needs before anything can be learnt from it."""
WARM_DAYS = 8
"""Days of own history from which a series is forecast by itself."""
AHEAD_DAYS = 3
CALIBRATION_ISSUES_PER_DAY = 8


@dataclass(frozen=True)
class Memory:
    """What the experts said about the last days of the training, none of which they were trained on.

    Attributes
    ----------
    known_until, steps : ndarray of int
        As in :class:`Issues`, but counted from 1970 UTC.
    experts, widths : ndarray of float32
        As :meth:`Experts.values` returns them, series in the order of the training.
    """

    known_until: np.ndarray
    steps: np.ndarray
    experts: np.ndarray
    widths: np.ndarray


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    ids : tuple of str
        Series that it was trained on.
    scale_wh : ndarray, shape (n_series,)
        98th less 2nd percentile of the energy per step of each of them [Wh].
    trained_until_isp : int
        First ISP that the training did not see.
    inputs_sha256 : str
        Digest of the panel that it was trained on.
    """

    horizon: Horizon
    target: str
    settings: Settings
    ids: tuple[str, ...]
    scale_wh: np.ndarray
    trained_until_isp: int
    inputs_sha256: str
    experts: Experts
    memory: Memory
    weather_names: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """``"ensemble@2:<12 hex digits>"``: method, version, and what this very model depends on."""
        of = self.horizon
        identity = json.dumps([NAME, of.version, of.name, self.target, asdict(self.settings), self.inputs_sha256])
        return f"{method_of(of)}:{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    def explain(self, count: int = 10) -> list[tuple[str, float]]:
        """The features that matter most to the boosted trees, with their share of the gain."""
        return sorted(self.experts.importance.items(), key=lambda item: -item[1])[:count]


@dataclass(frozen=True)
class Issued:
    """Forecasts of several moments of issue, energies in Wh per step.

    Attributes
    ----------
    p10, p50, p90 : ndarray, shape (n_issues, n_leads, n_series)
    experts, weights : ndarray, shape (n_issues, n_leads, n_series, n_experts)
        What every expert said, and its weight in ``p50``.
    columns : ndarray of int
        Columns of the panel that the series are.
    problems : dict of str to str
        Series that could not be used.
    """

    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray
    experts: np.ndarray
    weights: np.ndarray
    columns: np.ndarray
    problems: dict[str, str]


class Frame:
    """A panel in steps with its calendar, long enough for everything ahead."""

    def __init__(self, panel: Panel, of: Horizon, *, until_isp: int | None = None):
        self.horizon, self.panel = of, panel
        self.first_step, self.values_wh = in_steps(panel, of.step_isps)
        end = self.first_step + len(self.values_wh)
        if until_isp is not None:
            end = max(end, -(-until_isp // of.step_isps))
        count = end - self.first_step + AHEAD_DAYS * of.steps_per_day
        self.calendar = StepCalendar(self.first_step, count, of.step_isps, panel.zone, panel.country)
        self.clear_sky = None
        if panel.site is not None:
            middle = (self.first_step + np.arange(count)) * of.step_isps + of.step_isps // 2
            self.clear_sky = clear_sky_w_m2(middle, panel.site.latitude, panel.site.longitude)

    def position(self, step: int) -> int:
        return step - self.first_step

    def isp(self, position: int) -> int:
        return (self.first_step + position) * self.horizon.step_isps

    def measured(self, steps: np.ndarray) -> np.ndarray:
        """Energy at positions, NaN beyond the data [Wh]."""
        found = self.values_wh[np.minimum(steps, len(self.values_wh) - 1)]
        return np.where((steps < len(self.values_wh))[..., None], found, np.nan)

    def features(self, issues: Issues, scale_wh: np.ndarray, delay_isps: int, weather: Weather | None) -> Features:
        given = None
        if weather is not None:
            isps = (self.first_step + issues.steps) * self.horizon.step_isps + self.horizon.step_isps // 2
            issued_at = ((self.first_step + issues.known_until) * self.horizon.step_isps + delay_isps) * SECONDS_PER_ISP
            given = {name: weather.known(name, isps, issued_at) for name in weather.names}
        return build_features(
            self.values_wh / scale_wh, self.calendar, issues, self.horizon, clear_sky=self.clear_sky, weather=given
        )

    def all_issues(self, delay_isps: int) -> Issues:
        """Every regular moment of issue within the data whose first days are behind it."""
        calendar, of = self.calendar, self.horizon
        delay = -(-delay_isps // of.step_isps)
        begin = LEAST_DAYS * of.steps_per_day
        if of.next_day:
            last = int(calendar.day[min(len(self.values_wh), calendar.count - 1)])
            days = np.arange(1, last + 1)
            known = calendar.at[days - 1, of.issue_minute // of.step_minutes] - delay
            keep = (known >= begin) & (calendar.at[days, -1] < calendar.count)
            return Issues(known[keep], calendar.at[days[keep]])
        known = np.arange(begin, len(self.values_wh))
        return Issues(known, known[:, None] + delay + np.arange(of.steps))


def method_of(of: Horizon) -> str:
    """Method and version behind the forecasts of a horizon, for example ``"ensemble@2"``."""
    return f"{NAME}@{of.version}"


def train(
    panel: Panel,
    of: Horizon,
    *,
    target: str = "net_consumption",
    weather: Weather | None = None,
    settings: Settings | None = None,
) -> Model:
    """Train a model on all readings of a group.

    The experts are trained twice: without the last days, on which their errors are then measured, and with them.

    Parameters
    ----------
    panel : Panel
        Readings of the group; series that cannot be used are left out.
    target : str
        One of ``TARGETS``.
    weather : Weather, optional
        As it was forecast at the time; forecasts with the model then need it too.

    Raises
    ------
    InsufficientHistoryError
        Fewer than ``LEAST_DAYS`` plus one day of readings.
    """
    if target not in TARGETS:
        raise DomainError(f"unknown target {target!r}", hint=f"one of {', '.join(TARGETS)}")
    settings = settings or Settings()
    bad = unusable(panel)
    good = [c for c, name in enumerate(panel.ids) if name not in bad and not np.isnan(panel.values_wh[:, c]).all()]
    if not good:
        raise InsufficientHistoryError(available=0, required=LEAST_DAYS + 1, what="readings of the group")
    panel = panel.select(good)
    frame = Frame(panel, of)
    scale_wh = _scale(frame.values_wh)
    issues = frame.all_issues(settings.delay_isps)
    count = len(frame.values_wh)
    issues = issues.pick(issues.steps.max(axis=1) < count)
    if not issues.known_until.size:
        raise InsufficientHistoryError(
            available=count // of.steps_per_day, required=LEAST_DAYS + 2, what="readings of the group"
        )
    held_days = min(settings.calibration_days, max(1, (count // of.steps_per_day - LEAST_DAYS) // 2))
    held_from = count - held_days * of.steps_per_day
    early = issues.pick(issues.steps.max(axis=1) < held_from)
    held = _thin(issues.pick(issues.known_until >= held_from), of)
    rng = np.random.default_rng(settings.seed)
    rows = np.arange(len(good))
    # half of the rows: it only has to err like the final one does
    brief = replace(settings, boosted_rows=settings.boosted_rows // 2)
    draft = _train_on(frame, early if early.known_until.size else issues, scale_wh, brief, weather, rng)
    values, widths = draft.values(frame.features(held, scale_wh, settings.delay_isps, weather), rows)
    memory = Memory(
        held.known_until + frame.first_step,
        held.steps + frame.first_step,
        values.astype(np.float32),
        widths.astype(np.float32),
    )
    experts = _train_on(frame, issues, scale_wh, settings, weather, rng)
    names = () if weather is None else weather.names
    digest = panel.digest().hex()
    return Model(of, target, settings, panel.ids, scale_wh, frame.isp(count), digest, experts, memory, names)


def predict(model: Model, panel: Panel, issued_at: int, *, weather: Weather | None = None) -> Forecast:
    """Forecast what follows a moment.

    Parameters
    ----------
    panel : Panel
        Readings; those that were not known at ``issued_at`` are not used. Series that the model was not trained on
        may be among them, those without readings too.
    issued_at : int
        [UTC s]. A day-ahead forecast is about the local day after.

    Raises
    ------
    DomainError
        Issued before the model was trained, or weather is missing.
    """
    of, step_s = model.horizon, model.horizon.step_isps * SECONDS_PER_ISP
    delay = model.settings.delay_isps
    issue_isp = issued_at // SECONDS_PER_ISP
    if issue_isp - delay < model.trained_until_isp - of.step_isps:
        raise DomainError(
            f"issued at {isp_start(issue_isp).isoformat()}, but the model saw readings until "
            f"{isp_start(model.trained_until_isp).isoformat()}",
            hint="train with the readings that were known by then",
        )
    if tuple(model.weather_names) != (() if weather is None else weather.names):
        raise DomainError(f"the model was trained with weather {model.weather_names or 'none'}", hint="give the same")
    known_isp = min(issue_isp - delay, panel.end_isp)
    panel = panel.until(known_isp)
    frame = Frame(panel, of, until_isp=issue_isp)
    now, first, leads = _issue_at(frame, issued_at, known_isp, step_s)
    result = predict_issues(model, frame, now, weather)
    columns, problems = result.columns, dict(result.problems)
    p10, p50, p90 = (part[0][leads] for part in (result.p10, result.p50, result.p90))
    weights = result.weights[0].mean(axis=0)
    ids = [panel.ids[c] for c in columns]
    level, basis = _levels(frame, columns)
    own = np.array([b == OWN_HISTORY for b in basis])
    filled = _fill_from_group(np.stack([p10, p50, p90]), own, level)
    weights[~own] = np.nan
    usable = np.isfinite(filled).all(axis=(0, 1))
    problems |= {
        name: "no readings, and nobody in the group has enough of them"
        for name, fine in zip(ids, usable, strict=True)
        if not fine
    }
    if not usable.any():
        raise InsufficientHistoryError(available=0, required=WARM_DAYS, what=f"{of.name} forecast of {len(ids)} series")
    filled = filled[:, :, usable]
    return Forecast(
        of.name,
        model.target,
        model.model_id,
        issued_at,
        known_isp,
        frame.isp(first),
        of.step_isps,
        tuple(np.array(ids)[usable].tolist()),
        *_bounded(filled, model.target),
        tuple(np.array(basis)[usable].tolist()),
        {name: weights[usable, m] for m, name in enumerate(EXPERTS)},
        problems,
        {name: result.experts[0][leads][:, usable, EXPERTS.index(name)] for name in REFERENCES},
    )


def predict_issues(model: Model, frame: Frame, issues: Issues, weather: Weather | None = None) -> Issued:
    """Forecast at several moments, each with what was known by then; series without history are not filled in."""
    of, settings = model.horizon, model.settings
    problems = unusable(frame.panel)
    columns = np.array([c for c, name in enumerate(frame.panel.ids) if name not in problems], dtype=int)
    if not columns.size:
        raise DomainError(f"none of {len(frame.panel.ids)} series can be used", hint=next(iter(problems.values())))
    frame = _columns_of(frame, columns)
    trained = {name: row for row, name in enumerate(model.ids)}
    rows = np.array([trained.get(name, len(model.ids)) for name in frame.panel.ids])
    scale_wh = np.where(rows < len(model.ids), np.append(model.scale_wh, 1.0)[rows], _scale(frame.values_wh))

    begin = frame.position(-(-model.trained_until_isp // of.step_isps))
    since = _thin(frame.all_issues(settings.delay_isps), of)
    since = since.pick((since.known_until >= begin) & (since.known_until < issues.known_until.min()))
    oldest = issues.known_until.min() - (WINDOW_DAYS + 3) * of.steps_per_day
    since = since.pick(since.known_until >= oldest)
    since = since.pick(since.steps.max(axis=1) < frame.calendar.count)
    fresh = Issues(np.concatenate([since.known_until, issues.known_until]), np.concatenate([since.steps, issues.steps]))
    values, widths = model.experts.values(frame.features(fresh, scale_wh, settings.delay_isps, weather), rows)
    kept = _remembered(model.memory, frame, rows, oldest)
    every = Issues(np.concatenate([kept[0], fresh.known_until]), np.concatenate([kept[1], fresh.steps]))
    measured = frame.values_wh / scale_wh
    if len(measured) < frame.calendar.count:
        missing = np.full((frame.calendar.count - len(measured), measured.shape[1]), np.nan)
        measured = np.concatenate([measured, missing])
    dark = None
    if model.target == "production" and frame.clear_sky is not None:
        dark = np.convolve(frame.clear_sky, np.ones(3), "same") <= 0
    combined = combine(
        np.concatenate([kept[2], values]),
        np.concatenate([kept[3], widths]),
        measured,
        frame.calendar,
        every,
        of,
        dark,
    )
    asked = slice(len(every.known_until) - len(issues.known_until), None)
    quantiles = [part[asked] * scale_wh for part in (combined.p10, combined.p50, combined.p90)]
    if dark is not None:
        quantiles = [np.where(dark[issues.steps][..., None], 0.0, part) for part in quantiles]
    low, middle, high = _bounded(np.stack(quantiles), model.target)
    said = values[len(since.known_until) :] * scale_wh[:, None]
    return Issued(low, middle, high, said, combined.weights[asked], columns, problems)


def _columns_of(frame: Frame, columns: np.ndarray) -> Frame:
    if columns.size == len(frame.panel.ids):
        return frame
    chosen = object.__new__(Frame)
    chosen.__dict__ = frame.__dict__ | {
        "panel": frame.panel.select(columns.tolist()),
        "values_wh": frame.values_wh[:, columns],
    }
    return chosen


def _train_on(frame, issues: Issues, scale_wh, settings: Settings, weather, rng) -> Experts:
    leads, series = issues.steps.shape[1], scale_wh.size
    most = max(settings.linear_rows // (leads * series), 20)
    if issues.known_until.size > most:
        issues = issues.pick(np.sort(rng.choice(issues.known_until.size, most, replace=False)))
    features = frame.features(issues, scale_wh, settings.delay_isps, weather)
    target = frame.measured(issues.steps) / scale_wh
    return train_experts(features, target, settings, frame.horizon)


def _thin(issues: Issues, of: Horizon) -> Issues:
    """Few issues a day, spread over all times of day; all of them where there is one a day."""
    if of.next_day:
        return issues
    every = max(of.steps_per_day // CALIBRATION_ISSUES_PER_DAY, 1)
    # an odd stride walks through all times of day within some days
    every += 1 - every % 2
    return issues.pick(issues.known_until % every == 0)


def _issue_at(frame: Frame, issued_at: int, known_isp: int, step_s: int) -> tuple[Issues, int, np.ndarray]:
    """The issue, the first step ahead, and which of the issue's leads each step ahead is.

    A next day is forecast by time of day, so that days of 23 and 25 hours are days like others: an hour that comes
    twice is expected to be the same twice.
    """
    of, calendar = frame.horizon, frame.calendar
    known = frame.position(known_isp // of.step_isps)
    if not of.next_day:
        first = frame.position(-(-issued_at // step_s))
        return Issues(np.array([known]), first + np.arange(of.steps)[None]), first, np.arange(of.steps)
    local = datetime.fromtimestamp(issued_at, UTC).astimezone(ZoneInfo(frame.panel.zone))
    wanted = (local + timedelta(days=1)).date()
    day = (wanted - calendar.dates[0].date()).days
    steps = np.flatnonzero(calendar.day == day)
    if not steps.size:
        raise DomainError(f"{wanted} is beyond the calendar of the data", hint="load readings nearer to the issue")
    return Issues(np.array([known]), calendar.at[day][None]), int(steps[0]), calendar.slot[steps]


def _remembered(memory: Memory, frame: Frame, rows: np.ndarray, oldest: int):
    """The memory of the training for the series at hand, positions in their calendar; errors of strangers are NaN."""
    known, steps = memory.known_until - frame.first_step, memory.steps - frame.first_step
    keep = (known >= max(oldest, 0)) & (steps.max(axis=1) < frame.calendar.count)
    pick = np.minimum(rows, memory.experts.shape[2] - 1)
    experts = memory.experts[keep][:, :, pick].astype(float)
    widths = memory.widths[keep][:, :, pick].astype(float)
    experts[:, :, rows >= memory.experts.shape[2]] = np.nan
    return known[keep], steps[keep], experts, widths


def _scale(values_wh: np.ndarray) -> np.ndarray:
    """98th less 2nd percentile per series; the mean size of a constant one, 1 for one of zeros or nothing."""
    scale = np.ones(values_wh.shape[1])
    for column in range(scale.size):
        values = values_wh[:, column]
        values = values[~np.isnan(values)]
        if values.size:
            width = float(np.quantile(values, 0.98) - np.quantile(values, 0.02))
            size = float(np.abs(values).mean())
            scale[column] = width if width > 1e-6 * size else size
    return np.where(scale > 0, scale, 1.0)


def _levels(frame: Frame, columns: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Mean energy per step of the last four weeks, and what the forecast of each series stands on."""
    recent = frame.values_wh[-28 * frame.horizon.steps_per_day :][:, columns]
    known = (~np.isnan(frame.values_wh[:, columns])).sum(axis=0) / frame.horizon.steps_per_day
    total, number = np.nansum(recent, axis=0), (~np.isnan(recent)).sum(axis=0)
    level = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    basis = [OWN_HISTORY if d >= WARM_DAYS else GROUP_SCALED if d >= 1 else GROUP_PROFILE for d in known]
    return level, basis


def _fill_from_group(quantiles: np.ndarray, own: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Series without enough history take the profile of the others, shape (3, n_steps, n_series).

    The profile is what the others are forecast relative to their level; P10 and P90 take in how much they differ
    from one another. Without any reading the level is the median of theirs.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        good = own & np.isfinite(level) & (np.abs(level) > 0) & np.isfinite(quantiles).all(axis=(0, 1))
    if own.all() or not good.any():
        return np.where(own | np.zeros_like(quantiles, dtype=bool), quantiles, np.nan)
    relative = quantiles[:, :, good] / level[good]
    ordered = np.sort(relative, axis=0)  # negative levels turn the quantiles round
    profile = np.stack(
        [np.quantile(ordered[0], 0.1, axis=1), np.median(ordered[1], axis=1), np.quantile(ordered[2], 0.9, axis=1)]
    )
    usual = float(np.median(level[good]))
    result = quantiles.copy()
    for column in np.flatnonzero(~own):
        size = level[column] if np.isfinite(level[column]) else usual
        result[:, :, column] = np.sort(profile * size, axis=0)
    return result


def _bounded(quantiles: np.ndarray, target: str) -> np.ndarray:
    """Quantiles that do not cross; non-negative where the target is."""
    low, middle, high = quantiles
    quantiles = np.stack([np.minimum(low, middle), middle, np.maximum(high, middle)])
    return quantiles if target == "net_consumption" else np.maximum(quantiles, 0.0)
