"""
challengeContradiction
├── no batch → reverts BatchUnknown
├── batch rejected before → reverts BatchNotUsable
├── day of another number of ISPs than the batch → reverts PeriodMismatch
├── values of another length → reverts ValuesLength
├── day not under the latest root: other values, other proof, corrected since → reverts LeafNotAnchored
├── window over → reverts ChallengeWindowOver, from its very end
├── reading "missing" → reverts ReadingMissing
├── reading not signed by the key in force at its ISP → reverts InvalidDeviceSignature
├── reading after the meter left service → reverts MeterOutOfService
├── reading of another meter, of an ISP outside the day, or equal to the day → reverts NotContradicted
└── else → batch rejected, four tenths of min(penalty, bond) to the challenger, the rest forfeited, emits BatchRejected
    ├── day says "missing" where the device signed a reading → the same
    ├── last second of the window → the same
    ├── bond smaller than the reward, or empty → what there is
    ├── day without a valid signature → the same: the leaf is the operator's word
    ├── key replaced since → readings of before count under the old key
    └── operator suspended, ledger paused → the same
"""

import pytest

from offchain.domain.curves import pack_readings
from tests.utils import clock, metering, system
from tests.utils.metering import (
    CHALLENGE_PENALTY,
    CHALLENGE_REWARD,
    CHALLENGE_WINDOW,
    FORFEIT_TO,
    ISPS,
    MINIMUM_BOND,
    Device,
)
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import Status

POSITION = 40
SAYS = metering.readings_of()[POSITION]


@pytest.fixture
def anchored(site, operator):
    """A batch of two days; the day of the device and its proof."""
    day = site.day()
    tree = site.anchor([day, site.day(5, site.other_device)], operator)
    return day, tree.proof(0)


@pytest.fixture
def contradiction(site):
    return site.reading(POSITION, SAYS[0] + 1, SAYS[1])


@pytest.fixture
def challenge(site, operator, actors):
    """Challenge by an outsider."""
    return lambda day, proof, reading: site.ledger.challengeContradiction(
        operator, day, proof, reading, {"from": actors.outsider}
    )


def test_challengeContradiction_reverts_when_there_is_no_batch(site, house, operator, challenge, contradiction):
    with reverts("BatchUnknown", operator, site.first_isp, unchanged=[site.ledger, house]):
        challenge(site.day(), [], contradiction)


def test_challengeContradiction_reverts_when_batch_is_of_another_operator(site, house, anchored, actors, contradiction):
    other = actors.other_meter_operator
    with reverts("BatchUnknown", other, site.first_isp, unchanged=[site.ledger, house]):
        site.ledger.challengeContradiction(other, *anchored, contradiction, {"from": actors.outsider})


def test_challengeContradiction_reverts_when_batch_is_rejected(
    site, house, operator, anchored, challenge, contradiction
):
    challenge(*anchored, contradiction)
    with reverts("BatchNotUsable", operator, site.first_isp, 1, 2, unchanged=[site.ledger, house]):
        challenge(*anchored, contradiction)


def test_challengeContradiction_reverts_when_day_has_another_number_of_isps(
    site, house, anchored, challenge, contradiction
):
    day, proof = anchored
    with reverts("PeriodMismatch", 92, ISPS, unchanged=[site.ledger, house]):
        challenge(day._replace(isp_count=92), proof, contradiction)


@pytest.mark.parametrize("length", [0, 8 * ISPS - 1, 8 * ISPS + 1, 8 * ISPS + 8])
def test_challengeContradiction_reverts_when_values_have_another_length(
    site, house, anchored, challenge, contradiction, length
):
    day, proof = anchored
    values = (day.values + bytes(8))[:length]
    with reverts("ValuesLength", length, 8 * ISPS, unchanged=[site.ledger, house]):
        challenge(day._replace(values=values), proof, contradiction)


def test_challengeContradiction_reverts_when_day_is_not_under_the_root(site, house, anchored, challenge, contradiction):
    forged = site.day(1)
    with reverts("LeafNotAnchored", forged.leaf, unchanged=[site.ledger, house]):
        challenge(forged, anchored[1], contradiction)


def test_challengeContradiction_reverts_when_proof_is_of_another_day(site, house, anchored, challenge, contradiction):
    day, _ = anchored
    for proof in ([], [day.leaf], [system.id_of("other")] * 2):
        with reverts("LeafNotAnchored", day.leaf, unchanged=[site.ledger, house]):
            challenge(day, proof, contradiction)


