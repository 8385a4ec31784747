"""Readings per meter and ISP, and the register state that the next reading is the difference to."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from offchain.domain.curves import MISSING
from offchain.store.database import insert_ignore, upsert
from offchain.store.tables import readings, register_states


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


_READING_COLUMNS = [readings.c[name] for name in ReadingRow._fields]


def insert_readings(connection: Connection, rows: Sequence[ReadingRow]) -> int:
    """Store readings and return how many are new; one of the same meter and ISP stays as it was."""
    return insert_ignore(connection, readings, [row._asdict() for row in rows])


def readings_of_isp(connection: Connection, isp: int) -> list[ReadingRow]:
    """All readings of one ISP, by meter id."""
    query = select(*_READING_COLUMNS).where(readings.c.isp == isp).order_by(readings.c.meter_id)
    return [ReadingRow(*row) for row in connection.execute(query)]


def readings_of_meter(connection: Connection, meter_id: bytes, first_isp: int, end_isp: int) -> list[ReadingRow]:
    """Readings of one meter in ``[first_isp, end_isp)``, by ISP; missing ones are absent."""
    query = (
        select(*_READING_COLUMNS)
        .where(readings.c.meter_id == meter_id, readings.c.isp >= first_isp, readings.c.isp < end_isp)
        .order_by(readings.c.isp)
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


def save_register_states(connection: Connection, states: Iterable[RegisterState]) -> None:
    """Remember the latest boundary of each meter."""
    upsert(connection, register_states, [state._asdict() for state in states])


def load_register_states(connection: Connection) -> dict[bytes, RegisterState]:
    """Latest boundary of every meter, by meter id."""
    query = select(*(register_states.c[name] for name in RegisterState._fields))
    return {row.meter_id: RegisterState(*row) for row in connection.execute(query)}
