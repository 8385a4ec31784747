"""Readings per meter and ISP, and the register state that the next reading is the difference to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Connection, func, insert, select, tuple_

from offchain.domain.curves import MISSING
from offchain.store.database import insert_ignore, upsert
from offchain.store.tables import estimates, readings, register_states, rejections, superseded_readings

_KEYS_PER_QUERY = 400
"""SQLite limits the number of values in a statement."""
_METERS_PER_QUERY = 200
"""Of which a market day is packed at once: 20,000 readings."""
Item = TypeVar("Item")


class ReadingRow(NamedTuple):
    """One signed reading: energy of one ISP [Wh], with where and when it became known."""

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    quality: int
    signature: bytes
    belief_time: int
    source: str


class RegisterState(NamedTuple):
    """Cumulative registers [Wh] at the start of ISP ``boundary``; ``meter_clock`` [UTC s] if it has one."""

    meter_id: bytes
    boundary: int
    import_register_wh: int
    export_register_wh: int
    meter_clock: int | None


class EstimateRow(NamedTuple):
    """Energy of an ISP that nobody measured [Wh], and how it was estimated; never signed, never settled."""

    meter_id: bytes
    isp: int
    import_wh: int
    export_wh: int
    method: str
    belief_time: int


_READING_COLUMNS = [readings.c[name] for name in ReadingRow._fields]


def insert_readings(connection: Connection, rows: Sequence[ReadingRow]) -> int:
    """Store readings and return how many are new; one of the same meter and ISP stays as it was."""
    return insert_ignore(connection, readings, rows)


def readings_at(connection: Connection, keys: Sequence[tuple[int, bytes]]) -> dict[tuple[int, bytes], ReadingRow]:
    """Readings by (ISP, meter id), those of ``keys`` that exist."""
    found = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = keys[start : start + _KEYS_PER_QUERY]
        query = select(*_READING_COLUMNS).where(tuple_(readings.c.isp, readings.c.meter_id).in_(part))
        for row in connection.execute(query):
            found[row.isp, row.meter_id] = ReadingRow(*row)
    return found


def correct_readings(
    connection: Connection, pairs: Sequence[tuple[ReadingRow, ReadingRow]], *, superseded_at: int
) -> None:
    """Replace readings, (before, after) of the same meter and ISP each; what they said before is kept."""
    if not pairs:
        return
    connection.execute(
        insert(superseded_readings), [old._asdict() | {"superseded_at": superseded_at} for old, _ in pairs]
    )
    upsert(connection, readings, [new for _, new in pairs])


def save_estimates(connection: Connection, rows: Sequence[EstimateRow]) -> None:
    """Keep estimates beside the readings; a later one replaces an earlier one."""
    upsert(connection, estimates, rows)


def estimates_of_meter(connection: Connection, meter_id: bytes, first_isp: int, end_isp: int) -> list[EstimateRow]:
    """Estimates of one meter in ``[first_isp, end_isp)`` where there is no reading, by ISP."""
    measured = select(readings.c.isp).where(readings.c.isp == estimates.c.isp, readings.c.meter_id == meter_id).exists()
    query = (
        select(*(estimates.c[name] for name in EstimateRow._fields))
        .where(estimates.c.meter_id == meter_id, estimates.c.isp >= first_isp, estimates.c.isp < end_isp, ~measured)
        .order_by(estimates.c.isp)
    )
    return [EstimateRow(*row) for row in connection.execute(query)]


def save_rejections(connection: Connection, counts: Mapping[tuple[bytes, str], int], *, now: int) -> None:
    """Replace the counters of rejected values, by meter and reason."""
    upsert(
        connection,
        rejections,
        [{"meter_id": m, "reason": r, "count": count, "last_at": now} for (m, r), count in counts.items()],
    )


def load_rejections(connection: Connection) -> dict[tuple[bytes, str], int]:
    """How many values were rejected so far, by meter and reason."""
    return {(row.meter_id, row.reason): row.count for row in connection.execute(select(rejections))}


def readings_of_isp(connection: Connection, isp: int) -> list[ReadingRow]:
    """All readings of one ISP, by meter id."""
    return list(iter_readings_of_isp(connection, isp))


def iter_readings_of_isp(connection: Connection, isp: int, *, after: bytes = b"") -> Iterator[ReadingRow]:
    """As :func:`readings_of_isp`, one after the other, of the meters that follow ``after``."""
    query = (
        select(*_READING_COLUMNS)
        .where(readings.c.isp == isp, readings.c.meter_id > after)
        .order_by(readings.c.meter_id)
    )
    for row in connection.execute(query, execution_options={"yield_per": 1_000}):
        yield ReadingRow(*row)


def readings_of_meter(connection: Connection, meter_id: bytes, first_isp: int, end_isp: int) -> list[ReadingRow]:
    """Readings of one meter in ``[first_isp, end_isp)``, by ISP; missing ones are absent."""
    found = readings_at(connection, [(isp, meter_id) for isp in range(first_isp, end_isp)])
    return [found[key] for key in sorted(found)]


def first_reading(connection: Connection) -> int | None:
    """ISP of the oldest reading; ``None`` when there is none."""
    return connection.execute(select(func.min(readings.c.isp))).scalar()


def last_reading(connection: Connection) -> int | None:
    """ISP of the latest reading; ``None`` when there is none."""
    return connection.execute(select(func.max(readings.c.isp))).scalar()


def readings_between(connection: Connection, first_isp: int, end_isp: int) -> list[ReadingRow]:
    """All readings in ``[first_isp, end_isp)``, by ISP and meter id."""
    query = (
        select(*_READING_COLUMNS)
        .where(readings.c.isp >= first_isp, readings.c.isp < end_isp)
        .order_by(readings.c.isp, readings.c.meter_id)
    )
    return [ReadingRow(*row) for row in connection.execute(query)]


def energy_matrix(connection: Connection, meter_ids: Sequence[bytes], first_isp: int, isp_count: int) -> np.ndarray:
    """Energy of many meters over a run of ISPs.

    Returns
    -------
    numpy.ndarray of int64, shape (n_meters, isp_count, 2)
        Import and export [Wh], in the order of ``meter_ids``; ``MISSING`` twice where there is no reading.
    """
    matrix = np.full((len(meter_ids), isp_count, 2), MISSING, dtype=np.int64)
    position = {meter_id: i for i, meter_id in enumerate(meter_ids)}
    query = select(readings.c.meter_id, readings.c.isp, readings.c.import_wh, readings.c.export_wh).where(
        readings.c.isp >= first_isp, readings.c.isp < first_isp + isp_count
    )
    for meter_id, isp, import_wh, export_wh in connection.execute(query):
        if (row := position.get(meter_id)) is not None:
            matrix[row, isp - first_isp] = import_wh, export_wh
    return matrix


def packed_days(
    connection: Connection, meter_ids: Iterable[bytes], first_isp: int, isp_count: int
) -> Iterator[tuple[bytes, bytes]]:
    """Meter id and packed readings of many meters over a market day; memory does not grow with the meters.

    Parameters
    ----------
    meter_ids : iterable of bytes
        In ascending order.
    """
    isps = range(first_isp, first_isp + isp_count)
    for part in batched(meter_ids, _METERS_PER_QUERY):
        # ISPs one by one: of a range the index would give all meters.
        query = select(readings.c.meter_id, readings.c.isp, readings.c.import_wh, readings.c.export_wh).where(
            readings.c.isp.in_(isps), readings.c.meter_id.between(part[0], part[-1])
        )
        position = {meter_id: i for i, meter_id in enumerate(part)}
        found = [(position[m], isp - first_isp, i, e) for m, isp, i, e in connection.execute(query) if m in position]
        values = np.full((len(part), isp_count, 2), MISSING, dtype=">u4")
        if found:
            meters, places, imports, exports = np.array(found, dtype=np.int64).T
            values[meters, places, 0] = imports
            values[meters, places, 1] = exports
        for meter_id, day in zip(part, values, strict=True):
            yield meter_id, day.tobytes()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` items."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def save_register_states(connection: Connection, states: Sequence[RegisterState]) -> None:
    """Remember the latest boundary of each meter."""
    upsert(connection, register_states, states)


def load_register_states(connection: Connection) -> dict[bytes, RegisterState]:
    """Latest boundary of every meter, by meter id."""
    query = select(*(register_states.c[name] for name in RegisterState._fields))
    return {row.meter_id: RegisterState(*row) for row in connection.execute(query)}
