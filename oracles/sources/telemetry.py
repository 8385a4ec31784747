"""Electric vehicles and charging stations as JSON: the objects of eDREAM D2.5, Annex IV, bare or in a wrapper.

The wrapper that carries them over MQTT is ``{"timestamp": ..., "data": {...}}``; a timestamp inside the data wins.
Position, doors and engine of a vehicle are not read: no decision needs them, and they follow a person.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from oracles.sources.port import DeviceStatus, Observation, Quantity
from oracles.sources.smx import number

_VEHICLE = {
    "batteryPerc": Quantity.STATE_OF_CHARGE,
    "autonomyKm": Quantity.RANGE,
    "minutesToFull": Quantity.TIME_TO_FULL,
}

_STATION = {
    "power": Quantity.ACTIVE_POWER,
    "voltage": Quantity.VOLTAGE,
    "current": Quantity.CURRENT,
    "energy": Quantity.SESSION_ENERGY,
    "plugsInUse": Quantity.PLUGS_IN_USE,
}

_STATUS = {
    "alarm": DeviceStatus.FAULTED,
    "fault": DeviceStatus.FAULTED,
    "available": DeviceStatus.AVAILABLE,
    "free": DeviceStatus.AVAILABLE,
    "disconnected": DeviceStatus.AVAILABLE,
    "connected": DeviceStatus.CONNECTED,
    "occupied": DeviceStatus.CONNECTED,
    "charging": DeviceStatus.CHARGING,
    "suspended": DeviceStatus.SUSPENDED,
    "reserved": DeviceStatus.RESERVED,
    "unavailable": DeviceStatus.UNAVAILABLE,
    "offline": DeviceStatus.UNAVAILABLE,
}


def status_of(text: str) -> DeviceStatus:
    """State that a word of Annex IV names; an unknown one counts as unavailable, never as free."""
    return _STATUS.get(text.strip().lower(), DeviceStatus.UNAVAILABLE)


def unix_of(text: str, zone: str) -> int:
    """UTC seconds of ``YYYY-MM-DD HH:MM:SS`` in a zone, or of a time with its own offset."""
    moment = datetime.fromisoformat(text.strip())
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp())


def stamp_of(message: Mapping[str, Any]) -> str | None:
    """Time that a message names, in its data or its wrapper."""
    return message.get("data", message).get("timestamp") or message.get("timestamp")


def observations(message: Mapping[str, Any], device_id: str, zone: str, received_at: int) -> list[Observation]:
    """What a vehicle or a station says of itself.

    A socket of a station is the device ``<device_id>/A`` or ``/B``. Power is in W, energy of the running session
    in Wh, unless the value names a prefix.

    Raises
    ------
    ValueError
        Neither a vehicle nor a station, or a value that is none.
    """
    body = message.get("data", message)
    if not isinstance(body, Mapping) or not {"vehicleID", "chargeboxID"} & body.keys():
        raise ValueError("neither vehicleID nor chargeboxID")
    stamp = stamp_of(message)
    at = received_at if stamp is None else unix_of(stamp, zone)
    names = _VEHICLE if "vehicleID" in body else _STATION
    found = [
        Observation(device_id, quantity, 0, float(number(str(body[name]))), at, received_at)
        for name, quantity in names.items()
        if body.get(name) is not None
    ]
    states = {"status": device_id, "stSocketA": f"{device_id}/A", "stSocketB": f"{device_id}/B"}
    return found + [
        Observation(of, Quantity.STATUS, 0, float(status_of(body[name])), at, received_at)
        for name, of in states.items()
        if body.get(name)
    ]
