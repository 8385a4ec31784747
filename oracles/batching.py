"""Batches: all meters of a market day, or of one ISP, under one Merkle root, handed to the outbox."""

from collections.abc import Iterable

from eth_hash.auto import keccak
from sqlalchemy import Connection

from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay
from offchain.flexibility.metered_days import day_tree
from offchain.store import Store
from offchain.store.batches import (
    Batch,
    BatchKind,
    BatchStatus,
    MeterDayRow,
    insert_batch,
    latest_batch,
    meter_days_of,
)
from offchain.store.outbox import enqueue
from offchain.store.readings import ReadingRow, energy_matrix, readings_of_isp
from oracles.clock import Clock, unix
from oracles.signer import DeviceSigner

READING_LEAF = keccak(b"gridpact.reading.leaf.v1")


def anchor_topic(operator: str) -> str:
    """Topic of the outbox for the batches of one meter operator."""
    return f"anchor:{operator}"


def day_data_hash(days: Iterable[MeterDayRow]) -> bytes:
    """Hash of the data behind a day batch: meter id, packed values and signature of each, by meter id."""
    ordered = sorted(days, key=lambda day: day.meter_id)
    return keccak(b"".join(day.meter_id + day.values + day.signature for day in ordered))


def reading_leaf(meter_id: bytes, isp: int, import_wh: int, export_wh: int) -> bytes:
    """Leaf of one reading in an intraday batch.

    ``abi.encode(READING_LEAF, meterId, isp, importWh, exportWh)``, hashed twice like every leaf.
    """
    words = (isp.to_bytes(32), import_wh.to_bytes(32), export_wh.to_bytes(32))
    return keccak(keccak(b"".join((READING_LEAF, meter_id, *words))))


def intraday_data_hash(rows: Iterable[ReadingRow]) -> bytes:
    """Hash of the data behind an intraday batch: meter id, energy and signature of each, by meter id."""
    ordered = sorted(rows, key=lambda row: row.meter_id)
    return keccak(b"".join(r.meter_id + pack_readings([(r.import_wh, r.export_wh)]) + r.signature for r in ordered))


class Batcher:
    """Closes periods of one meter operator.

    Parameters
    ----------
    operator : str
        Address that will anchor the batches.
    meter_ids : iterable of bytes
        Every meter in service; one that was never read is in the batch with all ISPs missing.
    """

    def __init__(self, store: Store, operator: str, meter_ids: Iterable[bytes], signer: DeviceSigner, clock: Clock):
        self._store = store
        self._operator = operator
        self._meter_ids = sorted(meter_ids)
        self._signer = signer
        self._clock = clock

    def close_day(self, day: MarketDay) -> Batch:
        """Batch of a market day that is over.

        Repeating it returns the batch that exists, unless readings have come in or changed since: then a
        correction is made, the next version. Values, batch and outbox entry are one transaction.
        """
        now = self._require_over(day.end_isp)
        with self._store.write() as connection:
            matrix = energy_matrix(connection, self._meter_ids, day.first_isp, day.isp_count)
            packed = {
                meter_id: pack_readings(map(tuple, energy))
                for meter_id, energy in zip(self._meter_ids, matrix.tolist(), strict=True)
            }
            latest = latest_batch(connection, BatchKind.DAY, self._operator, day.first_isp)
            if latest is not None and packed == {d.meter_id: d.values for d in meter_days_of(connection, latest.id)}:
                return latest
            version = 1 if latest is None else latest.version + 1
            days = [
                MeterDayRow(
                    meter_id,
                    day.first_isp,
                    day.isp_count,
                    version,
                    values,
                    self._signer.sign_day(meter_id, day.first_isp, day.isp_count, values),
                )
                for meter_id, values in packed.items()
            ]
            batch = Batch(
                id=0,
                kind=BatchKind.DAY,
                operator=self._operator,
                first_isp=day.first_isp,
                isp_count=day.isp_count,
                version=version,
                root=day_tree(days).root,
                leaf_count=len(days),
                data_hash=day_data_hash(days),
                status=BatchStatus.PENDING,
                tx=None,
                belief_time=now,
            )
            return self._hand_over(connection, batch, days, now)

    def close_isp(self, isp: int) -> Batch | None:
        """Intraday batch of one ISP that is over, ``None`` without reading; made once and not corrected."""
        now = self._require_over(isp + 1)
        with self._store.write() as connection:
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
            return self._hand_over(connection, batch, [], now)

    def _require_over(self, end_isp: int) -> int:
        now = unix(self._clock)
        if now < end_isp * SECONDS_PER_ISP:
            raise DomainError(
                f"period ends with ISP {end_isp - 1}, it is ISP {now // SECONDS_PER_ISP} now",
                hint="close it when it is over",
            )
        return now

    def _hand_over(self, connection: Connection, batch: Batch, days: list[MeterDayRow], now: int) -> Batch:
        batch_id = insert_batch(connection, batch, days)
        key = f"{batch.kind}:{batch.operator}:{batch.first_isp}:{batch.version}"
        enqueue(connection, key, anchor_topic(batch.operator), batch_id, now=now)
        return batch._replace(id=batch_id)
