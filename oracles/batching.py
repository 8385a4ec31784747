"""Batches: all meters of a market day, or of one ISP, under one Merkle root, handed to the outbox."""

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from eth_hash.auto import keccak
from sqlalchemy import Connection

from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.store import Store
from offchain.store.batches import (
    Batch,
    BatchKind,
    BatchStatus,
    MeterDayRow,
    insert_batch,
    insert_meter_days,
    iter_meter_days,
    latest_batch,
    set_batch_hashes,
)
from offchain.store.outbox import enqueue
from offchain.store.readings import ReadingRow, packed_days, readings_of_isp
from oracles.clock import Clock, unix
from oracles.normalise import MeteringPoint
from oracles.signer import DeviceSigner

METER_DAYS_AT_ONCE = 1_000
"""Signed and stored together; of the others a batch holds only hashes in memory."""
READING_LEAF = keccak(b"gridpact.reading.leaf.v1")


def anchor_topic(operator: str) -> str:
    """Topic of the outbox for the batches of one meter operator."""
    return f"anchor:{operator}"


def day_data_hash(days: Iterable[MeterDayRow]) -> bytes:
    """Hash of the data behind a day batch: meter id, packed values and signature of each, by meter id."""
    return keccak(_day_data(sorted(days, key=lambda day: day.meter_id)))


def _day_data(days: Iterable[MeterDayRow]) -> bytes:
    return b"".join(day.meter_id + day.values + day.signature for day in days)


def reading_leaf(meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> bytes:
    """Leaf of one reading in an intraday batch.

    ``abi.encode(READING_LEAF, meterId, isp, importWh, exportWh)``, hashed twice like every leaf.
    """
    words = (isp.to_bytes(32), import_wh.to_bytes(32), export_wh.to_bytes(32))
    return keccak(keccak(b"".join((READING_LEAF, meter_id, *words))))


def intraday_data_hash(rows: Iterable[ReadingRow]) -> bytes:
    """Hash of the data behind an intraday batch: meter id, energy and signature of each, by meter id."""
    ordered = sorted(rows, key=lambda row: row.meter_id)
    return keccak(b"".join(reading_data(row) for row in ordered))


def reading_data(row: ReadingRow) -> bytes:
    """One reading in the data behind an intraday batch: meter id, import and export (4 bytes each), signature."""
    return row.meter_id + row.import_wh.to_bytes(4) + row.export_wh.to_bytes(4) + row.signature


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of up to ``size`` items."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


class Batcher:
    """Closes periods of one meter operator.

    Parameters
    ----------
    operator : str
        Address that will anchor the batches.
    meter_ids : iterable of bytes
        Every meter in service; one that was never read is in the batch with all ISPs missing.
    points : iterable of MeteringPoint
        Says of those that were changed when they are in service; a meter is in the batch of a day in which it is.
    """

    def __init__(
        self,
        store: Store,
        operator: str,
        meter_ids: Iterable[bytes],
        signer: DeviceSigner,
        clock: Clock,
        *,
        points: Iterable[MeteringPoint] = (),
    ):
        self._store = store
        self._operator = operator
        self._meter_ids = sorted(meter_ids)
        self._signer = signer
        self._clock = clock
        self._points = {point.meter_id: point for point in points}

    def close_day(self, day: MarketDay) -> Batch:
        """Batch of a market day that is over.

        Repeating it returns the batch that exists, unless readings have come in or changed since: then a
        correction is made, the next version. Values, batch and outbox entry are one transaction.
        """
        self._require_over(day.end_isp)
        meter_ids = [meter_id for meter_id in self._meter_ids if self._in_service(meter_id, day)]
        with self._store.write() as connection, TemporaryDirectory(prefix="gridpact-day-") as folder:
            now = unix(self._clock)  # with the write lock: nothing in the batch is younger than the batch
            packed = packed_days(connection, meter_ids, day.first_isp, day.isp_count, Path(folder) / "day")
            latest = latest_batch(connection, BatchKind.DAY, self._operator, day.first_isp)
            if latest is not None:
                held = ((d.meter_id, d.values) for d in iter_meter_days(connection, latest.id))
                if all(new == old for new, old in zip_longest(packed, held)):
                    return latest
            version = 1 if latest is None else latest.version + 1
            batch = Batch(
                id=0,
                kind=BatchKind.DAY,
                operator=self._operator,
                first_isp=day.first_isp,
                isp_count=day.isp_count,
                version=version,
                root=bytes(32),
                leaf_count=len(meter_ids),
                data_hash=bytes(32),
                status=BatchStatus.PENDING,
                tx=None,
                belief_time=now,
            )
            batch = self._hand_over(connection, batch, now)
            leaves: list[bytes] = []
            data = keccak.new(b"")
            for part in batched(packed, METER_DAYS_AT_ONCE):
                days = [
                    MeterDayRow(
                        meter_id,
                        day.first_isp,
                        day.isp_count,
                        version,
                        values,
                        self._signer.sign_day(meter_id, day.first_isp, day.isp_count, values),
                    )
                    for meter_id, values in part
                ]
                insert_meter_days(connection, batch.id, days)
                leaves += [meter_day_leaf(d.meter_id, d.first_isp, d.isp_count, values_hash(d.values)) for d in days]
                data.update(_day_data(days))
            batch = batch._replace(root=MerkleTree(leaves).root, data_hash=data.digest())
            set_batch_hashes(connection, batch.id, batch.root, batch.data_hash)
            return batch

    def _in_service(self, meter_id: bytes, day: MarketDay) -> bool:
        point = self._points.get(meter_id)
        return point is None or (
            point.first_isp < day.end_isp and (point.end_isp is None or point.end_isp > day.first_isp)
        )

    def close_isp(self, isp: int) -> Batch | None:
        """Intraday batch of one ISP that is over, ``None`` without reading; made once and not corrected."""
        self._require_over(isp + 1)
        with self._store.write() as connection:
            now = unix(self._clock)
            if (latest := latest_batch(connection, BatchKind.INTRADAY, self._operator, isp)) is not None:
                return latest
            own = frozenset(self._meter_ids)
            rows = [row for row in readings_of_isp(connection, isp) if row.meter_id in own]
            if not rows:
                return None
            leaves = [reading_leaf(r.meter_id, isp, r.import_wh, r.export_wh) for r in rows]
            batch = Batch(
                id=0,
                kind=BatchKind.INTRADAY,
                operator=self._operator,
                first_isp=isp,
                isp_count=1,
                version=1,
                root=MerkleTree(leaves).root,
                leaf_count=len(rows),
                data_hash=intraday_data_hash(rows),
                status=BatchStatus.PENDING,
                tx=None,
                belief_time=now,
            )
            return self._hand_over(connection, batch, now)

    def _require_over(self, end_isp: int) -> None:
        now = unix(self._clock)
        if now < end_isp * SECONDS_PER_ISP:
            raise DomainError(
                f"period ends with ISP {end_isp - 1}, it is ISP {now // SECONDS_PER_ISP} now",
                hint="close it when it is over",
            )

    def _hand_over(self, connection: Connection, batch: Batch, now: int) -> Batch:
        batch_id = insert_batch(connection, batch)
        key = f"{batch.kind}:{batch.operator}:{batch.first_isp}:{batch.version}"
        enqueue(connection, key, anchor_topic(batch.operator), batch_id, now=now)
        return batch._replace(id=batch_id)
