"""
registerMeter
├── paused → reverts EnforcedPause
├── caller is no active meter operator → reverts MissingRole
├── meter id zero → reverts ZeroMeterId
├── meter id used before, also after decommissioning → reverts MeterExists
├── device key zero → reverts InvalidDeviceKey
├── connection unknown or decommissioned → reverts ConnectionUnknown
├── connection has a meter that has not ended by the running ISP → reverts MeterInService
├── from an ISP at which the meter before was in service → reverts MeterInService
└── else → meter of the connection, emits MeterRegistered
    ├── from an ISP in the past, or in the future
    └── from the very end of the meter before
meterOf
├── never a meter → zero
├── in service, or ending in a later ISP → the meter
└── ended → zero
"""

import brownie
import pytest

from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status, start_of_isp

ZERO = bytes(32)
ZERO_ADDRESS = brownie.ZERO_ADDRESS


@pytest.fixture
def register(meters, actors, site):
    """Registers a meter of the connection, signed by the treasury's key, but for what is passed."""

    def call(*, meter=site.meter, connection=site.connection, key=None, from_isp=1_000, sender=None):
        key, sender = key or actors.treasury, sender or actors.meter_operator
        return meters.registerMeter(meter, connection, key, from_isp, {"from": sender})

    return call


def test_registerMeter_reverts_when_paused(meters, actors, register):
    meters.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=meters):
        register()


def test_registerMeter_reverts_when_caller_is_no_meter_operator(meters, actors, register):
    for caller, status in ((actors.outsider, Status.UNKNOWN), (actors.dso, Status.ACTIVE)):
        with reverts("MissingRole", caller, Role.METER_OPERATOR, status, unchanged=meters):
            register(sender=caller)


def test_registerMeter_reverts_when_id_is_zero(meters, register):
    with reverts("ZeroMeterId", unchanged=meters):
        register(meter=ZERO)


def test_registerMeter_reverts_when_id_was_used(meters, actors, site, register):
    register()
    with reverts("MeterExists", site.meter, unchanged=meters):
        register(connection=site.other_connection)
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp, {"from": actors.meter_operator})
    with reverts("MeterExists", site.meter, unchanged=meters):
        register(from_isp=isp)


def test_registerMeter_reverts_when_key_is_zero(meters, register):
    with reverts("InvalidDeviceKey", ZERO_ADDRESS, unchanged=meters):
        register(key=ZERO_ADDRESS)


def test_registerMeter_reverts_when_connection_is_unknown(meters, site, register):
    with reverts("ConnectionUnknown", site.unknown, unchanged=meters):
        register(connection=site.unknown)


def test_registerMeter_reverts_when_connection_is_decommissioned(meters, grid, actors, site, register):
    grid.decommissionConnection(site.connection, {"from": actors.dso})
    with reverts("ConnectionUnknown", site.connection, unchanged=meters):
        register()


def test_registerMeter_reverts_when_connection_has_a_meter(meters, site, register):
    register()
    with reverts("MeterInService", site.connection, site.meter, unchanged=meters):
        register(meter=site.new_meter, from_isp=2**32 - 1)


def test_registerMeter_reverts_when_meter_before_ends_later(meters, actors, site, register):
    register()
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp + 1, {"from": actors.meter_operator})
    with reverts("MeterInService", site.connection, site.meter, unchanged=meters):
        register(meter=site.new_meter, from_isp=isp + 1)


def test_registerMeter_reverts_when_it_would_overlap_the_meter_before(meters, actors, site, register):
    register()
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp, {"from": actors.meter_operator})
    with reverts("MeterInService", site.connection, site.meter, unchanged=meters):
        register(meter=site.new_meter, from_isp=isp - 1)


@pytest.mark.parametrize("from_isp", [0, 1_000, 2**32 - 1])
def test_registerMeter_serves_connection_when_it_has_none(meters, actors, site, register, from_isp):
    assert plain(meters.meterOf(site.connection)) == ZERO
    tx = register(from_isp=from_isp)
    assert plain(meters.meterOf(site.connection)) == site.meter
    assert plain(meters.meter(site.meter)) == {
        "deviceKey": actors.treasury,
        "keyFromIsp": from_isp,
        "endIsp": 0,
        "operator": actors.meter_operator,
        "connectionId": site.connection,
    }
    assert event(tx, "MeterRegistered") == {
        "meterId": site.meter,
        "connectionId": site.connection,
        "operator": actors.meter_operator,
        "deviceKey": actors.treasury,
        "fromIsp": from_isp,
    }


def test_registerMeter_follows_meter_before_when_from_its_end(meters, actors, site, register):
    register()
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp, {"from": actors.meter_operator})
    assert plain(meters.meterOf(site.connection)) == ZERO
    register(meter=site.new_meter, from_isp=isp, sender=actors.other_meter_operator)
    assert plain(meters.meterOf(site.connection)) == site.new_meter


def test_registerMeter_stays_apart_when_meter_between_ended_before_it_began(meters, actors, site, register):
    """A mistyped first ISP can be undone, and the next meter still cannot reach back into the first one."""
    register()
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp, {"from": actors.meter_operator})
    register(meter=site.new_meter, from_isp=2**32 - 1)
    meters.decommissionMeter(site.new_meter, isp, {"from": actors.meter_operator})
    with reverts("MeterInService", site.connection, site.new_meter, unchanged=meters):
        register(meter=site.unknown, from_isp=isp - 1)
    register(meter=site.unknown, from_isp=isp)
    assert plain(meters.meterOf(site.connection)) == site.unknown


def test_meterOf_names_meter_until_its_end(meters, actors, site, register):
    register()
    isp = start_of_isp()
    meters.decommissionMeter(site.meter, isp + 1, {"from": actors.meter_operator})
    assert plain(meters.meterOf(site.connection)) == site.meter
    start_of_isp()
    assert plain(meters.meterOf(site.connection)) == ZERO
