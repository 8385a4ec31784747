"""Pictures of profiles and of what a load is made of."""

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.errors import PermanentError
from offchain.domain.isp import isp_start
from offchain.profiling.days import QUARTER_HOURS
from offchain.profiling.disaggregation import Components
from offchain.profiling.profiles import LoadProfile

HOURS = np.arange(QUARTER_HOURS) / 4
KW_PER_WH = 4 / 1000
PARTS = {
    "base_wh": ("base load", "#4c566a"),
    "other_wh": ("other", "#9aa5b8"),
    "water_heater_wh": ("water heater", "#d08770"),
    "heating_cooling_wh": ("heating and cooling", "#bf616a"),
    "electric_vehicle_wh": ("electric vehicle", "#5e81ac"),
}
GENERATION = "#ebcb8b"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1):
    """A figure and its axes as an array, without a window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise PermanentError("the package matplotlib is not installed", hint="install the extra 'plots'") from exc
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure, path: Path | str) -> None:
    """Write a figure; its kind is how the name ends."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as exc:
        raise PermanentError(f"{target} cannot be written: {exc}", hint="for example plot.png or plot.svg") from exc


def plot_profile(profile: LoadProfile, path: Path | str, *, title: str = "") -> None:
    """Mean with the band from P10 to P90, one panel per group."""
    columns = min(3, len(profile.groups))
    rows = -(-len(profile.groups) // columns)
    figure, axes = new_figure(4.2 * columns, 2.6 * rows, rows, columns)
    for i, axis in enumerate(axes.flat):
        if i >= len(profile.groups):
            axis.set_axis_off()
            continue
        axis.fill_between(
            HOURS, profile.p10_wh[i] * KW_PER_WH, profile.p90_wh[i] * KW_PER_WH, color="#d8dee9", label="P10 to P90"
        )
        axis.plot(HOURS, profile.mean_wh[i] * KW_PER_WH, color="#2e3440", lw=1.3, label="mean")
        axis.set_title(f"{', '.join(map(str, profile.groups[i]))} ({profile.days[i]} days)", fontsize=9)
        axis.set_xlim(0, 24)
        axis.set_xticks(range(0, 25, 6))
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.supxlabel("local time [h]", fontsize=10)
    figure.supylabel("net [kW], import positive", fontsize=10)
    figure.suptitle(title)
    save_figure(figure, path)


def plot_components(parts: Components, path: Path | str, *, zone: str, first: int = 0, isps: int = 7 * 96) -> None:
    """Stack of the load over some days, generation below zero, and the net as a line."""
    window = slice(first, first + isps)
    tz = ZoneInfo(zone)
    count = parts.base_wh[window].size
    times = [isp_start(parts.first_isp + first + i).astimezone(tz) for i in range(count)]
    figure, axes = new_figure(12, 4.5)
    axis = axes[0, 0]
    axis.stackplot(
        times,
        *[np.nan_to_num(getattr(parts, name)[window]) * KW_PER_WH for name in PARTS],
        labels=[label for label, _ in PARTS.values()],
        colors=[colour for _, colour in PARTS.values()],
        step="post",
    )
    axis.fill_between(
        times,
        0,
        -np.nan_to_num(parts.generation_wh[window]) * KW_PER_WH,
        step="post",
        color=GENERATION,
        label="generation",
    )
    axis.step(times, parts.net_wh[window] * KW_PER_WH, where="post", color="black", lw=0.8, label="net, metered")
    axis.set_ylabel("[kW], import positive")
    axis.set_xlabel(f"local time, {zone}")
    axis.legend(fontsize=8, ncols=4, frameon=False, loc="upper left")
    save_figure(figure, path)
