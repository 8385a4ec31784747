"""Picture of a plant's performance over the years."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from offchain.degradation.performance import Performance
from offchain.degradation.year_on_year import DAYS_PER_YEAR, Degradation
from offchain.profiling.plots import new_figure, save_figure


def plot_degradation(performance: Performance, degradation: Degradation, path: Path | str) -> None:
    """Daily performance, the line of the rate, and the band of its interval."""
    first, last = performance.days[0], performance.days[-1]
    ages = np.linspace(0, (last - first).days / DAYS_PER_YEAR, 100)
    times = [first + timedelta(days=float(a) * DAYS_PER_YEAR) for a in ages]
    bounds = [degradation.index_at(ages, rate=r) for r in (degradation.low, degradation.high)]
    figure, axes = new_figure(10, 4)
    axis = axes[0, 0]
    axis.plot(performance.days, performance.index, ".", color="#9aa5b8", ms=2.5, label="day")
    axis.fill_between(times, *bounds, color="#bf616a", alpha=0.25, lw=0, label=f"{degradation.confidence:.0%} interval")
    rate = f"{degradation.rate_per_year * 100:+.2f} % a year"
    axis.plot(times, degradation.index_at(ages), color="#bf616a", lw=1.6, label=rate)
    axis.set_ylabel("metered / expected energy")
    axis.legend(fontsize=8, frameon=False)
    save_figure(figure, path)
