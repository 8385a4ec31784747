"""
reassign
├── paused → reverts EnforcedPause; flex order closed → FlexOrderClosed; order unknown, cancelled, settled → as such
├── other terms → reverts TermsMismatch; other curve, baseline, taken curve → reverts CurveMismatch
├── direct order; reading of another meter, before or after the day → reverts ReadingNotOfOrder
├── forged → InvalidDeviceSignature; missing → ReadingMissing
├── nothing due at the ISP, or within the tolerance, to the Wh → reverts NoShortfall
├── no later ISP, or all of it taken already → reverts NothingLeftToReassign
├── not over, to the second → IspNotOver; over for too long, to the second → ReadingTooOld
├── another list than the one set → reverts StandbyListMismatch
├── nobody on the list is able → reverts NoStandbyLeft
│   └── able: in force, connected, by the meter listed, below the weekly limit, free, available, with notice, some power
├── a dearer standby than the aggregator can lock → reverts InsufficientBalance
└── else, by anyone → issues the replacement for the share, locks the difference, emits Reassigned
    ├── partly able → the next one takes the rest; the same reading takes nothing twice
    ├── a worse reading later → takes the difference
    └── a replacement that fails → replaced likewise
"""

import brownie
import pytest

from offchain.chain.agreements import Action
from tests.reference.settlement import largest_reward, missing_curve
from tests.utils import clock, flexworld
from tests.utils.flexibility import ISP_COUNT, OTHER_POINT, POINT, UP, curve
from tests.utils.flexworld import LIMIT_WH, issued
from tests.utils.metering import Device
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Status

QUANTITIES = {72: 1_000, 73: 999, 74: 1_000, 75: 501}
LISTED = ("standby", "second_standby", "dear_standby")
QUANTITY_LIST = [QUANTITIES.get(p, 0) for p in range(96)]


@pytest.fixture(scope="module")
def opened(world):
    """An order of ``home`` and three standbys in merit order."""
    world.list_standby(*(getattr(world, name) for name in LISTED))
    return world.issue(world.home, QUANTITIES)


def call(world, order, position=72, delivered=0, listed=LISTED, **changed):
    return world.reassign(order, world.home, position, delivered, *(getattr(world, name) for name in listed), **changed)


def asked(delivered, position=72, taken=None, first=74) -> dict[int, int]:
    """What standby takes over: the missing share of the ISPs that notice allows."""
    missing = missing_curve(QUANTITY_LIST, taken or [0] * 96, position, delivered)
    return {p: wh for p, wh in enumerate(missing) if wh and p >= first}


# ---------------------------------------------------------------------- refusals


def test_reassign_reverts_when_paused(world, opened, actors):
    for paused in (world.dispatch, world.reassignment):
        paused.pause({"from": actors.guardian})
        with reverts("EnforcedPause", unchanged=world.contracts):
            call(world, opened)
        paused.unpause({"from": actors.admin})


def test_reassign_reverts_when_order_is_unknown_or_cancelled(world, opened):
    with reverts("ProsumerOrderUnknown", 9, unchanged=world.contracts):
        call(world, opened, prosumerOrderId=9)


def test_reassign_reverts_when_order_was_cancelled(world, opened):
    world.cancel(opened)
    with reverts("OrderNotIssued", opened.id, 2, unchanged=world.contracts):
        call(world, opened)


def test_reassign_reverts_when_terms_differ(world, opened):
    terms = (*opened.terms[:8], opened.terms[8] + 1, *opened.terms[9:])
    with reverts("TermsMismatch", opened.id, unchanged=world.contracts):
        call(world, opened._replace(terms=terms))


def test_reassign_reverts_when_aggregator_is_suspended(world, opened, actors):
    world.core.participants.setStatus(actors.aggregator, Status.SUSPENDED, b"\x01" * 32, {"from": actors.registrar})
    with reverts("MissingRole", actors.aggregator, 3, Status.SUSPENDED, unchanged=world.contracts):
        call(world, opened)


