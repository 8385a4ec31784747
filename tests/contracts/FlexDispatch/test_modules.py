"""
issueDirect
├── not a module → reverts NotModule; paused → reverts EnforcedPause
├── connection red, decommissioned, elsewhere → reverts ConnectionNotAllowed, OtherCongestionPoint; no meter → NoMeter
├── baseline not committed → reverts LeafNotCommitted; wrong length → CurveLength; empty → EmptyCurve
├── ISP ordered already → reverts AlreadyOrdered
├── compensation above the payer's balance → reverts InsufficientBalance
└── else → opens a group from 2**63 on, locks the compensation, emits DirectGroupOpened and ProsumerOrdered
issueReplacement
├── not a module → reverts NotModule; paused → reverts EnforcedPause; flex order closed → FlexOrderClosed
├── agreement not in force, outside its power, ordered already → reverts as in dispatch
└── else → issues the order, locks what the failing one does not free, keeps what was taken
recordSettlement, recordPot, finaliseGroup
└── not a module → reverts NotModule; group finalised twice → reverts GroupAlreadyFinalised
"""

import pytest

from offchain.domain.units import cost_down
from tests.utils import flexworld
from tests.utils.flexibility import ISP_COUNT, OTHER_POINT, POINT, UP, curve
from tests.utils.flexworld import issued
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

FIRST_DIRECT_GROUP = 2**63
RATE = 150_001
QUANTITIES = {72: 1_999, 73: 1}


def issue_direct(world, *homes, sender=None, payer=None, quantities=QUANTITIES, **changed):
    parts = []
    for home in homes:
        fields = {
            "connectionId": home.connection_id,
            "quantitiesWh": quantities if isinstance(quantities, bytes) else curve(quantities),
            "baselineWh": home.packed_baseline,
            "baselineProof": world.proof(home),
        }
        parts.append(tuple((fields | changed).values()))
    return world.dispatch.issueDirect(
        payer or world.actors.dso,
        POINT,
        UP,
        world.day,
        ISP_COUNT,
        RATE,
        world.commitment_ids[world.actors.aggregator.address],
        parts,
        {"from": sender or world.actors.module},
    )


@pytest.mark.parametrize("caller", ["outsider", "dso", "aggregator", "admin"])
def test_functions_of_modules_revert_when_caller_is_none(world, actors, caller):
    sender = getattr(actors, caller)
    dispatch, contracts = world.dispatch, world.contracts
    with reverts("NotModule", sender, unchanged=contracts):
        issue_direct(world, world.home, sender=sender)
    with reverts("NotModule", sender, unchanged=contracts):
        dispatch.recordSettlement(1, 1, 1, 1, 1, {"from": sender})
    with reverts("NotModule", sender, unchanged=contracts):
        dispatch.recordPot(1, 1, {"from": sender})
    order = world.issue(world.home, {72: 1_000})
    with reverts("NotModule", sender, unchanged=contracts):
        world.replace(order, world.standby, {75: 1}, sender=sender)
    with reverts("NotModule", sender, unchanged=contracts):
        dispatch.finaliseGroup(1, {"from": sender})


def test_issueReplacement_reverts_when_paused(world, actors):
    order = world.issue(world.home, {72: 1_000})
    world.dispatch.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=world.contracts):
        world.replace(order, world.standby, {75: 1})


def test_issueReplacement_checks_what_dispatch_checks(world):
    order = world.issue(world.home, {72: 1_000})
    standby = world.standby
    with reverts("OutsideAgreement", standby.agreement_id, 75, 1_001, 1_000, unchanged=world.contracts):
        world.replace(order, standby, {75: 1_001})
    with reverts("OtherAggregator", world.rival_home.agreement_id, world.other_aggregator, unchanged=world.contracts):
        world.replace(order, world.rival_home, {75: 1})
    world.issue(standby, {75: 1})
    with reverts("AlreadyOrdered", standby.connection_id, 75, unchanged=world.contracts):
        world.replace(order, standby, {75: 1})


