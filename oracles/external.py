"""Weather and prices into the store, on the grid of ISPs, with what was known when."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.store.database import Store
from offchain.store.series import SeriesBlock, put_measurements, put_weather
from oracles.sources.port import ExternalValue, Quantity

LONGEST_GAP_ISPS = 96
"""Values further apart are stored as separate runs."""

_ADDITIVE = {Quantity.PRECIPITATION}


def store_external(store: Store, values: Iterable[ExternalValue]) -> int:
    """Store external values in one transaction and return how many runs are new.

    An event that covers several ISPs gives its value to each of them, or its share when the quantity adds up (rain);
    several events in one ISP give their mean, weighted by time. A value of a moment is that of its ISP. Weather is
    found again by ``read_weather``, prices by ``read_measurements``, under ``series`` and the name of the quantity.
    """
    runs: dict[tuple[Quantity, str, int, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for value in values:
        run = runs[value.quantity, value.series, value.belief_time, value.source]
        for isp, amount, weight in _spread(value):
            total, weights = run.get(isp, (0.0, 0.0))
            run[isp] = total + amount * weight, weights + weight
    new = 0
    with store.write() as connection:
        for (quantity, series, belief_time, source), run in runs.items():
            put = put_measurements if quantity is Quantity.PRICE else put_weather
            for first_isp, column in _pieces(run, quantity in _ADDITIVE):
                block = SeriesBlock((series,), first_isp, column.reshape(-1, 1))
                new += put(connection, block, quantity=quantity.value, belief_time=belief_time, source=source)
    return new


def _spread(value: ExternalValue) -> Iterable[tuple[int, float, float]]:
    """ISP, value and weight for every ISP that the event touches; the weight is the covered time [s]."""
    first = value.event_start // SECONDS_PER_ISP
    if value.event_end <= value.event_start:
        yield first, value.value, 1.0
        return
    amount = value.value / (value.event_end - value.event_start) if value.quantity in _ADDITIVE else value.value
    for isp in range(first, -(-value.event_end // SECONDS_PER_ISP)):
        start, end = isp * SECONDS_PER_ISP, (isp + 1) * SECONDS_PER_ISP
        yield isp, amount, float(min(end, value.event_end) - max(start, value.event_start))


def _pieces(run: dict[int, tuple[float, float]], additive: bool) -> Iterable[tuple[int, np.ndarray]]:
    """Runs of ISPs without long gaps; NaN where there is no value."""
    isps = np.array(sorted(run))
    for piece in np.split(isps, np.flatnonzero(np.diff(isps) > LONGEST_GAP_ISPS) + 1):
        column = np.full(piece[-1] - piece[0] + 1, np.nan)
        for isp in piece:
            total, weight = run[isp]
            column[isp - piece[0]] = total if additive else total / weight
        yield int(piece[0]), column
