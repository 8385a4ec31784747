"""Vehicles and stations as JSON."""

import pytest

from oracles.sources.port import DeviceStatus, Observation, Quantity
from oracles.sources.telemetry import observations, status_of

NOW = 1_700_000_000
VEHICLE = {
    "vehicleID": "1",
    "model": "Renault ZOE 22",
    "status": "disconnected",
    "timestamp": "2019-06-24 08:17:08",
    "autonomyKm": "123",
    "batteryPerc": "61",
    "latitude": "42.5685485833333",
    "doorsLocked": "yes",
}
AT = 1_561_357_028  # 06:17:08 UTC


def test_observations_of_vehicle_leave_out_where_it_is():
    assert observations(VEHICLE, "zoe", "Europe/Rome", NOW) == [
        Observation("zoe", Quantity.STATE_OF_CHARGE, 0, 61.0, AT, NOW),
        Observation("zoe", Quantity.RANGE, 0, 123.0, AT, NOW),
        Observation("zoe", Quantity.STATUS, 0, DeviceStatus.AVAILABLE, AT, NOW),
    ]


def test_observations_take_time_of_wrapper_when_data_has_none():
    body = {"timestamp": "2019-06-24T06:17:08+00:00", "data": {"chargeboxID": "24", "power": "011.000k"}}
    assert observations(body, "evse", "Europe/Rome", NOW) == [
        Observation("evse", Quantity.ACTIVE_POWER, 0, 11000.0, AT, NOW)
    ]


def test_observations_name_sockets_when_station_has_two():
    body = {"chargeboxID": "24", "stSocketA": "alarm", "stSocketB": "Charging", "plugsInUse": 1, "voltage": 231.5}
    assert observations(body, "evse", "UTC", NOW) == [
        Observation("evse", Quantity.VOLTAGE, 0, 231.5, NOW, NOW),
        Observation("evse", Quantity.PLUGS_IN_USE, 0, 1.0, NOW, NOW),
        Observation("evse/A", Quantity.STATUS, 0, DeviceStatus.FAULTED, NOW, NOW),
        Observation("evse/B", Quantity.STATUS, 0, DeviceStatus.CHARGING, NOW, NOW),
    ]


@pytest.mark.parametrize(
    "body", [{}, {"data": {}}, {"data": 1}, {"vehicleID": "1", "batteryPerc": "full"}, {"chargeboxID": 1, "power": []}]
)
def test_observations_raise_when_message_is_no_telemetry(body):
    with pytest.raises((ValueError, AttributeError)):
        observations(body, "x", "UTC", NOW)


def test_status_counts_as_unavailable_when_word_is_unknown():
    assert status_of("whatever") == DeviceStatus.UNAVAILABLE
