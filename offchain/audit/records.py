"""Everything that the store holds, read once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from eth_utils import to_checksum_address
from sqlalchemy import ColumnElement, Connection, Table, select

from offchain.domain.errors import PermanentError
from offchain.store.batches import Batch, MeterDayRow, meter_days_of
from offchain.store.curves import CommitmentRow, CurveRow
from offchain.store.database import Store
from offchain.store.documents import Document
from offchain.store.readings import ReadingRow
from offchain.store.tables import batches, commitments, curves, documents, meter_days, readings

R = TypeVar("R", bound=tuple)


@dataclass(frozen=True, slots=True)
class Records:
    """Contents of a store.

    Attributes
    ----------
    batches : list of (Batch, list of MeterDayRow)
        Every batch with its meter-days, oldest first.
    readings : dict of bytes to dict of int to ReadingRow
        By meter and ISP.
    commitments : dict of int to (CommitmentRow, list of CurveRow)
        By commitment, curves in leaf order.
    documents : list of Document
    """

    batches: list[tuple[Batch, list[MeterDayRow]]]
    readings: dict[bytes, dict[int, ReadingRow]]
    commitments: dict[int, tuple[CommitmentRow, list[CurveRow]]]
    documents: list[Document]


def read_records(store: Store) -> Records:
    """Read the whole store.

    Raises
    ------
    PermanentError
        The file is damaged, or a column holds what does not belong there.
    """
    store.verify()
    with store.read() as connection:
        found = [
            (_with_checksum(batch), meter_days_of(connection, batch.id))
            for batch in sorted(_rows(connection, Batch, batches))
        ]
        _require_types(MeterDayRow, meter_days, (day for _, days in found for day in days))
        by_meter: defaultdict[bytes, dict[int, ReadingRow]] = defaultdict(dict)
        for reading in _rows(connection, ReadingRow, readings):
            by_meter[reading.meter_id][reading.isp] = reading
        by_commitment: defaultdict[int, list[CurveRow]] = defaultdict(list)
        for curve in _rows(connection, CurveRow, curves, curves.c.commitment_id.is_not(None)):
            by_commitment[curve.commitment_id].append(curve)
        committed = {
            row.commitment_id: (row, sorted(by_commitment[row.commitment_id], key=_position))
            for row in _rows(connection, CommitmentRow, commitments)
        }
        return Records(found, dict(by_meter), committed, _rows(connection, Document, documents))


def _rows(connection: Connection, row_type: type[R], table: Table, *conditions: ColumnElement) -> list[R]:
    """All rows of a table that fulfil the conditions."""
    query = select(*(table.c[name] for name in row_type._fields)).where(*conditions)
    return _require_types(row_type, table, (row_type(*row) for row in connection.execute(query)))


def _require_types(row_type: type[R], table: Table, rows: Iterable[R]) -> list[R]:
    """SQLite keeps whatever it is given, so a changed file may hold text where bytes belong."""
    types = [(name, table.c[name].type.python_type, table.c[name].nullable) for name in row_type._fields]
    rows = list(rows)
    for row in rows:
        for value, (name, expected, nullable) in zip(row, types, strict=True):
            if not (isinstance(value, expected) or (nullable and value is None)):
                raise PermanentError(
                    f"store: {table.name}.{name} holds {value!r} instead of {expected.__name__}",
                    hint="the database was changed by another program; restore it from a backup",
                )
    return rows


def _position(curve: CurveRow) -> int:
    return -1 if curve.leaf_position is None else curve.leaf_position


def _with_checksum(batch: Batch) -> Batch:
    """Operator as the events spell it; one that is no address stays, and is named as unknown later."""
    try:
        return batch._replace(operator=to_checksum_address(batch.operator))
    except ValueError:
        return batch
