"""Time series in bulk: measurements, weather, forecasts, baselines; what was known when, and from where.

Every row is a run of values of one series that became known together. Reading asks for a range and for a moment:
of what was known by then, the latest counts, value by value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Connection, Table, func, select

from offchain.domain.errors import DomainError
from offchain.store.database import insert_ignore
from offchain.store.tables import baselines, forecasts, measurements, weather

RUN_ISPS = 672
"""Longest run in a row: a week. Reading a range looks back so far for runs that begin before it."""
MAX_ROWS = 20_000


@dataclass(frozen=True)
class SeriesBlock:
    """Values of many series over a run of ISPs.

    Attributes
    ----------
    ids : tuple of str
    first_isp : int
    values : ndarray of float, shape (n_isps, n_series)
        NaN where missing; the unit is in the name of the quantity (``net_wh``, ``ghi_w_m2``).
    """

    ids: tuple[str, ...]
    first_isp: int
    values: np.ndarray


class ForecastRow(NamedTuple):
    """A stored forecast of one series; quantiles are doubles, one per step [Wh]; ``run`` is the digest of its run."""

    series: str
    target: str
    horizon: str
    first_isp: int
    belief_time: int
    source: str
    step_isps: int
    count: int
    p10: bytes
    p50: bytes
    p90: bytes
    basis: str
    run: bytes | None = None


class BaselineRow(NamedTuple):
    """A stored baseline of one series, doubles of whole Wh per ISP; ``inputs`` is the digest of its history."""

    series: str
    method: str
    first_isp: int
    belief_time: int
    source: str
    count: int
    values: bytes
    inputs: bytes | None = None


Row = TypeVar("Row", ForecastRow, BaselineRow)


def put_measurements(
    connection: Connection, block: SeriesBlock, *, quantity: str, belief_time: int, source: str
) -> int:
    """Store values that became known together; returns how many rows are new. Runs of NaN alone are not stored."""
    return _put(connection, measurements, "series", block, quantity, belief_time, source)


def put_changes(
    connection: Connection, block: SeriesBlock, *, quantity: str, belief_time: int, source: str
) -> tuple[int, int]:
    """Store what differs from what is there, so that the same import twice changes nothing the second time.

    Returns
    -------
    tuple of int
        Values that were not there before, and values that were there and are corrected.
    """
    before = read_measurements(connection, block.ids, quantity, block.first_isp, len(block.values)).values
    fresh = ~np.isnan(block.values) & np.isnan(before)
    corrected = ~np.isnan(block.values) & ~np.isnan(before) & (block.values != before)
    changes = SeriesBlock(block.ids, block.first_isp, np.where(fresh | corrected, block.values, np.nan))
    put_measurements(connection, changes, quantity=quantity, belief_time=belief_time, source=source)
    return int(fresh.sum()), int(corrected.sum())


def put_weather(connection: Connection, block: SeriesBlock, *, quantity: str, belief_time: int, source: str) -> int:
    """As :func:`put_measurements`; series are stations, ``belief_time`` is when the run was published."""
    return _put(connection, weather, "station", block, quantity, belief_time, source)


def read_measurements(
    connection: Connection,
    ids: Sequence[str],
    quantity: str,
    first_isp: int,
    isp_count: int,
    *,
    known_at: int | None = None,
) -> SeriesBlock:
    """Latest values known at ``known_at`` [UTC s], now when absent; NaN where there is none."""
    return _read(connection, measurements, "series", ids, quantity, first_isp, isp_count, known_at)


def read_weather(
    connection: Connection,
    ids: Sequence[str],
    quantity: str,
    first_isp: int,
    isp_count: int,
    *,
    known_at: int | None = None,
) -> SeriesBlock:
    """As :func:`read_measurements`, of stations."""
    return _read(connection, weather, "station", ids, quantity, first_isp, isp_count, known_at)


def weather_runs(connection: Connection, station: str, quantity: str) -> list[tuple[int, int, np.ndarray]]:
    """Every stored run of a station as (belief time, first ISP, values), by belief time."""
    query = (
        select(weather.c.belief_time, weather.c.first_isp, weather.c["values"])
        .where(weather.c.station == station, weather.c.quantity == quantity)
        .order_by(weather.c.belief_time, weather.c.first_isp)
    )
    return [(belief, first, unpack(values)) for belief, first, values in connection.execute(query)]


def series_ids(connection: Connection, quantity: str, *, known_at: int | None = None) -> list[str]:
    """Series with measurements of a quantity, as known at ``known_at`` [UTC s]."""
    query = select(measurements.c.series).where(measurements.c.quantity == quantity).distinct()
    if known_at is not None:
        query = query.where(measurements.c.belief_time <= known_at)
    return sorted(connection.execute(query).scalars())


def quantities(connection: Connection) -> list[str]:
    """Quantities that there are measurements of."""
    return sorted(connection.execute(select(measurements.c.quantity).distinct()).scalars())


def measured_span(connection: Connection, quantity: str, *, known_at: int | None = None) -> range | None:
    """ISPs from the first to the last value of a quantity, as known at ``known_at`` [UTC s]; ``None`` without any."""
    last = func.max(measurements.c.first_isp + measurements.c.count)
    query = select(func.min(measurements.c.first_isp), last).where(measurements.c.quantity == quantity)
    if known_at is not None:
        query = query.where(measurements.c.belief_time <= known_at)
    first, end = connection.execute(query).one()
    return None if first is None else range(first, end)


def weather_quantities(connection: Connection, station: str) -> list[str]:
    """Quantities that there is weather of at a station."""
    query = select(weather.c.quantity).where(weather.c.station == station).distinct()
    return sorted(connection.execute(query).scalars())


def put_forecasts(connection: Connection, rows: Sequence[ForecastRow]) -> int:
    """Store forecasts; returns how many are new."""
    return insert_ignore(connection, forecasts, [row._asdict() for row in rows])


def forecasts_of_run(connection: Connection, run: bytes) -> list[ForecastRow]:
    """Forecasts of one run, by series."""
    columns = [forecasts.c[name] for name in ForecastRow._fields]
    query = select(*columns).where(forecasts.c.run == run).order_by(forecasts.c.series)
    return [ForecastRow(*row) for row in connection.execute(query)]


def latest_forecast(
    connection: Connection, series: str, target: str, horizon: str, first_isp: int, *, known_at: int | None = None
) -> ForecastRow | None:
    """Latest forecast of a series for a start, made not later than ``known_at`` [UTC s]."""
    key = {"series": series, "target": target, "horizon": horizon, "first_isp": first_isp}
    return _latest(connection, forecasts, ForecastRow, key, known_at)


def put_baselines(connection: Connection, rows: Sequence[BaselineRow]) -> int:
    """Store baselines; returns how many are new."""
    return insert_ignore(connection, baselines, [row._asdict() for row in rows])


def latest_baseline(
    connection: Connection, series: str, method: str, first_isp: int, *, known_at: int | None = None
) -> BaselineRow | None:
    """Latest baseline of a series by a method, made not later than ``known_at`` [UTC s]."""
    key = {"series": series, "method": method, "first_isp": first_isp}
    return _latest(connection, baselines, BaselineRow, key, known_at)


def _latest(connection: Connection, table: Table, kind: type[Row], key: dict, known_at: int | None) -> Row | None:
    query = select(*(table.c[name] for name in kind._fields)).where(*(table.c[k] == v for k, v in key.items()))
    if known_at is not None:
        query = query.where(table.c.belief_time <= known_at)
    row = connection.execute(query.order_by(table.c.belief_time.desc()).limit(1)).one_or_none()
    return None if row is None else kind(*row)


def pack(values: np.ndarray) -> bytes:
    """Values as little-endian doubles."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack(packed: bytes) -> np.ndarray:
    """Inverse of :func:`pack`."""
    return np.frombuffer(packed, dtype="<f8")


