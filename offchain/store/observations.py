"""Telemetry of the last hours: what control and operators look at, and nobody settles."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from offchain.store.database import insert_ignore
from offchain.store.tables import observations


class ObservationRow(NamedTuple):
    """One value of a device; ``quantity`` names its unit, ``phase`` 0 is the whole device, times in UTC seconds."""

    device_id: str
    quantity: str
    phase: int
    observed_at: int
    value: float
    received_at: int


_COLUMNS = [observations.c[name] for name in ObservationRow._fields]


def insert_observations(connection: Connection, rows: Sequence[ObservationRow]) -> int:
    """Store values and return how many are new."""
    return insert_ignore(connection, observations, [row._asdict() for row in rows])


def forget_observations(connection: Connection, *, received_before: int) -> int:
    """Drop what is older than the retention; returns how many."""
    return connection.execute(delete(observations).where(observations.c.received_at < received_before)).rowcount


def observations_of(
    connection: Connection, device_id: str, quantity: str, phase: int, first: int, end: int
) -> list[ObservationRow]:
    """Values observed in ``[first, end)``, by time."""
    query = (
        select(*_COLUMNS)
        .where(
            observations.c.device_id == device_id,
            observations.c.quantity == quantity,
            observations.c.phase == phase,
            observations.c.observed_at >= first,
            observations.c.observed_at < end,
        )
        .order_by(observations.c.observed_at)
    )
    return [ObservationRow(*row) for row in connection.execute(query)]