@pytest.mark.parametrize(("freed", "locked"), [(0, 200_001 * 11 // 10), (220_000, 1), (220_001, 0), (10**6, 0)])
def test_issueReplacement_locks_what_the_failing_order_does_not_free(world, freed, locked):
    """1,000 Wh and a tolerance of 10% at 200,001 uToken/kWh."""
    order = world.issue(world.home, {72: 1_000})
    lock = world.group_lock()
    (replacement,) = issued(world.replace(order, world.standby, {75: 1_000}, freed=freed))
    assert world.group_lock() == lock + locked
    assert replacement.fields["replaces"] == order.id
    assert replacement.fields["baselineHash"] == world.standby.baseline_hash


def test_issueDirect_reverts_when_paused(world, actors):
    world.dispatch.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=world.contracts):
        issue_direct(world, world.home)


def test_issueDirect_reverts_when_static_light_is_red(world, actors):
    world.core.grid.setStaticLight(world.home.connection_id, 2, b"\x01" * 32, {"from": actors.dso})
    with reverts("ConnectionNotAllowed", world.home.connection_id, unchanged=world.contracts):
        issue_direct(world, world.other_home, world.home)


def test_issueDirect_reverts_when_connection_is_decommissioned(world, actors):
    world.core.grid.decommissionConnection(world.home.connection_id, {"from": actors.dso})
    with reverts("ConnectionNotAllowed", world.home.connection_id, unchanged=world.contracts):
        issue_direct(world, world.home)


def test_issueDirect_reverts_when_connection_is_at_another_point(world, actors):
    world.core.grid.moveConnection(world.home.connection_id, OTHER_POINT, {"from": actors.dso})
    with reverts("OtherCongestionPoint", world.home.connection_id, OTHER_POINT, unchanged=world.contracts):
        issue_direct(world, world.home)


def test_issueDirect_reverts_when_connection_has_no_meter(world, actors):
    isp = flexworld.brownie.chain[-1].timestamp // 900 + 1
    world.core.meters.decommissionMeter(world.home.device.meter_id, isp, {"from": actors.meter_operator})
    flexworld.clock.at(isp * 900)
    with reverts("NoMeter", world.home.connection_id, unchanged=world.contracts):
        issue_direct(world, world.home)


def test_issueDirect_reverts_when_baseline_was_not_committed(world):
    other = world.other_home
    leaf = plain(world.commitments.baselineLeaf(world.home.device.meter_id, world.day, ISP_COUNT, other.baseline_hash))
    commitment_id = world.commitment_ids[world.actors.aggregator.address]
    with reverts("LeafNotCommitted", commitment_id, leaf, unchanged=world.contracts):
        issue_direct(world, world.home, baselineWh=other.packed_baseline)


def test_issueDirect_reverts_when_baseline_has_another_length(world):
    with reverts("CurveLength", 0, 4 * ISP_COUNT, unchanged=world.contracts):
        issue_direct(world, world.home, baselineWh=b"")


def test_issueDirect_reverts_when_curve_is_wrong(world):
    with reverts("CurveLength", 4 * 92, 4 * ISP_COUNT, unchanged=world.contracts):
        issue_direct(world, world.home, quantities=curve(QUANTITIES, 92))
    with reverts("EmptyCurve", unchanged=world.contracts):
        issue_direct(world, world.home, quantities=curve({}))


def test_issueDirect_reverts_when_isp_is_ordered_already(world):
    world.issue(world.home, {73: 1})
    with reverts("AlreadyOrdered", world.home.connection_id, 73, unchanged=world.contracts):
        issue_direct(world, world.home)


def test_issueDirect_reverts_when_payer_cannot_pay(world, actors):
    with reverts("InsufficientBalance", actors.outsider, 0, cost_down(2_000, RATE), unchanged=world.contracts):
        issue_direct(world, world.home, payer=actors.outsider)


def test_issueDirect_opens_a_group_and_locks_the_compensation(world, actors):
    free = world.free(actors.dso)
    tx = issue_direct(world, world.home, world.other_home)
    assert tx.return_value == FIRST_DIRECT_GROUP
    assert world.free(actors.dso) == free - 2 * cost_down(2_000, RATE)
    assert world.group_lock(FIRST_DIRECT_GROUP) == 2 * cost_down(2_000, RATE)
    assert event(tx, "DirectGroupOpened") == {
        "groupId": FIRST_DIRECT_GROUP,
        "payer": actors.dso,
        "congestionPointId": POINT,
        "baselineCommitmentId": world.commitment_ids[actors.aggregator.address],
        "rate": RATE,
    }
    order = issued(tx)[0]
    assert order.fields == {
        "groupId": FIRST_DIRECT_GROUP,
        "agreementId": 0,
        "replaces": 0,
        "prosumer": world.home.account,
        "meterId": world.home.device.meter_id,
        "direction": UP,
        "dayFirstIsp": world.day,
        "ispCount": ISP_COUNT,
        "rewardRate": RATE,
        "penaltyRate": 0,
        "toleranceBps": 0,
        "multiplierBps": 10_000,
        "noticeSeconds": 0,
        "missingIsShortfall": False,
        "quantitiesHash": bytes(flexworld.keccak(curve(QUANTITIES))),
        "baselineHash": world.home.baseline_hash,
    }
    group = plain(world.dispatch.group(FIRST_DIRECT_GROUP))
    assert (group["payer"], group["issued"], group["finalised"]) == (actors.dso, 2, False)
    assert issue_direct(world, world.standby).return_value == FIRST_DIRECT_GROUP + 1


def test_finaliseGroup_reverts_when_done_before(world, actors):
    issue_direct(world, world.home)
    world.dispatch.finaliseGroup(FIRST_DIRECT_GROUP, {"from": actors.module})
    with reverts("GroupAlreadyFinalised", FIRST_DIRECT_GROUP, unchanged=world.contracts):
        world.dispatch.finaliseGroup(FIRST_DIRECT_GROUP, {"from": actors.module})


def test_finaliseGroup_returns_the_lock_to_the_payer(world, actors):
    free = world.free(actors.dso)
    issue_direct(world, world.home)
    tx = world.dispatch.finaliseGroup(FIRST_DIRECT_GROUP, {"from": actors.module})
    assert event(tx, "GroupFinalised") == {
        "groupId": FIRST_DIRECT_GROUP,
        "payerReturned": cost_down(2_000, RATE),
    }
    assert world.free(actors.dso) == free
    assert world.group_lock(FIRST_DIRECT_GROUP) == 0