@pytest.mark.parametrize(("field", "ours"), [("quantitiesWh", "quantities"), ("baselineWh", "baseline")])
def test_reassign_reverts_when_a_curve_differs(world, opened, field, ours):
    other = curve({72: 1_000})
    expected = opened.quantities if ours == "quantities" else world.home.packed_baseline
    hashes = [bytes(brownie.web3.keccak(packed)) for packed in (other, expected)]
    with reverts("CurveMismatch", *hashes, unchanged=world.contracts):
        call(world, opened, **{field: other})


def test_reassign_reverts_when_reading_is_of_another_meter(world, opened):
    clock.at(world.start(73))
    reading = world.reading(world.other_home, 72, 0)
    with reverts("ReadingNotOfOrder", opened.id, unchanged=world.contracts):
        call(world, opened, reading=reading)


@pytest.mark.parametrize("isp_of_day", [-1, 96])
def test_reassign_reverts_when_reading_is_outside_the_day(world, opened, isp_of_day):
    reading = world.home.device.reading(world.metering_domain, world.day + isp_of_day, 1, 0)
    with reverts("ReadingNotOfOrder", opened.id, unchanged=world.contracts):
        call(world, opened, reading=reading)


def test_reassign_reads_the_first_isp_of_the_day_as_one_of_the_order(world, opened):
    """Nothing was ordered then: nothing is short."""
    with reverts("NoShortfall", opened.id, 0, 0, unchanged=world.contracts):
        call(world, opened, position=0)


def test_reassign_reverts_when_order_is_direct(world, actors):
    home = world.other_home
    part = (home.connection_id, curve(QUANTITIES), home.packed_baseline, world.proof(home))
    commitment = world.commitment_ids[actors.aggregator.address]
    terms = (actors.dso, POINT, UP, world.day, ISP_COUNT, 150_001, commitment)
    (direct,) = issued(world.dispatch.issueDirect(*terms, [part], {"from": actors.module}))
    with reverts("ReadingNotOfOrder", direct.id, unchanged=world.contracts):
        world.reassign(direct, home, 72, 0)


def test_reassign_reverts_when_isp_is_not_over(world, opened, actors):
    now = world.start(73) - 1
    clock.at(now)
    argument = world.shortfall(opened, world.home, 72, 0)
    with reverts("IspNotOver", world.day + 72, now, unchanged=world.contracts):
        world.reassignment.reassign(opened.terms, argument, {"from": actors.outsider})


def test_reassign_reverts_when_reading_is_forged(world, opened):
    reading = world.reading(world.home, 72, 0, device=Device.named("other_home"))._replace(
        meter_id=world.home.device.meter_id
    )
    with reverts(
        "InvalidDeviceSignature", world.home.device.meter_id, world.home.device.address, unchanged=world.contracts
    ):
        call(world, opened, reading=reading)


def test_reassign_reverts_when_reading_is_missing(world, opened):
    missing = world.home.device.reading(world.metering_domain, world.day + 72, 2**32 - 1, 2**32 - 1)
    with reverts("ReadingMissing", world.home.device.meter_id, world.day + 72, unchanged=world.contracts):
        call(world, opened, reading=missing)


@pytest.mark.parametrize("delivered", [900, 1_000, 5_000])
def test_reassign_reverts_when_delivered_is_within_tolerance(world, opened, delivered):
    """Ordered 1,000 Wh, tolerance 10%: 900 is no shortfall."""
    with reverts("NoShortfall", opened.id, delivered, 1_000, unchanged=world.contracts):
        call(world, opened, delivered=delivered)


def test_reassign_reverts_when_nothing_was_ordered_at_the_isp(world, opened):
    with reverts("NoShortfall", opened.id, 0, 0, unchanged=world.contracts):
        call(world, opened, position=71)


def test_reassign_reverts_when_no_later_isp_was_ordered(world, opened):
    with reverts("NothingLeftToReassign", opened.id, unchanged=world.contracts):
        call(world, opened, position=75)


