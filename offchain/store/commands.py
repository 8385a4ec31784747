"""Schedules on their way to devices: written before they are sent, kept with what became of them."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, insert, select, update

from offchain.store.tables import commands


class CommandStatus(StrEnum):
    """``OPEN`` not yet held by the device, ``HELD`` acknowledged, ``REPLACED`` by a later one, ``EXPIRED`` too late."""

    OPEN = "open"
    HELD = "held"
    REPLACED = "replaced"
    EXPIRED = "expired"


class Command(NamedTuple):
    """Schedule for one device: change of net consumption per ISP [W], positive means more consumption.

    ``cause`` names the event on chain; times in UTC seconds.
    """

    id: int
    meter_id: bytes
    first_isp: int
    powers_w: tuple[int, ...]
    cause: str
    received_at: int
    status: CommandStatus
    acknowledged_at: int | None
    detail: str

    @property
    def end_isp(self) -> int:
        return self.first_isp + len(self.powers_w)


_FIELDS = [name if name != "powers_w" else "powers" for name in Command._fields]
_COLUMNS = [commands.c[name] for name in _FIELDS]


def _command(row) -> Command:
    powers_w = tuple(np.frombuffer(row.powers, ">i4").tolist())
    return Command(*row)._replace(powers_w=powers_w, status=CommandStatus(row.status))


def add_command(
    connection: Connection, meter_id: bytes, first_isp: int, powers_w: list[int], cause: str, *, now: int
) -> int:
    """Write a schedule; an earlier one of the same meter and day that is not held yet is replaced. Returns its id."""
    connection.execute(
        update(commands)
        .where(
            commands.c.meter_id == meter_id,
            commands.c.first_isp == first_isp,
            commands.c.status == CommandStatus.OPEN,
        )
        .values(status=CommandStatus.REPLACED)
    )
    row = {
        "meter_id": meter_id,
        "first_isp": first_isp,
        "powers": np.asarray(powers_w, ">i4").tobytes(),
        "cause": cause,
        "received_at": now,
        "status": CommandStatus.OPEN,
        "detail": "",
    }
    return connection.execute(insert(commands).values(row)).inserted_primary_key[0]


def get_command(connection: Connection, command_id: int) -> Command:
    return _command(connection.execute(select(*_COLUMNS).where(commands.c.id == command_id)).one())


def set_command_status(
    connection: Connection,
    command_id: int,
    status: CommandStatus,
    detail: str = "",
    *,
    acknowledged_at: int | None = None,
) -> None:
    connection.execute(
        update(commands)
        .where(commands.c.id == command_id)
        .values(status=status, detail=detail, acknowledged_at=acknowledged_at)
    )


def commands_covering(connection: Connection, isp: int, *, horizon_isps: int = 200) -> dict[bytes, Command]:
    """Latest schedule of each meter that says something about an ISP, replaced ones left out."""
    query = (
        select(*_COLUMNS)
        .where(
            commands.c.first_isp <= isp,
            commands.c.first_isp > isp - horizon_isps,
            commands.c.status != CommandStatus.REPLACED,
        )
        .order_by(commands.c.id)
    )
    found = (_command(row) for row in connection.execute(query))
    return {command.meter_id: command for command in found if isp < command.end_isp}
