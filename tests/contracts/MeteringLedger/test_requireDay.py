"""
requireDay
├── meter unknown → reverts MeterUnknown
├── meter not in service at any ISP of the day → reverts MeterOutOfService
├── operator of the meter anchored nothing for the day → reverts BatchUnknown, also when another operator did
├── batch rejected → reverts BatchNotUsable; a new version can be used after its own window
├── day of another number of ISPs, or none → reverts PeriodMismatch
├── values of another length → reverts ValuesLength
├── day not under the latest root → reverts LeafNotAnchored
├── window open → reverts ChallengeWindowOpen, until its last second
├── signature not by the key in force at the last ISP of the day → reverts InvalidDeviceSignature
│   └── hostile encodings: empty, short, long, high s, v of 0, another chain, another ledger
└── else → version
    ├── key replaced during the day → the new key signs, replaced after it → the old one
    ├── meter left service during the day → the key at its last ISP signs
    └── operator suspended, ledger paused → the same
"""

from dataclasses import replace

import brownie
import pytest

from offchain.domain.curves import pack_readings
from tests.utils import clock, metering, system
from tests.utils.metering import CHALLENGE_WINDOW, ISPS, Device
from tests.utils.reverts import reverts
from tests.utils.system import Status

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
NEW_KEY = Device.named("new key").key


@pytest.fixture
def anchored(site, operator):
    """A usable batch of four days; the day of the device and its proof."""
    day = site.day()
    others = (site.other_device, site.foreign_device, Device.named("unregistered"))
    days = [site.day(5, others[0]), day, *(site.day(6, other) for other in others[1:])]
    proof = site.anchor(days, operator).proof(1)
    clock.move_to(site.window_end(operator))
    return day, proof


def day_in_future(site, operator, *, change_at, change):
    """A market day, anchored and usable, with a change of the meter before or in it.

    ``change(isp)`` is called in the ISP before the changed one, which is at position ``change_at``.
    """
    isp = system.current_isp() + 2
    clock.move_to((isp - 1) * 900)
    change(isp)
    first_isp = isp - change_at
    end = (first_isp + ISPS) * 900
    if brownie.chain[-1].timestamp < end:
        clock.move_to(end)
    return first_isp


def test_requireDay_reverts_when_meter_is_unknown(site, anchored):
    day, proof = anchored
    unknown = system.id_of("unknown meter")
    with reverts("MeterUnknown", unknown, unchanged=site.ledger):
        site.ledger.requireDay(day._replace(meter_id=unknown), proof)


@pytest.mark.parametrize("back", [3 * ISPS, 2 * ISPS])
def test_requireDay_reverts_when_meter_was_not_yet_in_service(site, operator, back):
    """The meter is in service from one day before the market day on."""
    first_isp = site.first_isp - back
    day = site.device.day(site.domain, first_isp, pack_readings(metering.readings_of()))
    site.anchor([day], operator, first_isp)
    with reverts("MeterOutOfService", site.device.meter_id, first_isp + ISPS - 1, unchanged=site.ledger):
        site.ledger.requireDay(day, [])


def test_requireDay_reverts_when_meter_had_left_service(site, core, operator):
    first_isp = day_in_future(
        site,
        operator,
        change_at=0,
        change=lambda isp: core.meters.decommissionMeter(site.device.meter_id, isp, {"from": operator}),
    )
    day = site.device.day(site.domain, first_isp, pack_readings(metering.readings_of()))
    site.anchor([day], operator, first_isp)
    with reverts("MeterOutOfService", site.device.meter_id, first_isp + ISPS - 1, unchanged=site.ledger):
        site.ledger.requireDay(day, [])


def test_requireDay_reverts_when_there_is_no_batch(site, operator):
    with reverts("BatchUnknown", operator, site.first_isp, unchanged=site.ledger):
        site.ledger.requireDay(site.day(), [])


def test_requireDay_reverts_when_another_operator_anchored(site, operator, actors):
    day = site.day(0, site.foreign_device)
    proof = site.anchor([day, site.day()], operator).proof(0)
    clock.move_to(site.window_end(operator))
    with reverts("BatchUnknown", actors.other_meter_operator, site.first_isp, unchanged=site.ledger):
        site.ledger.requireDay(day, proof)


