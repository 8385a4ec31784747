"""
listStandby
├── paused → reverts EnforcedPause; flex order closed → reverts FlexOrderClosed
├── not by its aggregator → reverts NotAggregatorOf; after dispatchBy → reverts DispatchClosed
├── more than 32 → reverts StandbyListTooLong
├── agreement not marked standby → reverts NotStandby; of another aggregator → reverts OtherAggregator
├── agreement not in force → reverts NotInForce
├── no meter → reverts NoMeter; baseline not committed, of another length → LeafNotCommitted, CurveLength
├── reward rate times multiplier descends → reverts StandbyNotInMeritOrder
└── else → replaces the list, emits StandbyListed
"""

import brownie
import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from offchain.chain.agreements import Action, AgreementStatus
from tests.utils import clock, flexworld
from tests.utils.plain import plain
from tests.utils.reverts import reverts


def test_listStandby_reverts_when_paused(world, actors):
    world.reassignment.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=world.reassignment):
        world.list_standby(world.standby)


def test_listStandby_reverts_when_flex_order_is_closed(world, actors):
    world.market.cancelOrder(world.order_id, {"from": actors.dso})
    with reverts("FlexOrderClosed", world.order_id, unchanged=world.reassignment):
        world.list_standby(world.standby)


def test_listStandby_reverts_when_caller_is_not_its_aggregator(world, actors):
    for sender in (actors.outsider, world.other_aggregator):
        with reverts("NotAggregatorOf", world.order_id, sender, unchanged=world.reassignment):
            world.reassignment.listStandby(world.order_id, [world.candidate(world.standby)], {"from": sender})


def test_listStandby_decides_dispatchBy_by_the_second(world):
    last = world.request.dispatch_by
    clock.at(last)
    world.list_standby(world.standby)
    clock.at(last + 1)
    with reverts("DispatchClosed", last, last + 1, unchanged=world.reassignment):
        world.list_standby()


def test_listStandby_takes_32_and_no_more(world, actors):
    one = world.candidate(world.standby)
    world.reassignment.listStandby(world.order_id, [one] * 32, {"from": actors.aggregator})
    with reverts("StandbyListTooLong", 33, 32, unchanged=world.reassignment):
        world.reassignment.listStandby(world.order_id, [one] * 33, {"from": actors.aggregator})


def test_listStandby_reverts_when_agreement_is_not_standby(world):
    with reverts("NotStandby", world.home.agreement_id, unchanged=world.reassignment):
        world.list_standby(world.home)


def test_listStandby_reverts_when_agreement_is_of_another_aggregator(world):
    rival = flexworld.amend(world, world.rival_home, standby=True)
    with reverts("OtherAggregator", rival.agreement_id, world.other_aggregator, unchanged=world.reassignment):
        world.list_standby(rival)


def test_listStandby_reverts_when_agreement_is_not_in_force(world):
    home = world.standby
    world.agreements.give(home.agreement_id, Action.SUSPEND, {"from": home.account})
    now = brownie.chain[-1].timestamp + 60
    clock.at(now)
    terms = home.terms
    with reverts(
        "NotInForce",
        home.agreement_id,
        AgreementStatus.SUSPENDED,
        terms.valid_from,
        terms.valid_until,
        now,
        unchanged=world.reassignment,
    ):
        world.list_standby(home)


def test_listStandby_reverts_when_rates_descend(world):
    with reverts("StandbyNotInMeritOrder", 2, unchanged=world.reassignment):
        world.list_standby(world.standby, world.dear_standby, world.second_standby)


@pytest.mark.parametrize(("multiplier_bps", "ordered"), [(8_000, True), (9_000, False)])
def test_listStandby_orders_by_rate_times_multiplier(world, multiplier_bps, ordered):
    """The dear standby costs 250,001 a kWh, the cheap one 200,001: 0.8 of the one is below the other, 0.9 is not."""
    dear = flexworld.amend(world, world.dear_standby, multiplier_bps=multiplier_bps)
    first, second = (dear, world.standby) if ordered else (world.standby, dear)
    world.list_standby(first, second)
    with reverts("StandbyNotInMeritOrder", 1, unchanged=world.reassignment):
        world.list_standby(second, first)


def test_listStandby_replaces_the_list_and_emits_it(world):
    world.list_standby(world.standby)
    tx = world.list_standby(world.second_standby, world.dear_standby)
    listed = world.standby_list(world.second_standby, world.dear_standby)
    packed = keccak(encode(["(uint64,bytes32,bytes32)[]"], [listed]))
    assert plain(world.reassignment.standbyHashOf(world.order_id)) == packed
    # Brownie does not decode a list of structs; what the event carries is what is hashed.
    (log,) = tx.logs
    assert keccak(bytes(log["data"])) == packed
    assert int.from_bytes(log["topics"][1]) == world.order_id


def test_listStandby_reverts_when_there_is_no_meter(world):
    home = world.standby
    isp = brownie.chain[-1].timestamp // 900 + 1
    world.core.meters.decommissionMeter(home.device.meter_id, isp, {"from": world.actors.meter_operator})
    clock.at(isp * 900)
    with reverts("NoMeter", home.connection_id, unchanged=world.reassignment):
        world.list_standby(home)


def test_listStandby_reverts_when_baseline_was_not_committed(world, actors):
    other = world.second_standby
    leaf = world.commitments.baselineLeaf(world.standby.device.meter_id, world.day, 96, other.baseline_hash)
    candidate = world.candidate(world.standby, baselineWh=other.packed_baseline)
    commitment_id = world.commitment_ids[actors.aggregator.address]
    with reverts("LeafNotCommitted", commitment_id, plain(leaf), unchanged=world.reassignment):
        world.reassignment.listStandby(world.order_id, [candidate], {"from": actors.aggregator})


def test_listStandby_reverts_when_baseline_has_another_length(world, actors):
    candidate = world.candidate(world.standby, baselineWh=world.standby.packed_baseline[4:])
    with reverts("CurveLength", 4 * 95, 4 * 96, unchanged=world.reassignment):
        world.reassignment.listStandby(world.order_id, [candidate], {"from": actors.aggregator})
