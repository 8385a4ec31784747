"""Everything that the store holds, read once."""

from collections import defaultdict
from dataclasses import dataclass

from eth_utils import to_checksum_address
from sqlalchemy import select

from offchain.store.batches import Batch, MeterDayRow, meter_days_of
from offchain.store.curves import CommitmentRow, CurveRow
from offchain.store.database import Store
from offchain.store.documents import Document
from offchain.store.readings import ReadingRow
from offchain.store.tables import batches, commitments, curves, documents, readings


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
    """Read the whole store; :class:`~offchain.domain.errors.PermanentError` when its file is damaged."""
    store.verify()
    by_meter: defaultdict[bytes, dict[int, ReadingRow]] = defaultdict(dict)
    by_commitment: defaultdict[int, list[CurveRow]] = defaultdict(list)
    with store.read() as connection:
        batch_rows = connection.execute(
            select(*(batches.c[name] for name in Batch._fields)).order_by(batches.c.id)
        )
        found = [_with_checksum(Batch(*row)) for row in batch_rows]
        for row in connection.execute(select(*(readings.c[name] for name in ReadingRow._fields))):
            reading = ReadingRow(*row)
            by_meter[reading.meter_id][reading.isp] = reading
        committed = select(*(curves.c[name] for name in CurveRow._fields)).where(
            curves.c.commitment_id.is_not(None)
        )
        for row in connection.execute(committed.order_by(curves.c.commitment_id, curves.c.leaf_position)):
            curve = CurveRow(*row)
            by_commitment[curve.commitment_id].append(curve)
        commitment_rows = connection.execute(select(*(commitments.c[name] for name in CommitmentRow._fields)))
        document_rows = connection.execute(select(*(documents.c[name] for name in Document._fields)))
        return Records(
            [(batch, meter_days_of(connection, batch.id)) for batch in found],
            dict(by_meter),
            {
                row.commitment_id: (CommitmentRow(*row), by_commitment[row.commitment_id])
                for row in commitment_rows
            },
            [Document(*row) for row in document_rows],
        )


def _with_checksum(batch: Batch) -> Batch:
    """Operator as the events spell it; one that is no address stays, and is named as unknown later."""
    try:
        return batch._replace(operator=to_checksum_address(batch.operator))
    except ValueError:
        return batch
