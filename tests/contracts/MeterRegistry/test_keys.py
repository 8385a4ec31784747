"""
replaceDeviceKey
├── caller is no active meter operator → reverts MissingRole
├── meter unknown → reverts MeterUnknown
├── meter of another operator → reverts NotOperatorOf
├── key zero → reverts InvalidDeviceKey
├── meter decommissioned → reverts MeterOutOfService
├── before the running ISP → reverts IspInPast
├── not after the first ISP of the present key → reverts KeyNotLater
└── else → present key, emits DeviceKeyReplaced; also when paused
keyAt
├── meter unknown → reverts MeterUnknown
├── before the first ISP, or from the end on → reverts MeterOutOfService
└── else → operator and the key in force: the present one or any former one
decommissionMeter
├── meter unknown → reverts MeterUnknown
├── caller is neither its operator nor the DSO of its connection → reverts NotOperatorOf
├── operator or DSO not in good standing → reverts MissingRole
├── decommissioned before → reverts MeterOutOfService
├── before the running ISP → reverts IspInPast
└── else → ends, emits MeterDecommissioned; by operator or DSO; also when paused
"""

import re

import brownie
import pytest

from tests.utils.plain import event, plain
from tests.utils.reverts import error_text, reverts
from tests.utils.system import Role, Status, start_of_isp

FIRST_ISP = 1_000
REASON = b"R" * 32
# Device keys: any addresses do.
KEYS = [brownie.web3.to_checksum_address(f"0x{n:040x}") for n in range(0x1001, 0x1005)]


@pytest.fixture
def meter(meters, actors, site):
    meters.registerMeter(site.meter, site.connection, KEYS[0], FIRST_ISP, {"from": actors.meter_operator})
    return site.meter


@pytest.fixture
def isp(meter):
    """The running ISP, just begun."""
    return start_of_isp()


@pytest.fixture
def key_at(meters, actors):
    """Device key in force, after checking the operator."""

    def call(meter, isp):
        operator, key = meters.keyAt(meter, isp)
        assert operator == actors.meter_operator
        return key

    return call


def assert_out_of_service(meters, meter, isp):
    with pytest.raises(Exception, match=re.escape(error_text("MeterOutOfService", meter, isp))):
        meters.keyAt(meter, isp)


def test_replaceDeviceKey_reverts_when_caller_is_no_meter_operator(meters, meter, isp, participants, actors):
    with reverts("MissingRole", actors.dso, Role.METER_OPERATOR, Status.ACTIVE, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.dso})
    participants.setStatus(actors.meter_operator, Status.SUSPENDED, REASON, {"from": actors.registrar})
    with reverts("MissingRole", actors.meter_operator, Role.METER_OPERATOR, Status.SUSPENDED, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.meter_operator})


def test_replaceDeviceKey_reverts_when_meter_is_unknown(meters, site, actors):
    with reverts("MeterUnknown", site.unknown, unchanged=meters):
        meters.replaceDeviceKey(site.unknown, KEYS[1], 2**31, {"from": actors.meter_operator})


def test_replaceDeviceKey_reverts_when_of_another_operator(meters, meter, isp, actors):
    with reverts("NotOperatorOf", meter, actors.other_meter_operator, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.other_meter_operator})


def test_replaceDeviceKey_reverts_when_key_is_zero(meters, meter, isp, actors):
    with reverts("InvalidDeviceKey", brownie.ZERO_ADDRESS, unchanged=meters):
        meters.replaceDeviceKey(meter, brownie.ZERO_ADDRESS, isp, {"from": actors.meter_operator})


def test_replaceDeviceKey_reverts_when_decommissioned(meters, meter, isp, actors):
    meters.decommissionMeter(meter, isp + 9, {"from": actors.meter_operator})
    with reverts("MeterOutOfService", meter, isp, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.meter_operator})


def test_replaceDeviceKey_reverts_when_in_the_past(meters, meter, isp, actors):
    with reverts("IspInPast", isp - 1, isp, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[1], isp - 1, {"from": actors.meter_operator})


@pytest.mark.parametrize("earlier", [0, 1])
def test_replaceDeviceKey_reverts_when_not_after_present_key(meters, meter, isp, actors, earlier):
    meters.replaceDeviceKey(meter, KEYS[1], isp + 5, {"from": actors.meter_operator})
    with reverts("KeyNotLater", isp + 5 - earlier, isp + 5, unchanged=meters):
        meters.replaceDeviceKey(meter, KEYS[2], isp + 5 - earlier, {"from": actors.meter_operator})


