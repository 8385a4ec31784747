"""The data behind anchored roots, as anyone can check it: its hash and its root are on chain."""

import threading
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from eth_hash.auto import keccak
from sqlalchemy import Connection

from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import day_leaf
from offchain.store import Store
from offchain.store.batches import (
    Batch,
    BatchKind,
    MeterDayRow,
    batch_by_data_hash,
    batches_by_root,
    iter_meter_days,
    meter_day_of,
)
from offchain.store.readings import ReadingRow, iter_readings_of_isp, readings_at
from oracles.batching import day_data, reading_data, reading_leaf

Row = MeterDayRow | ReadingRow
ROWS_AT_ONCE = 250
"""Read in one transaction: who fetches the data slowly must not hold up what the database does behind it."""
TREES_KEPT = 4
"""Of the batches whose proofs were asked for last, 72 bytes a meter each."""


class Data(NamedTuple):
    """What is behind a batch: its size [bytes], and the bytes part by part."""

    batch: Batch
    size: int
    parts: Iterator[bytes]


class Proof(NamedTuple):
    """One meter's part of a batch: packed values, device signature, and the way from its leaf to the root."""

    batch: Batch
    meter_id: bytes
    values: bytes
    signature: bytes
    siblings: list[bytes]


class Evidence:
    """Data and proofs of the batches of a store, of any size; may be asked by threads."""

    def __init__(self, store: Store):
        self._store = store
        self._trees: dict[int, MerkleTree] = {}
        self._lock = threading.Lock()

    def data_behind(self, data_hash: bytes) -> Data | None:
        """The bytes whose keccak-256 is ``data_hash``; ``None`` when no batch has it.

        Raises
        ------
        DomainError
            The store does not hold that data any more.
        """
        with self._store.read() as connection:
            batch = batch_by_data_hash(connection, data_hash)
        if batch is None:
            return None
        hasher, size = keccak.new(b""), 0
        for part in self._data(batch):
            hasher.update(part)
            size += len(part)
        if hasher.digest() != data_hash:
            raise DomainError(f"batch {batch.id}: the store holds other data now", hint="restore the store")
        return Data(batch, size, self._data(batch))

    def prove(self, root: bytes, meter_id: bytes) -> Proof | None:
        """What a meter has under a root, with its proof; ``None`` when there is nothing.

        Raises
        ------
        DomainError
            What the store holds does not lead to the root any more.
        """
        with self._store.read() as connection:
            batches = batches_by_root(connection, root)
            row = _row_of(connection, batches[-1], meter_id) if batches else None
        if row is None:
            return None
        batch = batches[-1]
        values = row.values if isinstance(row, MeterDayRow) else pack_readings([(row.import_wh, row.export_wh)])
        return Proof(batch, meter_id, values, row.signature, self._tree(batch).proof_of(_leaf(row)))

    def _tree(self, batch: Batch) -> MerkleTree:
        """Tree of a batch, kept for those who ask for the next meter; built by one thread at a time."""
        with self._lock:
            if (tree := self._trees.pop(batch.id, None)) is None:
                tree = MerkleTree(_leaf(row) for rows in self._pages(batch) for row in rows)
                if tree.root != batch.root:
                    raise DomainError(
                        f"batch {batch.id}: stored values do not lead to its root", hint="restore the store"
                    )
            self._trees[batch.id] = tree
            if len(self._trees) > TREES_KEPT:
                del self._trees[next(iter(self._trees))]
            return tree

    def _data(self, batch: Batch) -> Iterator[bytes]:
        for rows in self._pages(batch):
            yield b"".join(day_data(row) if isinstance(row, MeterDayRow) else reading_data(row) for row in rows)

    def _pages(self, batch: Batch) -> Iterator[list[Row]]:
        """Rows of a batch by ascending meter id; what a batch consists of is not changed, so no view is kept open."""
        after = b""
        while True:
            with self._store.read() as connection:
                rows = list(islice(_rows(connection, batch, after), ROWS_AT_ONCE))
            if not rows:
                return
            yield rows
            after = rows[-1].meter_id


def _rows(connection: Connection, batch: Batch, after: bytes) -> Iterator[Row]:
    if batch.kind is BatchKind.DAY:
        return iter_meter_days(connection, batch.id, after=after)
    rows = iter_readings_of_isp(connection, batch.first_isp, after=after)
    return (row for row in rows if _is_published(row, batch))


def _row_of(connection: Connection, batch: Batch, meter_id: bytes) -> Row | None:
    if batch.kind is BatchKind.DAY:
        return meter_day_of(connection, batch.id, meter_id)
    row = readings_at(connection, [(batch.first_isp, meter_id)]).get((batch.first_isp, meter_id))
    return row if row is not None and _is_published(row, batch) else None


def _is_published(row: ReadingRow, batch: Batch) -> bool:
    """Whether a reading was there when the batch was made; later ones are in the day's batch only."""
    return row.belief_time <= batch.belief_time


def _leaf(row: Row) -> bytes:
    return day_leaf(row) if isinstance(row, MeterDayRow) else reading_leaf(row)
