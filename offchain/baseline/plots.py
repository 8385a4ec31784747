"""Pictures of baselines: an event with what was metered, and methods by bias and spread."""

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from offchain.baseline.evaluation import Quality
from offchain.domain.errors import PermanentError
from offchain.domain.isp import MarketDay, isp_start

KW_PER_WH = 4 / 1_000
"""Mean power of a quarter hour by its energy."""


def plot_event(
    path: Path | str,
    day: MarketDay,
    baseline_wh: np.ndarray,
    metered_wh: np.ndarray | None,
    event: range | None,
    *,
    zone: str,
    title: str = "",
) -> None:
    """Measured and baseline net consumption on one axis, the event shaded.

    Parameters
    ----------
    path : path
        Its ending names the kind of picture: .png, .svg, .pdf.
    baseline_wh : ndarray, shape (day.isp_count,)
    metered_wh : ndarray of float, shape (day.isp_count,), optional
        NaN where nothing was metered.
    """
    figure, axis = _figure(10, 4)
    tz = ZoneInfo(zone)
    edges = [isp_start(isp).astimezone(tz) for isp in range(day.first_isp, day.end_isp + 1)]
    if event is not None:
        axis.axvspan(edges[event.start - day.first_isp], edges[event.stop - day.first_isp], color="#ebcb8b", alpha=0.4)
    if metered_wh is not None:
        axis.stairs(metered_wh * KW_PER_WH, edges, baseline=None, color="#2e3440", lw=1.4, label="metered")
    axis.stairs(baseline_wh * KW_PER_WH, edges, baseline=None, color="#bf616a", lw=1.4, ls="--", label="baseline")
    axis.axhline(0, color="#9aa5b8", lw=0.6)
    axis.set_xlim(edges[0], edges[-1])
    import matplotlib.dates as dates

    axis.xaxis.set_major_formatter(dates.DateFormatter("%H:%M", tz=tz))
    axis.set_xlabel(f"{day.day}, local time ({zone})")
    axis.set_ylabel("net consumption [kW], import positive")
    axis.set_title(title)
    axis.legend(frameon=False)
    _save(figure, path)


def plot_quality(path: Path | str, quality: Mapping[str, Quality], *, title: str = "") -> None:
    """Methods by bias (with its standard error) and CV(RMSE); those that need readings of the day are hollow."""
    figure, axis = _figure(8, 5)
    axis.axvspan(-1, 1, color="#a3be8c", alpha=0.3, label="bias within 1%")
    for name, q in quality.items():
        if not np.isfinite([q.bias_percent, q.cv_rmse_percent]).all():
            continue
        axis.errorbar(
            q.bias_percent, q.cv_rmse_percent, xerr=q.bias_error_percent, fmt="o", color="#5e81ac", lw=0.8,
            markerfacecolor="white" if q.same_day else "#5e81ac",
        )  # fmt: skip
        axis.annotate(name, (q.bias_percent, q.cv_rmse_percent), xytext=(6, 3), textcoords="offset points", fontsize=7)
    axis.set_xlabel("bias [%], baseline above metered positive")
    axis.set_ylabel("CV(RMSE) [%]")
    axis.set_title(title)
    axis.legend(frameon=False)
    _save(figure, path)


def _figure(width: float, height: float):
    """A figure with one axis, without a window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise PermanentError("the package matplotlib is not installed", hint="install the extra 'plots'") from exc
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure, path: Path | str) -> None:
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as exc:
        raise PermanentError(f"{target} cannot be written: {exc}", hint="for example event.png or event.svg") from exc