def test_replaceDeviceKey_signs_from_running_isp_when_paused(meters, meter, isp, actors, key_at):
    meters.pause({"from": actors.guardian})
    tx = meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.meter_operator})
    assert (key_at(meter, isp - 1), key_at(meter, isp)) == (KEYS[0], KEYS[1])
    present = plain(meters.meter(meter))
    assert (present["deviceKey"], present["keyFromIsp"]) == (KEYS[1], isp)
    assert event(tx, "DeviceKeyReplaced") == {
        "meterId": meter,
        "oldKey": KEYS[0],
        "newKey": KEYS[1],
        "fromIsp": isp,
    }


def test_keyAt_reverts_when_meter_is_unknown(meters, site):
    with pytest.raises(Exception, match="MeterUnknown"):
        meters.keyAt(site.unknown, FIRST_ISP)


def test_keyAt_reverts_when_before_first_isp(meters, meter, isp, actors, key_at):
    assert key_at(meter, FIRST_ISP) == KEYS[0]
    assert_out_of_service(meters, meter, FIRST_ISP - 1)
    meters.replaceDeviceKey(meter, KEYS[1], isp, {"from": actors.meter_operator})
    assert_out_of_service(meters, meter, FIRST_ISP - 1)


def test_keyAt_knows_every_former_key_when_replaced_again_and_again(meters, meter, isp, actors, key_at):
    """Two quick replacements must not take the key away from readings that are anchored."""
    for n, key in enumerate(KEYS[1:]):
        meters.replaceDeviceKey(meter, key, isp + n, {"from": actors.meter_operator})
    assert key_at(meter, FIRST_ISP) == key_at(meter, isp - 1) == KEYS[0]
    assert [key_at(meter, isp + n) for n in range(4)] == [KEYS[1], KEYS[2], KEYS[3], KEYS[3]]


def test_decommissionMeter_reverts_when_meter_is_unknown(meters, site, actors):
    with reverts("MeterUnknown", site.unknown, unchanged=meters):
        meters.decommissionMeter(site.unknown, 2**31, {"from": actors.meter_operator})


@pytest.mark.parametrize("caller", ["outsider", "other_meter_operator", "other_dso", "prosumer"])
def test_decommissionMeter_reverts_when_caller_is_neither_operator_nor_dso(meters, meter, isp, actors, caller):
    with reverts("NotOperatorOf", meter, getattr(actors, caller), unchanged=meters):
        meters.decommissionMeter(meter, isp, {"from": getattr(actors, caller)})


@pytest.mark.parametrize(("caller", "role"), [("meter_operator", Role.METER_OPERATOR), ("dso", Role.DSO)])
def test_decommissionMeter_reverts_when_caller_is_suspended(meters, meter, isp, participants, actors, caller, role):
    account = getattr(actors, caller)
    participants.setStatus(account, Status.SUSPENDED, REASON, {"from": actors.registrar})
    with reverts("MissingRole", account, role, Status.SUSPENDED, unchanged=meters):
        meters.decommissionMeter(meter, isp, {"from": account})


def test_decommissionMeter_reverts_when_decommissioned_before(meters, meter, isp, actors):
    meters.decommissionMeter(meter, isp + 9, {"from": actors.meter_operator})
    with reverts("MeterOutOfService", meter, isp, unchanged=meters):
        meters.decommissionMeter(meter, isp, {"from": actors.meter_operator})


def test_decommissionMeter_reverts_when_in_the_past(meters, meter, isp, actors):
    with reverts("IspInPast", isp - 1, isp, unchanged=meters):
        meters.decommissionMeter(meter, isp - 1, {"from": actors.meter_operator})


@pytest.mark.parametrize("caller", ["meter_operator", "dso"])
def test_decommissionMeter_keeps_earlier_readings_valid_when_paused(meters, meter, isp, actors, key_at, caller):
    meters.pause({"from": actors.guardian})
    tx = meters.decommissionMeter(meter, isp + 2, {"from": getattr(actors, caller)})
    assert key_at(meter, FIRST_ISP) == key_at(meter, isp + 1) == KEYS[0]
    assert_out_of_service(meters, meter, isp + 2)
    assert plain(meters.meter(meter))["endIsp"] == isp + 2
    assert event(tx, "MeterDecommissioned") == {"meterId": meter, "endIsp": isp + 2}


def test_decommissionMeter_works_when_operator_is_gone(meters, meter, isp, site, participants, actors):
    """A revoked operator blocks no connection: its DSO ends the meter, another installs the next."""
    participants.setStatus(actors.meter_operator, Status.REVOKED, REASON, {"from": actors.registrar})
    meters.decommissionMeter(meter, isp, {"from": actors.dso})
    meters.registerMeter(site.new_meter, site.connection, KEYS[1], isp, {"from": actors.other_meter_operator})
    assert plain(meters.meterOf(site.connection)) == site.new_meter


def test_constructor_keeps_registries(meters, grid, participants):
    assert meters.grid() == grid
    assert meters.participants() == participants
