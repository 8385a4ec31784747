"""
anchorDay
├── paused → reverts EnforcedPause
├── caller is no meter operator, or a suspended one → reverts MissingRole
├── no ISP or more than 100 → reverts PeriodMismatch
├── root or number of leaves zero → reverts EmptyBatch
├── before the end of the day → reverts PeriodNotOver, also when the day would end beyond uint32
├── bond below the minimum → reverts BondTooLow
└── else → latest batch of operator and day, bond bound for a challenge window, emits DayAnchored
    ├── days of 92, 96 and 100 ISPs → the same
    ├── again → next version; the one before is gone; the number of ISPs may be corrected
    ├── after a rejection → next version
    └── same day of another operator → its own versions
"""

import pytest

from tests.utils import clock, metering, system
from tests.utils.metering import CHALLENGE_WINDOW, DATA_HASH, ISPS, MINIMUM_BOND
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status

ROOT = system.id_of("root")


def anchor(site, sender, **changed):
    arguments = {
        "firstIsp": site.first_isp,
        "ispCount": ISPS,
        "root": ROOT,
        "leafCount": 2,
        "dataHash": DATA_HASH,
    }
    return site.ledger.anchorDay(*(arguments | changed).values(), {"from": sender})


def test_anchorDay_reverts_when_paused(site, actors, operator):
    site.ledger.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=site.ledger):
        anchor(site, operator)


@pytest.mark.parametrize("name", ["outsider", "prosumer", "dso"])
def test_anchorDay_reverts_when_caller_is_no_meter_operator(site, actors, participants, name):
    caller = getattr(actors, name)
    with reverts("MissingRole", caller, Role.METER_OPERATOR, participants.statusOf(caller), unchanged=site.ledger):
        anchor(site, caller)


def test_anchorDay_reverts_when_operator_is_suspended(site, actors, participants, operator):
    participants.setStatus(operator, Status.SUSPENDED, bytes(32), {"from": actors.registrar})
    with reverts("MissingRole", operator, Role.METER_OPERATOR, Status.SUSPENDED, unchanged=site.ledger):
        anchor(site, operator)


@pytest.mark.parametrize("isp_count", [0, 101, 65_535])
def test_anchorDay_reverts_when_number_of_isps_is_no_days(site, operator, isp_count):
    with reverts("PeriodMismatch", isp_count, 100, unchanged=site.ledger):
        anchor(site, operator, ispCount=isp_count)


@pytest.mark.parametrize("empty", [{"root": bytes(32)}, {"leafCount": 0}])
def test_anchorDay_reverts_when_batch_is_empty(site, operator, empty):
    with reverts("EmptyBatch", unchanged=site.ledger):
        anchor(site, operator, **empty)


def test_anchorDay_reverts_when_day_ends_a_second_later(site, operator):
    first_isp = system.current_isp() + 1
    end_isp = first_isp + ISPS
    clock.at(end_isp * 900 - 1)
    with reverts("PeriodNotOver", end_isp, end_isp * 900 - 1, unchanged=site.ledger):
        anchor(site, operator, firstIsp=first_isp)


def test_anchorDay_succeeds_when_day_ends_this_second(site, operator, batch):
    first_isp = system.current_isp() + 1
    clock.at((first_isp + ISPS) * 900)
    anchor(site, operator, firstIsp=first_isp)
    assert batch(first_isp)["anchoredAt"] == (first_isp + ISPS) * 900


def test_anchorDay_reverts_when_day_would_end_beyond_uint32(site, operator):
    first_isp = 2**32 - 1
    timestamp = system.current_isp() * 900 + 5_000
    clock.at(timestamp)
    with reverts("PeriodNotOver", first_isp + ISPS, timestamp, unchanged=site.ledger):
        anchor(site, operator, firstIsp=first_isp)


def test_anchorDay_reverts_when_bond_is_below_the_minimum(site, operator, batch):
    site.ledger.withdrawBond(1, {"from": operator})
    with reverts("BondTooLow", operator, MINIMUM_BOND - 1, MINIMUM_BOND, unchanged=site.ledger):
        anchor(site, operator)
    site.ledger.postBond(1, {"from": operator})
    anchor(site, operator)
    assert batch()["version"] == 1


@pytest.mark.parametrize("isp_count", [1, 92, 96, 100])
def test_anchorDay_stores_batch_and_emits_event(site, operator, batch, isp_count):
    first_isp = site.first_isp + ISPS - isp_count
    transaction = anchor(site, operator, firstIsp=first_isp, ispCount=isp_count)
    now = metering.timestamp_of(transaction)
    assert transaction.return_value == 1
    assert batch(first_isp) == {
        "root": ROOT,
        "anchoredAt": now,
        "ispCount": isp_count,
        "leafCount": 2,
        "version": 1,
        "status": 1,
    }
    assert site.ledger.bondInUseUntil(operator) == now + CHALLENGE_WINDOW
    assert len(transaction.events) == 1
    assert event(transaction, "DayAnchored") == {
        "operator": operator,
        "firstIsp": first_isp,
        "version": 1,
        "ispCount": isp_count,
        "root": ROOT,
        "leafCount": 2,
        "dataHash": DATA_HASH,
    }


def test_anchorDay_replaces_batch_when_corrected(site, operator, batch):
    anchor(site, operator, ispCount=92)
    corrected = system.id_of("corrected root")
    transaction = anchor(site, operator, root=corrected, leafCount=3)
    assert transaction.return_value == 2
    assert event(transaction, "DayAnchored")["version"] == 2
    assert batch() == {
        "root": corrected,
        "anchoredAt": metering.timestamp_of(transaction),
        "ispCount": ISPS,
        "leafCount": 3,
        "version": 2,
        "status": 1,
    }


def test_anchorDay_makes_next_version_when_batch_was_rejected(site, operator, actors, batch):
    day = site.day()
    site.anchor([day], operator)
    site.ledger.challengeContradiction(operator, day, [], site.reading(0, 1, 1), {"from": actors.outsider})
    site.ledger.postBond(metering.CHALLENGE_PENALTY, {"from": operator})
    assert batch()["status"] == 2
    assert anchor(site, operator).return_value == 2
    assert (batch()["version"], batch()["status"]) == (2, 1)


def test_anchorDay_keeps_operators_apart(site, operator, actors, batch):
    site.ledger.postBond(MINIMUM_BOND, {"from": actors.other_meter_operator})
    anchor(site, operator)
    anchor(site, operator)
    assert anchor(site, actors.other_meter_operator, leafCount=9).return_value == 1
    assert (batch()["version"], batch()["leafCount"]) == (2, 2)
