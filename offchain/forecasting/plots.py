"""Plots of forecasts: measured values, P50 and the ribbon from P10 to P90 on one axis."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.backtest import GroupBacktest
from offchain.forecasting.forecast import Forecast

MEASURED, EXPECTED, REFERENCE = "#222222", "#0b6e99", "#c77700"


def plot_forecast(forecast: Forecast, path: Path, *, zone: str, most: int = 6) -> Path:
    """The first series of a forecast, one panel each."""
    names = forecast.ids[:most]
    figure, axes = _figure(len(names))
    isps = forecast.first_isp + np.arange(len(forecast.p50)) * forecast.step_isps
    for column, (name, axis) in enumerate(zip(names, axes, strict=True)):
        quantiles = [part[:, column] for part in (forecast.p10, forecast.p50, forecast.p90)]
        _ribbon(axis, isps, quantiles, forecast.step_isps, zone)
        _label(axis, f"{name} ({forecast.basis[column]})", forecast.step_isps, zone)
    return _save(figure, axes, path)


def plot_backtest(result: GroupBacktest, path: Path, *, zone: str, steps: int = 168, most: int = 6) -> Path:
    """The last steps of a test period, as forecast furthest ahead, with what was metered and weekly naive."""
    names = result.ids[:most]
    figure, axes = _figure(len(names))
    leads = slice(None) if result.horizon.next_day else slice(-1, None)
    isps = result.first_isps[:, leads].ravel()
    order = np.argsort(isps, kind="stable")[-steps:]
    for column, (name, axis) in enumerate(zip(names, axes, strict=True)):

        def line(values, column=column):
            return values[:, leads, column].ravel()[order]

        _ribbon(
            axis, isps[order], [line(v) for v in (result.p10, result.p50, result.p90)], result.horizon.step_isps, zone
        )
        times = _times(isps[order], zone)
        kw = _kw(line(result.references["weekly_naive"]), result.horizon.step_isps)
        axis.plot(times, kw, color=REFERENCE, linewidth=0.8, linestyle=":", label="weekly naive")
        axis.plot(times, _kw(line(result.measured), result.horizon.step_isps), color=MEASURED, label="measured")
        _label(axis, f"{result.group}: {name}, {result.horizon.name}", result.horizon.step_isps, zone)
    return _save(figure, axes, path)


def _figure(count: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.6 * count), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(count, 1, squeeze=False)[:, 0]


def _times(isps: np.ndarray, zone: str) -> list[datetime]:
    return [datetime.fromtimestamp(int(isp) * SECONDS_PER_ISP, UTC).astimezone(ZoneInfo(zone)) for isp in isps]


def _kw(energy_wh: np.ndarray, step_isps: int) -> np.ndarray:
    """Energy per step as mean power, comparable between resolutions."""
    return energy_wh / step_isps * 4 / 1_000


def _ribbon(axis, isps, quantiles, step_isps: int, zone: str) -> None:
    times = _times(isps, zone)
    low, middle, high = (_kw(part, step_isps) for part in quantiles)
    axis.fill_between(times, low, high, color=EXPECTED, alpha=0.2, linewidth=0, label="P10 to P90")
    axis.plot(times, middle, color=EXPECTED, label="P50")


def _label(axis, title: str, step_isps: int, zone: str) -> None:
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_ylabel(f"mean power of {15 * step_isps} min [kW]", fontsize=8)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
    axis.set_xlabel(zone, fontsize=8)


def _save(figure, axes, path: Path) -> Path:
    axes[0].legend(loc="upper right", fontsize=8, ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
