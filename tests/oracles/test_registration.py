"""Registration: one step after the other by what the chain says, back when it no longer says so; by hand; restart."""

from dataclasses import replace

import pytest

from offchain.store.devices import steps_of
from oracles.registration import NOBODY, DeviceState, OnChain, Registration, objections

OPERATOR, KEY = "0x" + "22" * 20, "0x" + "33" * 20
GOOD = OnChain(OPERATOR, KEY, 0, True, True)


@pytest.fixture
def meter(meter_ids):
    return meter_ids[0]


@pytest.fixture
def registration(store, meter, clock):
    return Registration(store, OPERATOR, {meter: KEY}, clock)


def test_steps_are_taken_in_order_when_all_is_well(registration, store, meter):
    registration.see_readings([meter])
    assert registration.state_of(meter) is DeviceState.INSTALLED  # not before its turn
    registration.see_chain({meter: GOOD})
    registration.see_probe(meter, "GP1")
    registration.see_readings([meter])
    with store.read() as connection:
        assert [step.state for step in steps_of(connection, meter)] == [
            "installed",
            "registered",
            "accredited",
            "communication tested",
            "collecting",
        ]


def test_values_that_nobody_asked_for_test_the_communication(registration, meter):
    registration.see_readings([meter], unasked=True)
    assert registration.state_of(meter) is DeviceState.INSTALLED
    registration.see_chain({meter: GOOD})
    registration.see_readings([meter], unasked=True)
    assert registration.state_of(meter) is DeviceState.COLLECTING


def test_probe_counts_when_it_came_before_the_accreditation(registration, meter):
    registration.see_probe(meter, "GP1")
    registration.see_chain({meter: GOOD})
    assert registration.state_of(meter) is DeviceState.TESTED


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (replace(GOOD, operator=NOBODY), DeviceState.INSTALLED),
        (replace(GOOD, operator=KEY), DeviceState.INSTALLED),
        (replace(GOOD, device_key=OPERATOR), DeviceState.REGISTERED),
        (replace(GOOD, connection_active=False), DeviceState.REGISTERED),
        (replace(GOOD, operator_in_order=False), DeviceState.REGISTERED),
    ],
)
def test_see_chain_stops_where_something_is_missing(registration, meter, seen, state):
    registration.see_chain({meter: seen})
    assert registration.state_of(meter) is state
    assert len(objections(seen, OPERATOR, KEY)) == 1


def test_see_chain_suspends_and_reinstates_when_the_operator_loses_its_bond(registration, meter):
    registration.see_probe(meter, "")
    registration.see_chain({meter: GOOD})
    registration.see_chain({meter: replace(GOOD, operator_in_order=False)})
    assert registration.state_of(meter) is DeviceState.SUSPENDED
    registration.see_chain({meter: GOOD})
    assert registration.state_of(meter) is DeviceState.TESTED


def test_suspension_by_hand_stays_when_the_chain_is_content(registration, store, meter, clock):
    registration.see_chain({meter: GOOD})
    registration.suspend(meter, "works on the cabinet")
    registration.see_chain({meter: GOOD})
    assert registration.state_of(meter) is DeviceState.SUSPENDED
    restarted = Registration(store, OPERATOR, {meter: KEY}, clock)
    assert restarted.state_of(meter) is DeviceState.SUSPENDED
    restarted.resume(meter)
    restarted.see_chain({meter: GOOD})
    assert restarted.state_of(meter) is DeviceState.ACCREDITED


def test_see_chain_retires_for_good_when_the_meter_was_decommissioned(registration, meter, day):
    registration.see_chain({meter: replace(GOOD, end_isp=day.first_isp)})
    registration.see_chain({meter: GOOD})
    assert registration.state_of(meter) is DeviceState.RETIRED
