"""
placeOffer
├── paused → reverts EnforcedPause
├── caller no aggregator, suspended at once → reverts MissingRole
├── request unknown → reverts RequestUnknown; closed → RequestNotOpen
├── after the gate, to the second → reverts GateClosed
├── regime Red → reverts MarketClosed
├── aggregator not active at the point → reverts AggregatorNotActive
├── price above the cap → reverts PriceAboveCap; at the cap → places
├── baseline of another committer, kind, day → reverts BaselineNotUsable; unknown → CommitmentUnknown
├── curve of another length → reverts CurveLength; all zero → EmptyCurve
├── bond not covered → reverts InsufficientBalance
└── else → locks the bond, rounded up, emits OfferPlaced; more than requested is allowed
"""

import pytest

from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

CAP = 300_001


@pytest.fixture
def request_id(flex):
    return fx.publish(flex)


@pytest.fixture
def commitment_id(flex, request_id):
    return fx.commit_baseline(flex, flex.actors.aggregator)


def call(flex, request_id, commitment_id, *, price=CAP, packed=None, sender=None):
    packed = fx.curve(fx.REQUESTED) if packed is None else packed
    return flex.market.placeOffer(request_id, price, commitment_id, packed, {"from": sender or flex.actors.aggregator})


def test_placeOffer_reverts_when_paused(flex, market, request_id, commitment_id, actors):
    market.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_caller_is_no_aggregator(flex, market, request_id, commitment_id, actors):
    with reverts("MissingRole", actors.dso, system.Role.AGGREGATOR, system.Status.ACTIVE, unchanged=market):
        call(flex, request_id, commitment_id, sender=actors.dso)


def test_placeOffer_reverts_at_once_when_aggregator_is_suspended(flex, market, request_id, commitment_id, actors):
    fx.suspend(flex, actors.aggregator)
    with reverts("MissingRole", actors.aggregator, system.Role.AGGREGATOR, system.Status.SUSPENDED, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_request_is_unknown_or_closed(flex, market, request_id, commitment_id, actors):
    with reverts("RequestUnknown", 2, unchanged=market):
        call(flex, 2, commitment_id)
    market.cancelRequest(request_id, {"from": actors.dso})
    with reverts("RequestNotOpen", request_id, 3, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_decides_by_the_second_when_gate_closes(flex, market, request_id, commitment_id):
    gate = flex.now + fx.HOUR
    clock.at(gate)
    assert call(flex, request_id, commitment_id).return_value == 1
    clock.at(gate + 1)
    with reverts("GateClosed", gate, gate + 1, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_regime_is_red(flex, market, regime, request_id, commitment_id, actors):
    regime.setRegime(fx.POINT, 3, flex.day, 0, "transformer fault", {"from": actors.dso})
    with reverts("MarketClosed", fx.POINT, 3, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_aggregator_is_not_active_at_the_point(
    flex, market, grid, request_id, commitment_id, actors
):
    grid.deactivateAggregator(fx.POINT, {"from": actors.aggregator})
    with reverts("AggregatorNotActive", fx.POINT, actors.aggregator, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_point_was_withdrawn(flex, market, grid, request_id, commitment_id, actors):
    grid.withdrawCongestionPoint(fx.POINT, {"from": actors.dso})
    with reverts("AggregatorNotActive", fx.POINT, actors.aggregator, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_price_is_above_the_cap(flex, market, request_id, commitment_id):
    with reverts("PriceAboveCap", CAP + 1, CAP, unchanged=market):
        call(flex, request_id, commitment_id, price=CAP + 1)


@pytest.mark.parametrize("fault", ["committer", "kind", "day", "isp_count"])
def test_placeOffer_reverts_when_baseline_is_not_its_own_for_the_day(flex, market, request_id, actors, fault):
    commitment_id = fx.commit_baseline(
        flex,
        flex.other_aggregator if fault == "committer" else actors.aggregator,
        kind=0 if fault == "kind" else fx.BASELINE,
        day=flex.day + (1 if fault == "day" else 0),
        isp_count=92 if fault == "isp_count" else 96,
    )
    with reverts("BaselineNotUsable", commitment_id, unchanged=market):
        call(flex, request_id, commitment_id)


def test_placeOffer_reverts_when_commitment_is_unknown(flex, market, request_id):
    with reverts("CommitmentUnknown", 1, unchanged=market):
        call(flex, request_id, 1)


@pytest.mark.parametrize("length", [0, 368, 400])
def test_placeOffer_reverts_when_curve_has_another_length(flex, market, request_id, commitment_id, length):
    with reverts("CurveLength", length, 384, unchanged=market):
        call(flex, request_id, commitment_id, packed=b"\x01" * length)


def test_placeOffer_reverts_when_curve_is_empty(flex, market, request_id, commitment_id):
    with reverts("EmptyCurve", unchanged=market):
        call(flex, request_id, commitment_id, packed=bytes(384))


def test_placeOffer_reverts_when_bond_is_not_covered(flex, market, house, request_id, commitment_id, actors):
    free = house.balanceOf(actors.aggregator)
    energy_wh = 2**32 - 2
    bond = -(-energy_wh * 50_001 // 1000)
    with reverts("InsufficientBalance", actors.aggregator, free, bond, unchanged=(market, house)):
        call(flex, request_id, commitment_id, packed=fx.curve({0: energy_wh}))


def test_placeOffer_locks_the_bond_when_price_is_at_the_cap(flex, market, house, request_id, commitment_id, actors):
    offered = {72: 9_999, 0: 1}
    tx = call(flex, request_id, commitment_id, packed=fx.curve(offered))
    bond = 500_010  # 10,000 Wh at 50,001 uToken/kWh
    assert tx.return_value == 1
    assert house.lockOf(market.offerLockId(1)) == bond == 10**9 - house.balanceOf(actors.aggregator)
    assert plain(market.offer(1)) == {
        "requestId": request_id,
        "aggregator": actors.aggregator,
        "price": CAP,
        "status": 1,
        "baselineCommitmentId": commitment_id,
        "bond": bond,
        "quantitiesHash": fx.keccak(fx.curve(offered)),
    }
    assert event(tx, "OfferPlaced") == {
        "offerId": 1,
        "requestId": request_id,
        "aggregator": actors.aggregator,
        "price": CAP,
        "baselineCommitmentId": commitment_id,
        "quantitiesWh": fx.curve(offered),
        "offeredWh": 10_000,
        "bond": bond,
    }
