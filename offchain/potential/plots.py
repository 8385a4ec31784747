"""Picture of a prosumer's potential: the baseline with what can be moved up and down from it."""

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from offchain.domain.errors import PermanentError
from offchain.domain.isp import MarketDay, isp_start
from offchain.domain.units import Direction
from offchain.potential.prosumer import Potential

KW_PER_WH = 4 / 1_000
"""Mean power of a quarter hour by its energy."""


def plot_potential(
    path: Path | str,
    day: MarketDay,
    baseline_wh: np.ndarray,
    potentials: Mapping[Direction, Potential],
    *,
    zone: str,
    title: str = "",
) -> None:
    """Baseline and band of margins on one axis; each margin is what a single ISP can be moved by."""
    try:
        from matplotlib import dates
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise PermanentError("the package matplotlib is not installed", hint="install the extra 'plots'") from exc
    tz = ZoneInfo(zone)
    edges = [isp_start(isp).astimezone(tz) for isp in range(day.first_isp, day.end_isp + 1)]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axis = figure.subplots()
    looks = {Direction.UP: ("UP: less net consumption", "#a3be8c", -1), Direction.DOWN: ("DOWN: more", "#5e81ac", 1)}
    for direction, found in potentials.items():
        label, color, sign = looks[direction]
        moved = (baseline_wh + sign * found.margin_wh) * KW_PER_WH
        axis.stairs(moved, edges, baseline=baseline_wh * KW_PER_WH, fill=True, color=color, alpha=0.5, label=label)
    axis.stairs(baseline_wh * KW_PER_WH, edges, baseline=None, color="#2e3440", lw=1.4, label="baseline")
    axis.axhline(0, color="#9aa5b8", lw=0.6)
    axis.set_xlim(edges[0], edges[-1])
    axis.xaxis.set_major_formatter(dates.DateFormatter("%H:%M", tz=tz))
    axis.set_xlabel(f"{day.day}, local time ({zone})")
    axis.set_ylabel("net consumption [kW], import positive")
    axis.set_title(title)
    axis.legend(frameon=False)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as exc:
        raise PermanentError(f"{target} cannot be written: {exc}", hint="for example plot.png or plot.svg") from exc