def _put(connection, table: Table, key: str, block: SeriesBlock, quantity: str, belief_time: int, source: str) -> int:
    if block.values.shape[1:] != (len(block.ids),):
        raise DomainError(f"{quantity}: {len(block.ids)} series, but values of shape {block.values.shape}")
    if np.isinf(block.values).any():
        raise DomainError(f"{quantity}: infinite values", hint="clean the data first")
    new, rows = 0, []
    for start in range(0, len(block.values), RUN_ISPS):
        part = np.ascontiguousarray(block.values[start : start + RUN_ISPS].T, dtype="<f8")
        known = ~np.isnan(part).all(axis=1)
        for column in np.flatnonzero(known):
            rows.append(
                {
                    key: block.ids[column],
                    "quantity": quantity,
                    "first_isp": block.first_isp + start,
                    "belief_time": belief_time,
                    "source": source,
                    "count": part.shape[1],
                    "values": part[column].tobytes(),
                }
            )
        if len(rows) >= MAX_ROWS:
            new += insert_ignore(connection, table, rows)
            rows = []
    return new + insert_ignore(connection, table, rows)


def _read(
    connection, table: Table, key: str, ids: Sequence[str], quantity: str, first_isp: int, isp_count: int, known_at
) -> SeriesBlock:
    if isp_count < 0:
        raise DomainError(f"{quantity}: a run of {isp_count} ISPs", hint="the first ISP comes before the last")
    position = {name: column for column, name in enumerate(ids)}
    values = np.full((len(ids), isp_count), np.nan)
    query = select(table.c[key], table.c.first_isp, table.c["values"]).where(
        table.c.quantity == quantity,
        table.c.first_isp > first_isp - RUN_ISPS,
        table.c.first_isp < first_isp + isp_count,
    )
    if known_at is not None:
        query = query.where(table.c.belief_time <= known_at)
    if len(ids) <= 100:
        query = query.where(table.c[key].in_(list(ids)))
    for name, first, packed in connection.execute(query.order_by(table.c.belief_time, table.c.source)):
        if (row := position.get(name)) is None:
            continue
        run = unpack(packed)
        begin, end = max(first, first_isp), min(first + run.size, first_isp + isp_count)
        if end <= begin:
            continue
        part = run[begin - first : end - first]
        target = values[row, begin - first_isp : end - first_isp]
        known = ~np.isnan(part)
        target[known] = part[known]  # later beliefs overwrite earlier ones
    return SeriesBlock(tuple(ids), first_isp, values.T)