def test_requireDay_reverts_when_batch_is_rejected_until_next_version(site, operator, actors):
    day = site.day()
    site.anchor([day], operator)
    site.ledger.challengeContradiction(operator, day, [], site.reading(0, 1, 1), {"from": actors.outsider})
    site.ledger.postBond(metering.CHALLENGE_PENALTY, {"from": operator})
    with reverts("BatchNotUsable", operator, site.first_isp, 1, 2, unchanged=site.ledger):
        site.ledger.requireDay(day, [])
    clock.move_to(site.window_end(operator))
    with reverts("BatchNotUsable", operator, site.first_isp, 1, 2, unchanged=site.ledger):
        site.ledger.requireDay(day, [])
    corrected = site.day(1)
    site.anchor([corrected], operator)
    clock.move_to(site.window_end(operator))
    assert site.ledger.requireDay(corrected, []) == 2


@pytest.mark.parametrize("isp_count", [0, 1, 95, 97, 65_535])
def test_requireDay_reverts_when_day_has_another_number_of_isps(site, anchored, isp_count):
    day, proof = anchored
    with reverts("PeriodMismatch", isp_count, ISPS, unchanged=site.ledger):
        site.ledger.requireDay(day._replace(isp_count=isp_count), proof)


def test_requireDay_reverts_when_period_wraps(site, operator, anchored):
    day, proof = anchored
    with reverts("MeterOutOfService", day.meter_id, ISPS - 2, unchanged=site.ledger):
        site.ledger.requireDay(day._replace(first_isp=2**32 - 1), proof)


@pytest.mark.parametrize("length", [0, 8 * ISPS - 8, 8 * ISPS - 1, 8 * ISPS + 1])
def test_requireDay_reverts_when_values_have_another_length(site, anchored, length):
    day, proof = anchored
    with reverts("ValuesLength", length, 8 * ISPS, unchanged=site.ledger):
        site.ledger.requireDay(day._replace(values=(day.values + bytes(8))[:length]), proof)


@pytest.mark.parametrize("position", [0, 383, 767])
def test_requireDay_reverts_when_one_byte_is_changed(site, anchored, position):
    day, proof = anchored
    values = bytearray(day.values)
    values[position] ^= 1
    forged = site.device.day(site.domain, site.first_isp, bytes(values))
    with reverts("LeafNotAnchored", forged.leaf, unchanged=site.ledger):
        site.ledger.requireDay(forged, proof)


def test_requireDay_reverts_when_proof_is_not_of_the_day(site, anchored):
    day, proof = anchored
    for other in ([], proof[:-1], proof[::-1], [*proof, system.id_of("more")]):
        with reverts("LeafNotAnchored", day.leaf, unchanged=site.ledger):
            site.ledger.requireDay(day, other)


def test_requireDay_reverts_when_corrected_and_old_day_is_brought(site, operator, anchored):
    corrected = site.day(9)
    proof = site.anchor([corrected, site.day(5, site.other_device)], operator).proof(0)
    clock.move_to(site.window_end(operator))
    with reverts("LeafNotAnchored", anchored[0].leaf, unchanged=site.ledger):
        site.ledger.requireDay(*anchored)
    assert site.ledger.requireDay(corrected, proof) == 2


@pytest.mark.parametrize("seconds_left", [CHALLENGE_WINDOW, 1])
def test_requireDay_reverts_when_window_is_open(site, operator, seconds_left):
    day = site.day()
    site.anchor([day], operator)
    usable_from = site.window_end(operator)
    if seconds_left != CHALLENGE_WINDOW:
        clock.move_to(usable_from - seconds_left)
    with reverts("ChallengeWindowOpen", usable_from, usable_from - seconds_left, unchanged=site.ledger):
        site.ledger.requireDay(day, [])


def test_requireDay_gives_version_when_window_ends_this_second(site, operator):
    day = site.day()
    site.anchor([day], operator)
    clock.move_to(site.window_end(operator))
    assert site.ledger.requireDay(day, []) == 1


def test_requireDay_reverts_when_correction_is_in_its_window(site, operator, anchored):
    corrected = site.day(9)
    site.anchor([corrected], operator)
    until = site.window_end(operator)
    with reverts("ChallengeWindowOpen", until, until - CHALLENGE_WINDOW, unchanged=site.ledger):
        site.ledger.requireDay(corrected, [])


