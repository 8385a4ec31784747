"""
dispatch
├── paused → reverts EnforcedPause
├── no such flex order, cancelled, finalised → reverts FlexOrderClosed
├── not by its aggregator → reverts NotAggregatorOf; aggregator suspended → reverts MissingRole
├── after dispatchBy, to the second → reverts DispatchClosed
├── another curve for the flex order → reverts CurveMismatch
├── by prosumer
│   ├── agreement unknown, suspended, not yet valid, prosumer suspended → reverts as termsInForce
│   ├── agreement of another aggregator → reverts OtherAggregator
│   ├── another baseline method → reverts OtherBaselineMethod
│   ├── connection decommissioned or red → reverts ConnectionNotAllowed; at another point → reverts OtherCongestionPoint
│   ├── no meter → reverts NoMeter; baseline not committed → reverts LeafNotCommitted
│   ├── curve of another length → reverts CurveLength; nothing ordered → reverts EmptyCurve
│   ├── more than the agreed power → reverts OutsideAgreement; up to it → issued
│   ├── outside availability, agreed or narrowed → reverts OutsideAvailability
│   ├── notice too short, to the second → reverts NoticeTooShort
│   ├── more orders a week than agreed → reverts WeeklyLimitReached
│   └── an ISP ordered already, by any flex order or over overlapping market days → reverts AlreadyOrdered
├── more than the flex order over all calls → reverts MoreThanOrdered
├── rewards above the aggregator's balance → reverts InsufficientBalance
└── else → issues the orders, locks their largest rewards, counts the group, emits ProsumerOrdered
"""

import brownie
import pytest

from offchain.chain.agreements import Action, AgreementStatus
from offchain.chain.leaves import baseline_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from tests.reference.settlement import largest_reward
from tests.utils import clock, flexworld
from tests.utils.flexibility import ISP_COUNT, OTHER_POINT, curve
from tests.utils.flexworld import LIMIT_WH, METHOD, ORDERED, issued
from tests.utils.plain import plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status

QUANTITIES = {72: 1_000, 73: 500}


def suspend(world, account):
    world.core.participants.setStatus(account, Status.SUSPENDED, b"\x01" * 32, {"from": world.actors.registrar})


def dispatch(world, home=None, quantities=None, **changed):
    return world.dispatch_parts(world.part(home or world.home, quantities or QUANTITIES, **changed))


# ---------------------------------------------------------------------- flex order


def test_dispatch_reverts_when_paused(world, actors):
    world.dispatch.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_flex_order_is_unknown(world, actors):
    with reverts("FlexOrderClosed", 9, unchanged=world.contracts):
        world.dispatch_parts(world.part(world.home, QUANTITIES), order_id=9)


