"""Section of the page about what was expected: measured, forecast and baseline on one axis, and how good they were."""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

from offchain.domain.isp import ISPS_PER_HOUR
from offchain.domain.units import WH_PER_KWH

LINES = ("p50", "baseline", "undisturbed", "metered")
HORIZONS = {
    "day_ahead_isp": "the next day by quarter hour, issued at 11:00",
    "intraday": "half an hour, 4 hours ahead",
    "hour_ahead": "a quarter hour, 1 hour ahead",
}
STEPS_KW = (1, 2, 5)


def forecast_section(series: dict[str, Sequence[int]], windows: list[tuple[int, int]]) -> dict[str, Any]:
    """What the template shows.

    Parameters
    ----------
    series : dict
        Energy of the congestion point per ISP by name: the lines, and the limits ``p10`` and ``p90`` [Wh].
    windows : list of tuple
        Start and length of what was requested.
    """
    power = {name: [wh * ISPS_PER_HOUR / WH_PER_KWH for wh in values] for name, values in series.items()}
    bottom, top, step = _range(min(map(min, power.values())), max(map(max, power.values())))

    def y(value: float) -> float:
        return round(100 * (top - value) / (top - bottom), 2)

    def path(values: Sequence[float]) -> str:
        return f"M0 {y(values[0])}H1" + "".join(f"V{y(v)}H{i}" for i, v in enumerate(values[1:], 2))

    low = power["p10"]
    back = "".join(f"V{y(low[i])}H{i}" for i in range(len(low) - 1, -1, -1))
    count = round((top - bottom) / step)
    return {
        "axis": [{"at": y(v), "label": f"{v:g}"} for v in (bottom + step * i for i in range(count + 1))],
        "paths": {name: path(power[name]) for name in LINES},
        "ribbon": f"{path(power['p90'])}{back}Z",
        "zero": y(0) if bottom < 0 else None,
        "windows": windows,
        "horizons": HORIZONS,
    }


def _range(lowest: float, highest: float) -> tuple[float, float, float]:
    """Bottom and top of an axis that holds both and zero, and its step: three to seven round values."""
    span = max(highest, 0.0) - min(lowest, 0.0) or 1.0
    size = 10.0 ** (len(str(int(span))) - 2)
    step = next(size * s * scale for scale in (1, 10) for s in STEPS_KW if span / (size * s * scale) <= 6)
    bottom, top = step * floor(min(lowest, 0.0) / step), step * ceil(max(highest, 0.0) / step)
    return bottom, top if top > bottom else step, step
