"""Batches of readings under one Merkle root, and the meter-days in them."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from offchain.store.tables import batches, meter_days


class BatchKind(StrEnum):
    DAY = "day"
    INTRADAY = "intraday"


class BatchStatus(StrEnum):
    """``PENDING`` in the outbox, ``SENT`` as a transaction, ``CONFIRMED`` on chain, ``FAILED`` for good."""

    PENDING = "pending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Batch(NamedTuple):
    """What is anchored, or will be; ``data_hash`` covers the data behind ``root``."""

    id: int
    kind: BatchKind
    operator: str
    first_isp: int
    isp_count: int
    version: int
    root: bytes
    leaf_count: int
    data_hash: bytes
    status: BatchStatus
    tx: str | None
    belief_time: int


class MeterDayRow(NamedTuple):
    """Packed readings of one meter over one market day, signed by the device."""

    meter_id: bytes
    first_isp: int
    isp_count: int
    version: int
    values: bytes
    signature: bytes


_BATCH_COLUMNS = [batches.c[name] for name in Batch._fields]
_DAY_COLUMNS = [meter_days.c[name] for name in MeterDayRow._fields]


def _batch(row) -> Batch:
    return Batch(*row)._replace(kind=BatchKind(row.kind), status=BatchStatus(row.status))


def insert_batch(connection: Connection, batch: Batch, days: Sequence[MeterDayRow] = ()) -> int:
    """Store a batch with its meter-days and return its id; ``batch.id`` is not used."""
    values = batch._asdict()
    del values["id"]
    batch_id = connection.execute(insert(batches).values(values)).inserted_primary_key[0]
    insert_meter_days(connection, batch_id, days)
    return batch_id


def insert_meter_days(connection: Connection, batch_id: int, days: Sequence[MeterDayRow]) -> None:
    """Add meter-days to a batch that was inserted in the same transaction."""
    if days:
        connection.execute(insert(meter_days), [day._asdict() | {"batch_id": batch_id} for day in days])


def set_batch_hashes(connection: Connection, batch_id: int, root: bytes, data_hash: bytes) -> None:
    """Root and data hash of a batch whose meter-days were added one part after the other."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(root=root, data_hash=data_hash))


def latest_batch(connection: Connection, kind: BatchKind, operator: str, first_isp: int) -> Batch | None:
    """Highest version of the batch of an operator and period."""
    query = (
        select(*_BATCH_COLUMNS)
        .where(batches.c.kind == kind, batches.c.operator == operator, batches.c.first_isp == first_isp)
        .order_by(batches.c.version.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _batch(row)


def get_batch(connection: Connection, batch_id: int) -> Batch:
    return _batch(connection.execute(select(*_BATCH_COLUMNS).where(batches.c.id == batch_id)).one())


def batches_by_root(connection: Connection, root: bytes) -> list[Batch]:
    """Batches under a root, oldest first: how an auditor goes from an event to the data."""
    query = select(*_BATCH_COLUMNS).where(batches.c.root == root).order_by(batches.c.id)
    return [_batch(row) for row in connection.execute(query)]


def set_batch_status(connection: Connection, batch_id: int, status: BatchStatus, tx: str | None = None) -> None:
    """Change the status; a transaction hash that is known stays unless a new one is given."""
    connection.execute(
        update(batches).where(batches.c.id == batch_id).values(status=status, tx=func.coalesce(tx, batches.c.tx))
    )


def reopen_batches(connection: Connection, transactions: Sequence[str]) -> list[int]:
    """Batches that were confirmed by one of these transactions count as sent again; their ids."""
    found = select(batches.c.id).where(batches.c.tx.in_(transactions), batches.c.status == BatchStatus.CONFIRMED)
    ids = list(connection.scalars(found))
    connection.execute(update(batches).where(batches.c.id.in_(ids)).values(status=BatchStatus.SENT))
    return ids


def batches_with_status(connection: Connection, kind: BatchKind, status: BatchStatus) -> list[Batch]:
    query = select(*_BATCH_COLUMNS).where(batches.c.kind == kind, batches.c.status == status).order_by(batches.c.id)
    return [_batch(row) for row in connection.execute(query)]


def meter_days_of(connection: Connection, batch_id: int) -> list[MeterDayRow]:
    """Meter-days of a batch in leaf order (by meter id)."""
    return list(iter_meter_days(connection, batch_id))


def iter_meter_days(connection: Connection, batch_id: int, *, after: bytes = b"") -> Iterator[MeterDayRow]:
    """As :func:`meter_days_of`, one after the other, of the meters that follow ``after``; for large batches."""
    query = (
        select(*_DAY_COLUMNS)
        .where(meter_days.c.batch_id == batch_id, meter_days.c.meter_id > after)
        .order_by(meter_days.c.meter_id)
    )
    for row in connection.execute(query, execution_options={"yield_per": 250}):
        yield MeterDayRow(*row)


def meter_day_of(connection: Connection, batch_id: int, meter_id: bytes) -> MeterDayRow | None:
    """Meter-day of one meter in a batch."""
    query = select(*_DAY_COLUMNS).where(meter_days.c.batch_id == batch_id, meter_days.c.meter_id == meter_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else MeterDayRow(*row)


def published_at(connection: Connection, isp: int) -> int | None:
    """When the signed readings of an ISP were last put into an intraday batch [UTC s]; ``None`` when never."""
    query = select(func.max(batches.c.belief_time)).where(
        batches.c.kind == BatchKind.INTRADAY, batches.c.first_isp == isp
    )
    return connection.execute(query).scalar()


def recent_batches(connection: Connection, operator: str, first_isp: int) -> list[Batch]:
    """Batches of an operator of periods from ``first_isp`` on, by period and version."""
    query = (
        select(*_BATCH_COLUMNS)
        .where(batches.c.operator == operator, batches.c.first_isp >= first_isp)
        .order_by(batches.c.first_isp, batches.c.version)
    )
    return [_batch(row) for row in connection.execute(query)]


def batch_by_data_hash(connection: Connection, data_hash: bytes) -> Batch | None:
    """Latest batch whose data has this hash."""
    query = select(*_BATCH_COLUMNS).where(batches.c.data_hash == data_hash).order_by(batches.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _batch(row)


def batch_counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Number of batches by kind and status."""
    query = select(batches.c.kind, batches.c.status, func.count()).group_by(batches.c.kind, batches.c.status)
    return {(kind, status): count for kind, status, count in connection.execute(query)}