def test_reassign_reverts_when_list_is_empty(world, opened):
    other = world.issue(world.rival_home, {72: 500, 73: 500})
    argument = world.shortfall(other, world.rival_home, 72, 0)
    clock.at(world.start(73))
    with reverts("NoStandbyLeft", world.rival_order_id, unchanged=world.contracts):
        world.reassignment.reassign(other.terms, argument, {"from": world.actors.outsider})


@pytest.mark.parametrize(
    "brought",
    [("second_standby",), ("standby", "dear_standby", "second_standby"), (*LISTED, "standby")],
    ids=["first left out", "another order", "one more"],
)
def test_reassign_reverts_when_list_is_another(world, opened, brought):
    with reverts("StandbyListMismatch", world.order_id, unchanged=world.contracts):
        call(world, opened, listed=brought)


@pytest.mark.parametrize("field", [1, 2], ids=["meter", "baseline"])
def test_reassign_reverts_when_meter_or_baseline_of_the_list_is_another(world, opened, field):
    listed = [list(item) for item in world.standby_list(*(getattr(world, name) for name in LISTED))]
    listed[0][field] = listed[1][field]
    with reverts("StandbyListMismatch", world.order_id, unchanged=world.contracts):
        call(world, opened, standby=listed)


def test_reassign_takes_a_reading_until_it_is_too_old(world, opened):
    """After 72 the reading is good for two ISPs: what 73 showed meanwhile does not matter, later it does."""
    last = world.start(73) + flexworld.READING_AGE
    flexworld.amend(world, world.standby, notice_seconds=0)
    argument = world.shortfall(opened, world.home, 72, 300, *(getattr(world, name) for name in LISTED))
    clock.at(last + 1)
    with reverts("ReadingTooOld", world.day + 72, last, last + 1, unchanged=world.contracts):
        world.reassignment.reassign(opened.terms, argument, {"from": world.actors.outsider})


def test_reassign_takes_a_reading_in_its_last_second(world, opened):
    flexworld.amend(world, world.standby, notice_seconds=0)
    clock.move_to(world.start(73) + flexworld.READING_AGE - 1)
    clock.at(world.start(73) + flexworld.READING_AGE)
    (replacement,) = issued(call(world, opened, delivered=300))
    assert replacement.quantities == curve({75: 350})


# ---------------------------------------------------------------------- takes over


def test_reassign_takes_over_the_missing_share(world, opened, actors):
    """Delivered 300 of 1,000: 70% of each later ISP with notice, rounded down."""
    free, lock = world.free(actors.aggregator), world.group_lock()
    tx = call(world, opened, delivered=300)
    taken = asked(300)
    assert taken == {74: 700, 75: 350}
    (replacement,) = issued(tx)
    standby = world.standby
    assert replacement.quantities == curve(taken)
    assert replacement.fields == {
        **opened.fields,
        "agreementId": standby.agreement_id,
        "replaces": opened.id,
        "prosumer": standby.account,
        "meterId": standby.device.meter_id,
        "rewardRate": standby.terms.reward_rate,
        "penaltyRate": standby.terms.penalty_rate,
        "quantitiesHash": bytes(brownie.web3.keccak(curve(taken))),
        "baselineHash": standby.baseline_hash,
    }
    assert event(tx, "Reassigned") == {
        "failedOrderId": opened.id,
        "replacementOrderId": replacement.id,
        "isp": world.day + 72,
        "shortfallWh": 700,
        "takenWh": 1_050,
        "totalTakenWh": curve(taken),
    }
    assert plain(world.dispatch.reassignment(opened.id)) == {
        "takenHash": bytes(brownie.web3.keccak(curve(taken))),
        "takenWh": 1_050,
        "pot": 0,
    }
    assert world.dispatch.prosumerOrder(opened.id)["replaced"]
    assert world.dispatch.orderedIsps(standby.connection_id, world.day) == 0b11 << 74
    assert world.dispatch.group(world.order_id)["issued"] == 2

    taken_list = [taken.get(p, 0) for p in range(96)]
    freed = largest_reward(QUANTITY_LIST, [], opened.fields) - largest_reward(QUANTITY_LIST, taken_list, opened.fields)
    dearer = largest_reward(taken_list, [], replacement.fields) - freed
    assert dearer > 0
    assert world.group_lock() == lock + dearer
    assert world.free(actors.aggregator) == free - dearer


