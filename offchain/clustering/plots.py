"""Picture of cluster centres."""

from pathlib import Path

import numpy as np

from offchain.clustering.model import ClusterModel
from offchain.clustering.vectors import Scale
from offchain.profiling.plots import new_figure, save_figure

SHOWN = 200
"""Curves drawn behind a centre at most."""
HOURS_OF = {Scale.DAY: 24, Scale.DAILY: 48, Scale.WEEKLY: 168, Scale.MONTHLY: 288}
AXIS = {
    Scale.DAY: "local time [h]",
    Scale.DAILY: "hour of the mean working day, then of the mean free day",
    Scale.WEEKLY: "hour of the mean week, from Monday",
    Scale.MONTHLY: "hour of the mean day of each month, from January",
}


def plot_centres(model: ClusterModel, path: Path | str, *, rows: np.ndarray, labels: np.ndarray) -> None:
    """One panel per cluster: its centre, and up to 200 of its normalised curves.

    Parameters
    ----------
    rows : ndarray of float, shape (n, width)
        Normalised curves.
    labels : ndarray of int, shape (n,)
        Their clusters.
    """
    count = len(model.centres)
    columns = min(3, count)
    lines = -(-count // columns)
    hours = np.linspace(0, HOURS_OF[model.scale], model.centres.shape[1], endpoint=False)
    figure, axes = new_figure(4.2 * columns, 2.6 * lines, lines, columns)
    for k, axis in enumerate(axes.flat):
        if k >= count:
            axis.set_axis_off()
            continue
        axis.plot(hours, rows[labels == k][:SHOWN].T, color="#d8dee9", lw=0.4)
        axis.plot(hours, model.centres[k], color="#5e81ac", lw=1.6)
        axis.set_title(f"cluster {k}: {model.sizes[k]:,} curves", fontsize=9)
        axis.set_xticks(np.arange(0, HOURS_OF[model.scale] + 1, HOURS_OF[model.scale] / 4))
        # outliers among the curves must not flatten the centre
        low, high = model.centres[k].min(), model.centres[k].max()
        axis.set_ylim(min(low, 0) - 0.5 * (high - low) - 0.1, high + (high - low) + 0.1)
    figure.supxlabel(AXIS[model.scale], fontsize=10)
    figure.supylabel(f"net, normalised ({model.normalisation.value})", fontsize=10)
    save_figure(figure, path)