def test_dispatch_reverts_when_flex_order_was_cancelled(world, actors):
    world.market.cancelOrder(world.order_id, {"from": actors.dso})
    with reverts("FlexOrderClosed", world.order_id, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_flex_order_is_finalised(world):
    clock.at(world.request.dispatch_by + 1)
    world.finalise()
    with reverts("FlexOrderClosed", world.order_id, unchanged=world.contracts):
        dispatch(world)


@pytest.mark.parametrize("caller", ["outsider", "dso", "other_aggregator"])
def test_dispatch_reverts_when_caller_is_not_its_aggregator(world, actors, caller):
    sender = world.other_aggregator if caller == "other_aggregator" else getattr(actors, caller)
    with reverts("NotAggregatorOf", world.order_id, sender, unchanged=world.contracts):
        world.dispatch_parts(world.part(world.home, QUANTITIES), sender=sender)


def test_dispatch_reverts_when_aggregator_is_suspended(world, actors):
    suspend(world, actors.aggregator)
    with reverts("MissingRole", actors.aggregator, Role.AGGREGATOR, Status.SUSPENDED, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_dispatchBy_has_passed(world):
    last = world.request.dispatch_by
    clock.at(last + 1)
    with reverts("DispatchClosed", last, last + 1, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_issues_when_it_is_the_last_second(world):
    clock.at(world.request.dispatch_by)
    assert len(issued(dispatch(world))) == 1


def test_dispatch_reverts_when_flex_order_has_another_curve(world):
    other = curve({**ORDERED, 72: 4_001})
    with reverts(
        "CurveMismatch", brownie.web3.keccak(other), brownie.web3.keccak(curve(ORDERED)), unchanged=world.contracts
    ):
        world.dispatch_parts(world.part(world.home, QUANTITIES), ordered=other)


# ---------------------------------------------------------------------- agreement, connection, meter, baseline


def test_dispatch_reverts_when_agreement_is_unknown(world):
    with reverts("AgreementUnknown", 99, unchanged=world.contracts):
        dispatch(world, agreementId=99)


def test_dispatch_reverts_when_agreement_is_suspended(world):
    home = world.home
    world.agreements.give(home.agreement_id, Action.SUSPEND, {"from": home.account})
    now = brownie.chain[-1].timestamp + 60
    clock.at(now)
    with reverts(
        "NotInForce",
        home.agreement_id,
        AgreementStatus.SUSPENDED,
        home.terms.valid_from,
        home.terms.valid_until,
        now,
        unchanged=world.contracts,
    ):
        dispatch(world)


def test_dispatch_reverts_when_prosumer_is_suspended(world):
    suspend(world, world.home.account)
    with reverts("MissingRole", world.home.account, Role.PROSUMER, Status.SUSPENDED, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_agreement_is_of_another_aggregator(world):
    rival = world.rival_home
    with reverts("OtherAggregator", rival.agreement_id, world.other_aggregator, unchanged=world.contracts):
        dispatch(world, rival)


def test_dispatch_reverts_when_agreement_has_another_baseline_method(world):
    home = flexworld.amend(world, world.home, baseline_method=b"\x07" * 32)
    with reverts("OtherBaselineMethod", home.agreement_id, b"\x07" * 32, METHOD, unchanged=world.contracts):
        dispatch(world, home)


def test_dispatch_reverts_when_connection_is_decommissioned(world, actors):
    world.core.grid.decommissionConnection(world.home.connection_id, {"from": actors.dso})
    with reverts("ConnectionNotAllowed", world.home.connection_id, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_static_light_is_red(world, actors):
    world.core.grid.setStaticLight(world.home.connection_id, 2, b"\x01" * 32, {"from": actors.dso})
    with reverts("ConnectionNotAllowed", world.home.connection_id, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_issues_when_static_light_is_yellow(world, actors):
    world.core.grid.setStaticLight(world.home.connection_id, 1, b"\x01" * 32, {"from": actors.dso})
    assert len(issued(dispatch(world))) == 1


def test_dispatch_reverts_when_connection_moved_to_another_point(world, actors):
    world.core.grid.moveConnection(world.home.connection_id, OTHER_POINT, {"from": actors.dso})
    with reverts("OtherCongestionPoint", world.home.connection_id, OTHER_POINT, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_connection_has_no_meter(world, actors):
    now_isp = brownie.chain[-1].timestamp // 900 + 1
    world.core.meters.decommissionMeter(world.home.device.meter_id, now_isp, {"from": actors.meter_operator})
    clock.at(now_isp * 900)
    with reverts("NoMeter", world.home.connection_id, unchanged=world.contracts):
        dispatch(world)


@pytest.mark.parametrize("wrong", ["curve", "proof"])
def test_dispatch_reverts_when_baseline_was_not_committed(world, wrong):
    home = world.home
    changed = (
        {"baselineWh": world.other_home.packed_baseline}
        if wrong == "curve"
        else {"baselineProof": world.proof(world.other_home)}
    )
    leaf = world.commitments.baselineLeaf(
        home.device.meter_id, world.day, ISP_COUNT, values_hash(changed.get("baselineWh", home.packed_baseline))
    )
    with reverts(
        "LeafNotCommitted", world.commitment_ids[home.terms.aggregator], plain(leaf), unchanged=world.contracts
    ):
        dispatch(world, **changed)


# ---------------------------------------------------------------------- curve


@pytest.mark.parametrize("isp_count", [92, 100])
def test_dispatch_reverts_when_curve_has_another_length(world, isp_count):
    with reverts("CurveLength", 4 * isp_count, 4 * ISP_COUNT, unchanged=world.contracts):
        dispatch(world, quantities=curve(QUANTITIES, isp_count))


def test_dispatch_reverts_when_nothing_is_ordered(world):
    with reverts("EmptyCurve", unchanged=world.contracts):
        dispatch(world, quantities=curve({}))


def test_dispatch_reverts_when_power_is_more_than_agreed(world):
    with reverts("OutsideAgreement", world.home.agreement_id, 73, LIMIT_WH + 1, LIMIT_WH, unchanged=world.contracts):
        dispatch(world, quantities={72: LIMIT_WH, 73: LIMIT_WH + 1})


@pytest.mark.parametrize("position", [67, 84])
def test_dispatch_reverts_when_isp_is_outside_the_agreed_windows(world, position):
    with reverts("OutsideAvailability", world.home.agreement_id, position, unchanged=world.contracts):
        dispatch(world, quantities={72: 1, position: 1})


def test_dispatch_reverts_when_availability_was_narrowed(world):
    home = world.home
    world.agreements.declareAvailability(home.agreement_id, world.day, 1 << 72, {"from": home.account})
    with reverts("OutsideAvailability", home.agreement_id, 73, unchanged=world.contracts):
        dispatch(world)
    assert len(issued(dispatch(world, quantities={72: 1}))) == 1


def test_dispatch_reverts_when_notice_is_a_second_too_short(world):
    notice = world.start(72) - world.request.dispatch_by
    late = flexworld.amend(world, world.other_home, notice_seconds=notice + 1)
    clock.at(world.request.dispatch_by)
    with reverts("NoticeTooShort", late.agreement_id, world.start(72), world.start(72) + 1, unchanged=world.contracts):
        dispatch(world, late)


def test_dispatch_issues_when_notice_is_met_to_the_second(world):
    notice = world.start(72) - world.request.dispatch_by
    home = flexworld.amend(world, world.home, notice_seconds=notice)
    clock.at(world.request.dispatch_by)
    assert len(issued(dispatch(world, home))) == 1


def test_dispatch_reverts_when_weekly_activations_are_used_up(world):
    week = (world.day // 96 + 3) // 7
    for position in (72, 73, 74):
        dispatch(world, quantities={position: 1})
    with reverts("WeeklyLimitReached", world.home.agreement_id, week, 3, unchanged=world.contracts):
        dispatch(world, quantities={75: 1})


def test_dispatch_reverts_when_isp_was_ordered_by_the_same_flex_order(world):
    dispatch(world, quantities={73: 1})
    with reverts("AlreadyOrdered", world.home.connection_id, 73, unchanged=world.contracts):
        dispatch(world)


def test_dispatch_reverts_when_the_same_prosumer_is_twice_in_one_call(world):
    part = world.part(world.home, {72: 1})
    with reverts("AlreadyOrdered", world.home.connection_id, 72, unchanged=world.contracts):
        world.dispatch_parts(part, part)


def direct(world, day, quantities):
    """An order of the module on the home's connection, to occupy ISPs of some market day."""
    home = world.home
    tree, commitment_id = commit(world, home, day)
    return world.dispatch.issueDirect(
        world.actors.dso,
        world.request.congestion_point_id,
        world.direction,
        day,
        ISP_COUNT,
        1_000,
        commitment_id,
        [(home.connection_id, curve(quantities), home.packed_baseline, tree.proof(0))],
        {"from": world.actors.module},
    )


def test_dispatch_reverts_when_baseline_has_another_length(world):
    """A committed hash of something else than a curve of the day could never be settled."""
    with reverts("CurveLength", 4 * 92, 4 * ISP_COUNT, unchanged=world.contracts):
        dispatch(world, baselineWh=world.home.packed_baseline[: 4 * 92])


def commit(world, home, day):
    tree = MerkleTree([baseline_leaf(home.device.meter_id, day, ISP_COUNT, home.baseline_hash)])
    commitment_id = world.commitments.commit(
        1, b"\x01" * 32, METHOD, day, ISP_COUNT, tree.root, 1, 1, b"\x02" * 32, {"from": world.actors.dso}
    ).return_value
    return tree, commitment_id


def test_dispatch_reverts_when_isp_was_ordered_by_another_group(world):
    direct(world, world.day, {73: 1})
    with reverts("AlreadyOrdered", world.home.connection_id, 73, unchanged=world.contracts):
        dispatch(world)


@pytest.mark.parametrize("shift", [-20, -8, 8, 60])
def test_dispatch_reverts_when_isp_was_ordered_over_an_overlapping_market_day(world, shift):
    direct(world, world.day + shift, {73 - shift: 1})
    with reverts("AlreadyOrdered", world.home.connection_id, 73, unchanged=world.contracts):
        dispatch(world)


@pytest.mark.parametrize("shift", [-20, 8])
def test_orderedIsps_shows_orders_of_overlapping_market_days(world, shift):
    direct(world, world.day + shift, {72 - shift: 1, 73 - shift: 1})
    assert world.dispatch.orderedIsps(world.home.connection_id, world.day) == 0b11 << 72
    assert world.dispatch.orderedIsps(world.home.connection_id, world.day + shift) == 0b11 << (72 - shift)


@pytest.mark.parametrize("day_bit", [*range(120, 256, 9), 128, 129, 255])
def test_orderedIsps_is_exact_when_day_crosses_a_storage_word(world, day_bit):
    """Every way in which a day can lie over words of 256 ISPs; both ends of the day are ordered."""
    day = (world.day // 256 + 1) * 256 + day_bit
    direct(world, day, {0: 1, 50: 1, 95: 1})
    assert world.dispatch.orderedIsps(world.home.connection_id, day) == 1 | 1 << 50 | 1 << 95
    with reverts("AlreadyOrdered", world.home.connection_id, 95, unchanged=world.dispatch):
        direct(world, day, {95: 1})


# ---------------------------------------------------------------------- sums and money


def test_dispatch_reverts_when_calls_sum_to_more_than_ordered(world):
    homes = (world.home, world.other_home)
    world.dispatch_parts(*(world.part(home, {75: LIMIT_WH}) for home in homes))
    with reverts("MoreThanOrdered", 75, 2_002, 2_001, unchanged=world.contracts):
        dispatch(world, world.standby, {74: 1, 75: 2})
    dispatch(world, world.standby, {74: 1, 75: 1})
    assert plain(world.dispatch.dispatchedWh(world.order_id)) == curve({74: 1, 75: 2_001})


def test_dispatch_reverts_when_balance_does_not_cover_the_rewards(world, actors):
    house = world.core.house
    house.withdraw(actors.outsider, world.free(actors.aggregator), {"from": actors.aggregator})
    terms = {"toleranceBps": 1_000, "rewardRate": 150_001, "multiplierBps": 10_000}
    reward = largest_reward([1_000, 500], [], terms)
    with reverts("InsufficientBalance", actors.aggregator, 0, reward, unchanged=world.contracts):
        dispatch(world)


@pytest.mark.parametrize("multiplier_bps", [10_000, 12_345])
def test_dispatch_locks_the_largest_rewards_to_the_last_digit(world, actors, multiplier_bps):
    home = flexworld.amend(world, world.home, multiplier_bps=multiplier_bps, tolerance_bps=777)
    free = world.free(actors.aggregator)
    tx = world.dispatch_parts(world.part(home, {72: 999, 73: 501}), world.part(world.other_home, {73: 1, 74: 13}))
    rewards = [
        largest_reward(list(quantities), [], order.fields)
        for order, quantities in zip(issued(tx), [(999, 501), (1, 13)], strict=True)
    ]
    assert world.group_lock() == sum(rewards) == free - world.free(actors.aggregator)
    emitted = [item["rewardLocked"] for item in tx.events if item.name == "ProsumerOrdered"]
    assert emitted == rewards


def test_dispatch_issues_orders_and_emits_every_field(world, actors):
    tx = world.dispatch_parts(world.part(world.home, QUANTITIES), world.part(world.other_home, {74: 7}))
    assert tx.return_value == 1
    emitted = [item for item in tx.events if item.name == "ProsumerOrdered"]
    for number, (home, quantities) in enumerate(((world.home, QUANTITIES), (world.other_home, {74: 7})), start=1):
        item = emitted[number - 1]
        assert item["prosumerOrderId"] == number
        assert item["groupId"] == world.order_id
        assert item["prosumer"] == home.account
        assert plain(item["quantitiesWh"]) == curve(quantities)
        assert item["orderedWh"] == sum(quantities.values())
        fields = plain(item["terms"])
        assert fields == {
            "groupId": world.order_id,
            "agreementId": home.agreement_id,
            "replaces": 0,
            "prosumer": home.account,
            "meterId": home.device.meter_id,
            "direction": world.direction,
            "dayFirstIsp": world.day,
            "ispCount": ISP_COUNT,
            "rewardRate": home.terms.reward_rate,
            "penaltyRate": home.terms.penalty_rate,
            "toleranceBps": home.terms.tolerance_bps,
            "multiplierBps": home.terms.multiplier_bps,
            "noticeSeconds": home.terms.notice_seconds,
            "missingIsShortfall": False,
            "quantitiesHash": bytes(brownie.web3.keccak(curve(quantities))),
            "baselineHash": home.baseline_hash,
        }
        stored = plain(world.dispatch.prosumerOrder(number))
        assert stored == {
            "status": 1,
            "groupId": world.order_id,
            "version": 0,
            "creditedWh": 0,
            "missingWh": 0,
            "replaced": False,
            "net": 0,
            "termsHash": plain(world.dispatch.hashTerms(tuple(fields.values()))),
        }
    assert plain(world.dispatch.group(world.order_id)) == {
        "payer": actors.aggregator,
        "dayFirstIsp": world.day,
        "ispCount": ISP_COUNT,
        "creditedWh": 0,
        "missingWh": 0,
        "issued": 2,
        "settled": 0,
        "finalised": False,
    }
    assert plain(world.dispatch.dispatchedWh(world.order_id)) == curve({**QUANTITIES, 74: 7})
    assert world.dispatch.orderedIsps(world.home.connection_id, world.day) == 0b11 << 72


def test_dispatch_pins_the_terms_of_the_moment(world):
    """An agreement amended after the order leaves the order as it was."""
    (order,) = issued(dispatch(world))
    flexworld.amend(world, world.home, reward_rate=1, penalty_rate=2)
    assert plain(world.dispatch.prosumerOrder(order.id)["termsHash"]) == plain(world.dispatch.hashTerms(order.terms))
    assert order.fields["rewardRate"] == world.home.terms.reward_rate