def test_reassign_locks_nothing_when_standby_is_cheaper(world, opened, actors):
    flexworld.amend(world, world.standby, reward_rate=1)
    free, lock = world.free(actors.aggregator), world.group_lock()
    call(world, opened)
    assert (world.free(actors.aggregator), world.group_lock()) == (free, lock)


def test_reassign_reverts_when_aggregator_cannot_lock_the_difference(world, opened, actors):
    world.core.house.withdraw(actors.outsider, world.free(actors.aggregator), {"from": actors.aggregator})
    taken = [asked(0).get(p, 0) for p in range(96)]
    freed = largest_reward(QUANTITY_LIST, [], opened.fields) - largest_reward(QUANTITY_LIST, taken, opened.fields)
    fields = {**opened.fields, "rewardRate": world.standby.terms.reward_rate}
    needed = largest_reward(taken, [], fields) - freed
    with reverts("InsufficientBalance", actors.aggregator, 0, needed, unchanged=world.contracts):
        call(world, opened)


@pytest.mark.parametrize("moved", [-1_000, -1])
def test_reassign_takes_everything_when_prosumer_moved_the_other_way(world, opened, moved):
    (replacement,) = issued(call(world, opened, delivered=moved))
    assert replacement.quantities == curve({74: 1_000, 75: 501})


def test_reassign_reverts_when_same_reading_is_brought_again(world, opened):
    taken = curve(asked(300))
    call(world, opened, delivered=300)
    with reverts("NoStandbyLeft", world.order_id, unchanged=world.contracts):
        # 73 is still missing, but nobody has notice for it any more.
        call(world, opened, delivered=300, takenWh=taken)


@pytest.mark.parametrize("given", [b"", curve({74: 700})], ids=["none", "less"])
def test_reassign_reverts_when_taken_curve_differs(world, opened, given):
    taken = curve(asked(300))
    call(world, opened, delivered=300)
    hashes = [bytes(brownie.web3.keccak(packed)) for packed in (given, taken)]
    with reverts("CurveMismatch", *hashes, unchanged=world.contracts):
        call(world, opened, delivered=300, takenWh=given)


def test_reassign_takes_the_difference_when_a_later_reading_is_worse(world, opened):
    call(world, opened, delivered=300)
    taken = asked(300)
    clock.at(world.start(74))
    # 74 begins now; of 75, with notice, 350 are taken and 501 are missing.
    tx = call(world, opened, position=73, delivered=0, takenWh=curve(taken))
    (second,) = issued(tx)
    assert second.quantities == curve({75: 151})
    emitted = event(tx, "Reassigned")
    assert emitted["totalTakenWh"] == curve({74: 700, 75: 501})
    assert (emitted["shortfallWh"], emitted["takenWh"]) == (999, 151)
    assert world.dispatch.reassignment(opened.id)["takenWh"] == 1_201


def test_reassign_gives_the_rest_to_the_next_when_first_is_partly_able(world, opened):
    flexworld.amend(world, world.standby, **world.power(4 * 300 + 3))
    first = call(world, opened)
    assert issued(first)[0].quantities == curve({74: 300, 75: 300})
    taken = curve({74: 300, 75: 300})
    clock.at(world.start(73))  # in the same second, so that 74 still allows notice
    second = call(world, opened, takenWh=taken)
    assert issued(second)[0].quantities == curve({74: 700, 75: 201})
    assert event(second, "Reassigned")["totalTakenWh"] == curve({74: 1_000, 75: 501})


