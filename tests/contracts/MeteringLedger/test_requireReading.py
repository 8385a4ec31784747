"""
requireReading
├── import or export "missing" → reverts ReadingMissing
├── meter unknown → reverts MeterUnknown
├── meter not in service at the ISP → reverts MeterOutOfService
├── not signed by the key in force at the ISP, or another field changed → reverts InvalidDeviceSignature
└── else → returns, also for an ISP of a former key
meterDayLeaf
└── equals its Python twin
getters
└── give what the constructor got
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.leaves import meter_day_leaf
from tests.utils import clock, metering, system
from tests.utils.metering import ISPS, Device
from tests.utils.plain import plain
from tests.utils.reverts import reverts

word = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("energies", [(2**32 - 1, 2**32 - 1), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_requireReading_reverts_when_it_is_missing(site, energies):
    reading = site.reading(3, *energies)
    with reverts("ReadingMissing", reading.meter_id, reading.isp, unchanged=site.ledger):
        site.ledger.requireReading(reading)


def test_requireReading_reverts_when_meter_is_unknown(site):
    reading = Device.named("unknown").reading(site.domain, site.first_isp, 1, 2)
    with reverts("MeterUnknown", reading.meter_id, unchanged=site.ledger):
        site.ledger.requireReading(reading)


def test_requireReading_reverts_when_meter_was_not_yet_in_service(site):
    reading = site.reading(-ISPS - 1, 1, 2)
    with reverts("MeterOutOfService", reading.meter_id, reading.isp, unchanged=site.ledger):
        site.ledger.requireReading(reading)


@pytest.mark.parametrize(
    "change", [{"isp": 1}, {"import_wh": 1}, {"export_wh": 1}, {"signature": b""}, {"signature": bytes(65)}]
)
def test_requireReading_reverts_when_a_field_is_not_what_was_signed(site, change):
    reading = site.reading(3, 20, 30)
    changed = {name: value if name == "signature" else getattr(reading, name) + 1 for name, value in change.items()}
    with reverts("InvalidDeviceSignature", site.device.meter_id, site.device.address, unchanged=site.ledger):
        site.ledger.requireReading(reading._replace(**changed))


def test_requireReading_reverts_when_meter_is_another(site):
    reading = site.reading(3, 20, 30)._replace(meter_id=site.other_device.meter_id)
    with reverts(
        "InvalidDeviceSignature", site.other_device.meter_id, site.other_device.address, unchanged=site.ledger
    ):
        site.ledger.requireReading(reading)


@pytest.mark.parametrize("energies", [(0, 0), (1, 2), (2**32 - 2, 2**32 - 2)])
def test_requireReading_returns_when_the_device_signed(site, energies):
    site.ledger.requireReading(site.reading(3, *energies))


def test_requireReading_returns_for_the_key_of_the_isp_when_it_was_replaced(site, core, operator):
    new = Device(site.device.meter_id, Device.named("new key").key)
    isp = system.current_isp() + 2
    clock.move_to((isp - 1) * 900)
    core.meters.replaceDeviceKey(new.meter_id, new.address, isp, {"from": operator})
    site.ledger.requireReading(site.device.reading(site.domain, isp - 1, 1, 2))
    site.ledger.requireReading(new.reading(site.domain, isp, 1, 2))
    with reverts("InvalidDeviceSignature", new.meter_id, new.address, unchanged=site.ledger):
        site.ledger.requireReading(site.device.reading(site.domain, isp, 1, 2))
    with reverts("InvalidDeviceSignature", new.meter_id, site.device.address, unchanged=site.ledger):
        site.ledger.requireReading(new.reading(site.domain, isp - 1, 1, 2))


@given(word, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), word)
def test_meterDayLeaf_equals_its_python_twin(site, meter_id, first_isp, isp_count, values_hash):
    expected = meter_day_leaf(meter_id, first_isp, isp_count, values_hash)
    assert plain(site.ledger.meterDayLeaf(meter_id, first_isp, isp_count, values_hash)) == expected


def test_getters_give_what_the_constructor_got(site, core):
    ledger = site.ledger
    assert ledger.authority() == core.authority
    assert ledger.participants() == core.participants
    assert ledger.meters() == core.meters
    assert ledger.clearingHouse() == core.house
    assert ledger.challengeWindow() == metering.CHALLENGE_WINDOW
    assert ledger.minimumBond() == metering.MINIMUM_BOND
    assert ledger.challengePenalty() == metering.CHALLENGE_PENALTY
    assert ledger.challengerShareBps() == 4_000
    assert ledger.forfeitTo() == metering.FORFEIT_TO