def hostile_signatures(site, day):
    """Signatures that must not count, by what is wrong with them."""
    good = day.signature
    s = int.from_bytes(good[32:64])
    elsewhere = {
        "another chain": replace(site.domain, chain_id=1),
        "another ledger": replace(site.domain, verifying_contract="0x" + "11" * 20),
        "another version": replace(site.domain, version="2"),
    }
    return {
        "empty": b"",
        "short": good[:64],
        "long": good + b"\x00",
        "high s": good[:32] + (ORDER - s).to_bytes(32) + bytes((55 - good[64],)),
        "v of 0": good[:64] + bytes((good[64] - 27,)),
        "zeros": bytes(65),
        "other key": Device(day.meter_id, NEW_KEY).day(site.domain, day.first_isp, day.values).signature,
        "other values": site.day(1).signature,
    } | {name: site.device.day(domain, day.first_isp, day.values).signature for name, domain in elsewhere.items()}


def test_requireDay_reverts_when_signature_is_not_the_devices(site, anchored):
    day, proof = anchored
    for signature in hostile_signatures(site, day).values():
        with reverts("InvalidDeviceSignature", day.meter_id, site.device.address, unchanged=site.ledger):
            site.ledger.requireDay(day._replace(signature=signature), proof)


def test_requireDay_gives_version_when_all_is_right(site, anchored, operator):
    day, proof = anchored
    assert site.ledger.requireDay(day, proof) == 1
    site.anchor([day], operator)
    clock.move_to(site.window_end(operator))
    assert site.ledger.requireDay(day, []) == 2


@pytest.mark.parametrize("isp_count", [92, 100])
def test_requireDay_gives_version_when_clocks_change(site, operator, isp_count):
    first_isp = site.first_isp + ISPS - isp_count
    values = pack_readings(metering.readings_of(isp_count=isp_count))
    day = site.device.day(site.domain, first_isp, values, isp_count)
    site.ledger.anchorDay(first_isp, isp_count, day.leaf, 1, bytes(32), {"from": operator})
    clock.move_to(brownie.chain[-1].timestamp + CHALLENGE_WINDOW)
    assert site.ledger.requireDay(day, []) == 1


@pytest.mark.parametrize(
    ("change_at", "old_signs"), [(ISPS - 1, False), (1, False), (0, False), (ISPS, True), (ISPS + 1, True)]
)
def test_requireDay_takes_the_key_at_the_last_isp_when_it_was_replaced(site, core, operator, change_at, old_signs):
    new = Device(site.device.meter_id, NEW_KEY)
    first_isp = day_in_future(
        site,
        operator,
        change_at=change_at,
        change=lambda isp: core.meters.replaceDeviceKey(new.meter_id, new.address, isp, {"from": operator}),
    )
    values = pack_readings(metering.readings_of())
    by_old, by_new = (each.day(site.domain, first_isp, values) for each in (site.device, new))
    site.anchor([by_old], operator, first_isp)
    clock.move_to(brownie.chain[-1].timestamp + CHALLENGE_WINDOW)
    accepted, refused, key = (by_old, by_new, site.device) if old_signs else (by_new, by_old, new)
    assert site.ledger.requireDay(accepted, []) == 1
    with reverts("InvalidDeviceSignature", new.meter_id, key.address, unchanged=site.ledger):
        site.ledger.requireDay(refused, [])


@pytest.mark.parametrize("change_at", [1, 40, ISPS - 1])
def test_requireDay_takes_the_last_key_when_meter_left_service_during_the_day(site, core, operator, change_at):
    """The key was replaced in the ISP before the end: the one of the last ISP in service signs."""
    new = Device(site.device.meter_id, NEW_KEY)

    def change(isp):
        core.meters.replaceDeviceKey(new.meter_id, new.address, isp - 1, {"from": operator})
        core.meters.decommissionMeter(new.meter_id, isp, {"from": operator})

    first_isp = day_in_future(site, operator, change_at=change_at, change=change)
    values = pack_readings(metering.readings_of())
    day = new.day(site.domain, first_isp, values)
    site.anchor([day], operator, first_isp)
    clock.move_to(brownie.chain[-1].timestamp + CHALLENGE_WINDOW)
    assert site.ledger.requireDay(day, []) == 1
    by_old = site.device.day(site.domain, first_isp, values)
    with reverts("InvalidDeviceSignature", new.meter_id, new.address, unchanged=site.ledger):
        site.ledger.requireDay(by_old, [])


def test_requireDay_gives_version_when_operator_is_revoked_and_ledger_paused(
    site, participants, operator, actors, anchored
):
    participants.setStatus(operator, Status.REVOKED, bytes(32), {"from": actors.registrar})
    site.ledger.pause({"from": actors.guardian})
    assert site.ledger.requireDay(*anchored) == 1