def test_reassign_replaces_a_replacement_that_fails(world, opened):
    (replacement,) = issued(call(world, opened))
    assert replacement.quantities == curve({74: 1_000, 75: 501})
    flexworld.amend(world, world.second_standby, notice_seconds=0)
    tx = world.reassign(replacement, world.standby, 74, 500, *(getattr(world, name) for name in LISTED))
    (second,) = issued(tx)
    assert second.quantities == curve({75: 250})
    assert second.fields["replaces"] == replacement.id
    assert event(tx, "Reassigned")["failedOrderId"] == replacement.id


# ---------------------------------------------------------------------- merit order


def unable_suspended(world, home):
    world.agreements.give(home.agreement_id, Action.SUSPEND, {"from": home.account})


def unable_prosumer_suspended(world, home):
    world.core.participants.setStatus(home.account, Status.SUSPENDED, b"\x01" * 32, {"from": world.actors.registrar})


def unable_busy(world, home):
    world.issue(home, {74: 1, 75: 1})


def unable_declared_away(world, home):
    world.agreements.declareAvailability(home.agreement_id, world.day, 1 << 72, {"from": home.account})


def unable_notice(world, home):
    flexworld.amend(world, home, notice_seconds=2_701)


def unable_weekly_limit(world, home):
    flexworld.amend(world, home, weekly_activations=1)
    world.issue(home, {72: 1})


def unable_no_longer_standby(world, home):
    flexworld.amend(world, home, standby=False)


def unable_other_method(world, home):
    flexworld.amend(world, home, baseline_method=b"\x05" * 32)


def unable_elsewhere(world, home):
    world.core.grid.moveConnection(home.connection_id, OTHER_POINT, {"from": world.actors.dso})


def unable_red(world, home):
    world.core.grid.setStaticLight(home.connection_id, 2, b"\x01" * 32, {"from": world.actors.dso})


def unable_no_meter(world, home):
    isp = brownie.chain[-1].timestamp // 900 + 1
    world.core.meters.decommissionMeter(home.device.meter_id, isp, {"from": world.actors.meter_operator})


def unable_other_direction_only(world, home):
    flexworld.amend(world, home, **world.power(3))


def unable_new_meter(world, home):
    """The baseline that was committed is of the meter before."""
    isp = brownie.chain[-1].timestamp // 900 + 1
    operator = {"from": world.actors.meter_operator}
    world.core.meters.decommissionMeter(home.device.meter_id, isp, operator)
    clock.move_to(isp * 900)
    new = Device.named("new meter")
    world.core.meters.registerMeter(new.meter_id, home.connection_id, new.address, isp, operator)


UNABLE = [value for name, value in sorted(globals().items()) if name.startswith("unable_")]


@pytest.mark.parametrize("make_unable", UNABLE, ids=lambda function: function.__name__)
def test_reassign_goes_to_the_next_when_first_is_unable(world, opened, make_unable):
    make_unable(world, world.standby)
    clock.at(world.start(73))
    (replacement,) = issued(call(world, opened))
    assert replacement.fields["agreementId"] == world.second_standby.agreement_id


def test_reassign_reverts_when_all_are_unable(world, opened):
    for home in (world.standby, world.second_standby, world.dear_standby):
        unable_suspended(world, home)
    with reverts("NoStandbyLeft", world.order_id, unchanged=world.contracts):
        call(world, opened)


def test_reassign_takes_nothing_before_the_notice_of_the_standby(world, opened):
    """At the end of ISP 72 a notice of 900 s allows 74, 1,800 s allows 75."""
    flexworld.amend(world, world.standby, notice_seconds=1_800)
    (replacement,) = issued(call(world, opened))
    assert replacement.quantities == curve({75: 501})


def test_reassign_stays_below_the_agreed_power(world, opened):
    flexworld.amend(world, world.standby, **world.power(4 * LIMIT_WH - 1))
    (replacement,) = issued(call(world, opened))
    assert replacement.quantities == curve({74: 999, 75: 501})
