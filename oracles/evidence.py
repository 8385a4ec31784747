"""The data behind anchored roots, as anyone can check it: its hash and its root are on chain."""

from typing import NamedTuple

from offchain.chain.merkle import MerkleTree
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.flexibility.metered_days import day_tree
from offchain.store import Store
from offchain.store.batches import Batch, BatchKind, batch_by_data_hash, batches_by_root, meter_days_of
from offchain.store.readings import ReadingRow, readings_of_isp
from oracles.batching import day_data_hash, intraday_data_hash, reading_data, reading_leaf


class Proof(NamedTuple):
    """One meter's part of a batch: packed values, device signature, and the way from its leaf to the root."""

    batch: Batch
    meter_id: bytes
    values: bytes
    signature: bytes
    siblings: list[bytes]


def data_behind(store: Store, data_hash: bytes) -> tuple[Batch, bytes] | None:
    """A batch and the bytes whose keccak-256 is ``data_hash``; ``None`` when there is no such batch.

    Raises
    ------
    DomainError
        The store does not hold that data any more.
    """
    with store.read() as connection:
        if (batch := batch_by_data_hash(connection, data_hash)) is None:
            return None
        if batch.kind is BatchKind.DAY:
            days = meter_days_of(connection, batch.id)
            found = day_data_hash(days)
            content = b"".join(day.meter_id + day.values + day.signature for day in days)
        else:
            rows = _published(readings_of_isp(connection, batch.first_isp), batch)
            found = intraday_data_hash(rows)
            content = b"".join(reading_data(row) for row in rows)
    if found != data_hash:
        raise DomainError(f"batch {batch.id}: the store holds other data now", hint="restore the store")
    return batch, content


def prove(store: Store, root: bytes, meter_id: bytes) -> Proof | None:
    """What a meter has under a root, with its proof; ``None`` when there is nothing."""
    with store.read() as connection:
        batches = batches_by_root(connection, root)
        if not batches:
            return None
        batch = batches[-1]
        if batch.kind is BatchKind.DAY:
            days = meter_days_of(connection, batch.id)
            parts = [(day.meter_id, day.values, day.signature) for day in days]
            tree = day_tree(days)
        else:
            rows = _published(readings_of_isp(connection, batch.first_isp), batch)
            parts = [(row.meter_id, _packed(row), row.signature) for row in rows]
            tree = MerkleTree([reading_leaf(r.meter_id, r.isp, r.import_wh, r.export_wh) for r in rows])
    if tree.root != root:
        raise DomainError(f"batch {batch.id}: stored values do not lead to its root", hint="restore the store")
    for position, (found, values, signature) in enumerate(parts):
        if found == meter_id:
            return Proof(batch, meter_id, values, signature, tree.proof(position))
    return None


def _published(rows: list[ReadingRow], batch: Batch) -> list[ReadingRow]:
    """Readings that were there when the batch was made; later ones are in the day's batch only."""
    return [row for row in rows if row.belief_time <= batch.belief_time]


def _packed(row: ReadingRow) -> bytes:
    return pack_readings([(row.import_wh, row.export_wh)])
