"""Rolling-origin backtest: how good the forecasts would have been, against weekly naive and persistence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from offchain.domain.errors import DomainError
from offchain.forecasting.experts import EXPERTS, Settings
from offchain.forecasting.features import Issues
from offchain.forecasting.forecast import REFERENCES
from offchain.forecasting.forecaster import Frame, Model, predict_issues, train
from offchain.forecasting.horizons import Horizon
from offchain.forecasting.panel import Panel
from offchain.forecasting.scores import coverage, pinball, relative_crps, relative_mae, span
from offchain.forecasting.weather import Weather


@dataclass(frozen=True)
class GroupBacktest:
    """Forecasts of one group over a test period, with what was metered.

    Attributes
    ----------
    ids : tuple of str
    first_isps : ndarray of int, shape (n_issues, n_leads)
        First ISP of every step.
    measured, p10, p50, p90 : ndarray, shape (n_issues, n_leads, n_series)
        Energy per step [Wh].
    references : dict of str to ndarray
        The same for weekly naive and persistence.
    span_wh : ndarray, shape (n_series,)
        99th less 1st percentile of all readings, in steps; what errors are relative to.
    models : list of Model
        Latest last.
    problems : dict of str to str
    """

    group: str
    horizon: Horizon
    ids: tuple[str, ...]
    first_isps: np.ndarray
    measured: np.ndarray
    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray
    references: dict[str, np.ndarray]
    span_wh: np.ndarray
    models: list[Model]
    problems: dict[str, str]

    def scores(self, *, lead: int | None = None) -> dict[str, float]:
        """Medians over the series; of one lead (-1 is the last) or of all."""
        leads = slice(None) if lead is None else [lead % self.p50.shape[1]]
        measured, p10, p50, p90 = (a[:, leads] for a in (self.measured, self.p10, self.p50, self.p90))
        mae = relative_mae(measured, p50, self.span_wh)
        found = {"relative_mae": float(np.median(mae))}
        for name in REFERENCES:
            reference = relative_mae(measured, self.references[name][:, leads], self.span_wh)
            found[f"relative_mae_{name}"] = float(np.median(reference))
            found[f"share_better_than_{name}"] = float(np.mean(mae < reference))
        losses = [pinball(measured, p, q) / self.span_wh for p, q in ((p10, 0.1), (p50, 0.5), (p90, 0.9))]
        found["relative_pinball"] = float(np.median(np.mean(losses, axis=0)))
        found["rcrps"] = float(np.median(relative_crps(measured, p10, p50, p90, self.span_wh)))
        covered = coverage(measured, p10, p90)
        found["coverage"] = float(np.nanmean(covered)) if np.isfinite(covered).any() else float("nan")
        return found


def backtest(
    panel: Panel,
    of: Horizon,
    *,
    test_from_isp: int,
    groups: Mapping[str, Sequence[str]] | None = None,
    targets: Mapping[str, str] | None = None,
    every: int = 1,
    retrain_days: int | None = None,
    weather: Weather | None = None,
    settings: Settings | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[GroupBacktest]:
    """Forecast from every regular moment of issue in the test period, each with what was known by then.

    Parameters
    ----------
    panel : Panel
        All readings, those of the test period too.
    test_from_isp : int
        Start of the test period; the first training ends there.
    groups : mapping of str to sequence of str, optional
        Ids per group; each group has its own model. All in one group when absent.
    targets : mapping of str to str, optional
        Target per group, ``"net_consumption"`` where absent.
    every : int
        Use every so-many-th moment of issue; for short horizons, which overlap.
    retrain_days : int, optional
        Train again after so many days; once only when absent.
    """
    groups = groups or {"all": panel.ids}
    position = {name: column for column, name in enumerate(panel.ids)}
    results = []
    for done, (name, members) in enumerate(groups.items()):
        if progress:
            progress(f"backtest {of.name}", done, len(groups))
        absent = [m for m in members if m not in position]
        if absent:
            raise DomainError(f"group {name}: {absent[0]!r} is not in the data")
        part = panel.select([position[m] for m in members])
        target = (targets or {}).get(name, "net_consumption")
        results.append(_of_group(name, part, of, test_from_isp, target, every, retrain_days, weather, settings))
    if progress:
        progress(f"backtest {of.name}", len(groups), len(groups))
    return results


def _of_group(name, panel, of, test_from_isp, target, every, retrain_days, weather, settings) -> GroupBacktest:
    settings = settings or Settings()
    frame = Frame(panel, of)
    issues = frame.all_issues(settings.delay_isps)
    begins = frame.isp(0) + issues.steps[:, 0] * of.step_isps
    issues = issues.pick((begins >= test_from_isp) & (issues.steps.max(axis=1) < len(frame.values_wh)))
    issues = issues.pick(slice(None, None, every))
    if not issues.known_until.size:
        raise DomainError(
            f"group {name}: no readings after the start of the test period", hint="let the test period begin earlier"
        )
    day = frame.calendar.day[issues.steps[:, 0]]
    batch = np.zeros_like(day) if retrain_days is None else (day - day[0]) // retrain_days
    models, parts = [], []
    for number in np.unique(batch):
        now = issues.pick(batch == number)
        # Readings of the first issue's past only; the very first training ends where the test period begins.
        known = frame.isp(int(now.known_until.min()))
        model = train(
            panel.until(min(known, test_from_isp) if number == 0 else known),
            of,
            target=target,
            weather=weather,
            settings=settings,
        )
        models.append(model)
        parts.append((now, predict_issues(model, frame, now, weather)))
    return _joined(name, panel, of, frame, models, parts)


def _joined(name, panel, of, frame, models, parts: list[tuple[Issues, object]]) -> GroupBacktest:
    columns = parts[0][1].columns
    steps = np.concatenate([now.steps for now, _ in parts])

    def all_of(pick):
        return np.concatenate([pick(result) for _, result in parts])

    return GroupBacktest(
        name,
        of,
        tuple(panel.ids[c] for c in columns),
        (frame.first_step + steps) * of.step_isps,
        frame.measured(steps)[..., columns],
        all_of(lambda r: r.p10),
        all_of(lambda r: r.p50),
        all_of(lambda r: r.p90),
        {n: all_of(lambda r, n=n: r.experts[..., EXPERTS.index(n)]) for n in REFERENCES},
        span(frame.values_wh[:, columns]),
        models,
        parts[0][1].problems,
    )


def table(results: Sequence[GroupBacktest], *, lead: int | None = None) -> pd.DataFrame:
    """Scores of all groups, one row each."""
    rows = [
        {"horizon": r.horizon.name, "group": r.group, "series": len(r.ids), "issues": len(r.p50), **r.scores(lead=lead)}
        for r in results
    ]
    return pd.DataFrame(rows)
