"""Batches: all meters of a market day, or of one ISP, under one Merkle root, handed to the outbox."""

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

from eth_hash.auto import keccak
from sqlalchemy import Connection

from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.flexibility.metered_days import day_leaf
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
from offchain.store.readings import ReadingRow, batched, iter_readings_of_isp, packed_days
from oracles.clock import Clock, unix
from oracles.normalise import MeteringPoint
from oracles.signer import DeviceSigner

METER_DAYS_AT_ONCE = 250
"""Signed and stored together."""
READING_LEAF = keccak(b"gridpact.reading.leaf.v1")


def anchor_topic(operator: str) -> str:
    """Topic of the outbox for the batches of one meter operator."""
    return f"anchor:{operator}"


def day_data(day: MeterDayRow) -> bytes:
    """One meter-day in the data behind a day batch: meter id, packed values, signature."""
    return day.meter_id + day.values + day.signature


def tree_and_data_hash(parts: Iterable[tuple[bytes, bytes]]) -> tuple[MerkleTree, bytes]:
    """Tree and data hash of a batch out of (leaf, data) of each meter, by ascending meter id; walked once."""
    hasher = keccak.new(b"")

    def leaves() -> Iterator[bytes]:
        for leaf, data in parts:
            hasher.update(data)
            yield leaf

    return MerkleTree(leaves()), hasher.digest()


def reading_leaf(row: ReadingRow) -> bytes:
    """Leaf of one reading in an intraday batch.

    ``abi.encode(READING_LEAF, meterId, isp, importWh, exportWh)``, hashed twice like every leaf.
    """
    words = (row.isp.to_bytes(32), row.import_wh.to_bytes(32), row.export_wh.to_bytes(32))
    return keccak(keccak(b"".join((READING_LEAF, row.meter_id, *words))))


def reading_data(row: ReadingRow) -> bytes:
    """One reading in the data behind an intraday batch: meter id, import and export (4 bytes each), signature."""
    return row.meter_id + row.import_wh.to_bytes(4) + row.export_wh.to_bytes(4) + row.signature


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
        self._own = frozenset(self._meter_ids)
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
        with self._store.write() as connection:
            now = unix(self._clock)  # with the write lock: nothing in the batch is younger than the batch
            latest = latest_batch(connection, BatchKind.DAY, self._operator, day.first_isp)
            if latest is not None:
                packed = packed_days(connection, meter_ids, day.first_isp, day.isp_count)
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
            packed = packed_days(connection, meter_ids, day.first_isp, day.isp_count)
            for part in batched(packed, METER_DAYS_AT_ONCE):
                insert_meter_days(
                    connection,
                    batch.id,
                    [
                        MeterDayRow(
                            meter_id,
                            day.first_isp,
                            day.isp_count,
                            version,
                            values,
                            self._signer.sign_day(meter_id, day.first_isp, day.isp_count, values),
                        )
                        for meter_id, values in part
                    ],
                )
            tree, data_hash = tree_and_data_hash(
                (day_leaf(row), day_data(row)) for row in iter_meter_days(connection, batch.id)
            )
            batch = batch._replace(root=tree.root, data_hash=data_hash)
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
            rows = (row for row in iter_readings_of_isp(connection, isp) if row.meter_id in self._own)
            parts = ((reading_leaf(row), reading_data(row)) for row in rows)
            if (first := next(parts, None)) is None:
                return None
            tree, data_hash = tree_and_data_hash(chain([first], parts))
            batch = Batch(
                id=0,
                kind=BatchKind.INTRADAY,
                operator=self._operator,
                first_isp=isp,
                isp_count=1,
                version=1,
                root=tree.root,
                leaf_count=len(tree),
                data_hash=data_hash,
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