def test_challengeContradiction_reverts_when_batch_was_corrected(
    site, house, operator, anchored, challenge, contradiction
):
    site.anchor([site.day(1)], operator)
    with reverts("LeafNotAnchored", anchored[0].leaf, unchanged=[site.ledger, house]):
        challenge(*anchored, contradiction)


@pytest.mark.parametrize("late", [0, 1, 10**6])
def test_challengeContradiction_reverts_when_window_is_over(
    site, house, operator, anchored, challenge, contradiction, late
):
    until = site.window_end(operator)
    clock.at(until + late)
    with reverts("ChallengeWindowOver", until, until + late, unchanged=[site.ledger, house]):
        challenge(*anchored, contradiction)


def test_challengeContradiction_rejects_when_one_second_of_the_window_is_left(
    site, operator, anchored, challenge, contradiction, batch
):
    clock.at(site.window_end(operator) - 1)
    transaction = challenge(*anchored, contradiction)
    assert metering.timestamp_of(transaction) == batch()["anchoredAt"] + CHALLENGE_WINDOW - 1
    assert batch()["status"] == 2


@pytest.mark.parametrize("energies", [(2**32 - 1, 2**32 - 1), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_challengeContradiction_reverts_when_reading_is_missing(site, house, anchored, challenge, energies):
    reading = site.reading(POSITION, *energies)
    with reverts("ReadingMissing", reading.meter_id, reading.isp, unchanged=[site.ledger, house]):
        challenge(*anchored, reading)


@pytest.mark.parametrize("change", [{"import_wh": 1}, {"export_wh": 1}, {"isp": 0}, {"signature": b""}])
def test_challengeContradiction_reverts_when_reading_is_not_what_the_device_signed(
    site, house, anchored, challenge, contradiction, change
):
    if "isp" in change:
        change = {"isp": contradiction.isp + 1}
    with reverts("InvalidDeviceSignature", site.device.meter_id, site.device.address, unchanged=[site.ledger, house]):
        challenge(*anchored, contradiction._replace(**change))


def test_challengeContradiction_reverts_when_another_device_signed(site, house, anchored, challenge):
    impostor = Device(site.device.meter_id, site.other_device.key)
    reading = impostor.reading(site.domain, site.first_isp + POSITION, 1, 1)
    with reverts("InvalidDeviceSignature", site.device.meter_id, site.device.address, unchanged=[site.ledger, house]):
        challenge(*anchored, reading)


def test_challengeContradiction_reverts_when_meter_had_left_service(site, core, house, operator, actors, challenge):
    left = system.current_isp() + 2
    first_isp = left - POSITION
    core.meters.decommissionMeter(site.device.meter_id, left, {"from": operator})
    day = site.device.day(site.domain, first_isp, pack_readings(metering.readings_of()))
    clock.at((first_isp + ISPS) * 900)
    proof = site.anchor([day], operator, first_isp).proof(0)
    reading = site.device.reading(site.domain, left, 1, 1)
    with reverts("MeterOutOfService", site.device.meter_id, left, unchanged=[site.ledger, house]):
        challenge(day, proof, reading)
    challenge(day, proof, site.device.reading(site.domain, left - 1, 1, 1))
    assert site.ledger.batch(operator, first_isp)["status"] == 2


def test_challengeContradiction_reverts_when_reading_is_of_another_meter(site, house, anchored, challenge):
    reading = site.other_device.reading(site.domain, site.first_isp + POSITION, 1, 1)
    with reverts("NotContradicted", site.device.meter_id, unchanged=[site.ledger, house]):
        challenge(*anchored, reading)


@pytest.mark.parametrize("position", [-1, -90, ISPS, ISPS + 90])
def test_challengeContradiction_reverts_when_reading_is_outside_the_day(site, house, anchored, challenge, position):
    with reverts("NotContradicted", site.device.meter_id, unchanged=[site.ledger, house]):
        challenge(*anchored, site.reading(position, 1, 1))


@pytest.mark.parametrize("position", [0, 1, POSITION, ISPS - 1])
def test_challengeContradiction_reverts_when_reading_says_the_same(site, house, anchored, challenge, position):
    with reverts("NotContradicted", site.device.meter_id, unchanged=[site.ledger, house]):
        challenge(*anchored, site.reading(position, *metering.readings_of()[position]))


@pytest.mark.parametrize("position", [0, ISPS - 1])
@pytest.mark.parametrize("error", [(1, 0), (0, 1), (-1, 1)])
def test_challengeContradiction_rejects_when_one_wh_differs(site, anchored, challenge, batch, position, error):
    import_wh, export_wh = metering.readings_of()[position]
    challenge(*anchored, site.reading(position, import_wh + error[0], export_wh + error[1]))
    assert batch()["status"] == 2


def test_challengeContradiction_rejects_when_day_says_missing(site, anchored, challenge, batch):
    challenge(*anchored, site.reading(7, 0, 0))
    assert batch()["status"] == 2


def test_challengeContradiction_rejects_pays_and_emits_event(
    site, house, operator, actors, anchored, challenge, contradiction, batch
):
    before, lock = batch(), site.ledger.bondLockId(operator)
    transaction = challenge(*anchored, contradiction)
    assert batch() == before | {"status": 2}
    left = MINIMUM_BOND - CHALLENGE_PENALTY
    assert (site.ledger.bondOf(operator), house.lockOf(lock)) == (left, left)
    assert house.balanceOf(actors.outsider) == CHALLENGE_REWARD
    assert house.balanceOf(FORFEIT_TO) == CHALLENGE_PENALTY - CHALLENGE_REWARD
    assert event(transaction, "BatchRejected") == {
        "operator": operator,
        "firstIsp": site.first_isp,
        "version": 1,
        "challenger": actors.outsider,
        "meterId": site.device.meter_id,
        "reward": CHALLENGE_REWARD,
        "forfeited": CHALLENGE_PENALTY - CHALLENGE_REWARD,
    }
    assert [item["amount"] for item in transaction.events["Released"]] == [
        CHALLENGE_REWARD,
        CHALLENGE_PENALTY - CHALLENGE_REWARD,
    ]


def test_challengeContradiction_costs_an_operator_more_than_it_brings(site, house, operator, anchored, contradiction):
    """Challenging itself does not get a bond out."""
    free = house.balanceOf(operator)
    site.ledger.challengeContradiction(operator, *anchored, contradiction, {"from": operator})
    brought = house.balanceOf(operator) - free
    cost = MINIMUM_BOND - site.ledger.bondOf(operator) - brought
    assert 0 < brought < cost


def test_challengeContradiction_pays_what_is_left_when_bond_is_smaller(site, house, operator, actors, challenge):
    """Three batches anchored on one bond of two and a half penalties, and a fourth that finds it empty."""
    rewards = []
    days = [site.first_isp - back for back in range(4)]
    for first_isp in days:
        day = site.device.day(site.domain, first_isp, pack_readings(metering.readings_of()))
        site.anchor([day], operator, first_isp)
    for first_isp in days:
        day = site.device.day(site.domain, first_isp, pack_readings(metering.readings_of()))
        transaction = challenge(day, [], site.device.reading(site.domain, first_isp, 1, 1))
        rewards.append(event(transaction, "BatchRejected")["reward"])
        assert site.ledger.batch(operator, first_isp)["status"] == 2
    last = (MINIMUM_BOND - 2 * CHALLENGE_PENALTY) * 4 // 10
    assert rewards == [CHALLENGE_REWARD, CHALLENGE_REWARD, last, 0]
    assert house.balanceOf(actors.outsider) == sum(rewards)
    assert house.balanceOf(FORFEIT_TO) == MINIMUM_BOND - sum(rewards)
    assert site.ledger.bondOf(operator) == house.lockOf(site.ledger.bondLockId(operator)) == 0


def test_challengeContradiction_rejects_when_day_has_no_valid_signature(
    site, anchored, challenge, contradiction, batch
):
    day, proof = anchored
    challenge(day._replace(signature=b""), proof, contradiction)
    assert batch()["status"] == 2


def test_challengeContradiction_rejects_when_key_was_replaced_since(
    site, core, operator, anchored, challenge, contradiction, batch
):
    new = Device(site.device.meter_id, Device.named("new key").key)
    core.meters.replaceDeviceKey(site.device.meter_id, new.address, system.current_isp() + 1, {"from": operator})
    with reverts("InvalidDeviceSignature", site.device.meter_id, site.device.address, unchanged=site.ledger):
        challenge(*anchored, new.reading(site.domain, contradiction.isp, 1, 1))
    challenge(*anchored, contradiction)
    assert batch()["status"] == 2


def test_challengeContradiction_rejects_when_operator_is_revoked_and_ledger_paused(
    site, participants, operator, actors, anchored, challenge, contradiction, batch
):
    participants.setStatus(operator, Status.REVOKED, bytes(32), {"from": actors.registrar})
    site.ledger.pause({"from": actors.guardian})
    challenge(*anchored, contradiction)
    assert batch()["status"] == 2
