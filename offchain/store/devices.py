"""Life of a device at a site, one row per step; the last one is its state."""

from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from offchain.store.tables import device_states


class DeviceStep(NamedTuple):
    """A step of a device, when it was taken [UTC s] and what was seen then."""

    meter_id: bytes
    state: str
    at: int
    detail: str


_COLUMNS = [device_states.c[name] for name in DeviceStep._fields]


def record_step(connection: Connection, step: DeviceStep) -> None:
    connection.execute(insert(device_states), [step._asdict()])


def latest_steps(connection: Connection) -> dict[bytes, DeviceStep]:
    """State of every device that was ever installed, by meter id."""
    last = select(func.max(device_states.c.id)).group_by(device_states.c.meter_id)
    query = select(*_COLUMNS).where(device_states.c.id.in_(last))
    return {row.meter_id: DeviceStep(*row) for row in connection.execute(query)}


def steps_of(connection: Connection, meter_id: bytes) -> list[DeviceStep]:
    """Everything that happened to a device, oldest first."""
    query = select(*_COLUMNS).where(device_states.c.meter_id == meter_id).order_by(device_states.c.id)
    return [DeviceStep(*row) for row in connection.execute(query)]
