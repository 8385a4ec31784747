"""
orderDirect
├── paused → reverts EnforcedPause
├── caller no DSO, suspended at once → reverts MissingRole; not the DSO of the point → NotDsoOf
├── without reason → reverts ReasonMissing
├── regime not Orange: Green, Yellow, Red, ended early, ended by time → reverts NotOrange
├── baseline of another kind or day, or committed after the gate, to the second → reverts BaselineNotUsable
├── no connection → reverts NoConnections
├── each connection
│   ├── curve of another length → reverts CurveLength; all zero → EmptyDirectOrder
│   ├── ISP that has begun → reverts DirectIspsPassed
│   ├── ISP after the regime → reverts OutsideRegime
│   └── more than the technical limit of the direction → reverts OutsideTechnicalLimit
└── else → hands the orders to dispatch at the regulated rate, emits DirectControlUsed
"""

import pytest
from eth_abi import encode

from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts

GREEN, YELLOW, ORANGE, RED = range(4)
GROUP = 2**63 + 7
UNTIL = 80
"""Position at which the regime ends."""
NOW = 10
"""Position in which tests order."""


@pytest.fixture
def baseline(flex):
    return fx.commit_baseline(flex, flex.actors.meter_operator)


@pytest.fixture
def orange(flex, baseline):
    """Orange for a request UP that was ordered in part, in the 11th ISP of its day; gives the request."""
    request_id, _, _ = fx.order(flex, {72: 999})
    clock.move_to(flex.start(NOW) + 5)
    set_regime(flex, ORANGE, request_id)
    return request_id


def set_regime(flex, level, request_id=0, until=UNTIL):
    flex.regime.setRegime(fx.POINT, level, flex.day + until, request_id, "congestion", {"from": flex.actors.dso})


def direct(quantities, connection=fx.CONNECTION):
    packed = quantities if isinstance(quantities, bytes) else fx.curve(quantities)
    return (connection, packed, b"\x07" * 32, [b"\x08" * 32])


def call(flex, baseline, orders, *, reason="overload of 12%", point=fx.POINT, sender=None):
    return flex.regime.orderDirect(point, baseline, orders, reason, {"from": sender or flex.actors.dso})


def test_orderDirect_reverts_when_paused(flex, regime, orange, baseline, actors):
    regime.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=regime):
        call(flex, baseline, [direct({72: 1})])


def test_orderDirect_reverts_when_caller_is_no_dso(flex, regime, orange, baseline, actors):
    with reverts("MissingRole", actors.outsider, system.Role.DSO, 0, unchanged=regime):
        call(flex, baseline, [direct({72: 1})], sender=actors.outsider)


def test_orderDirect_reverts_at_once_when_dso_is_suspended(flex, regime, orange, baseline, actors):
    fx.suspend(flex, actors.dso)
    with reverts("MissingRole", actors.dso, system.Role.DSO, system.Status.SUSPENDED, unchanged=regime):
        call(flex, baseline, [direct({72: 1})])


def test_orderDirect_reverts_when_point_belongs_to_another_dso(flex, regime, orange, baseline, actors):
    with reverts("NotDsoOf", fx.POINT, actors.other_dso, unchanged=regime):
        call(flex, baseline, [direct({72: 1})], sender=actors.other_dso)


def test_orderDirect_reverts_when_no_reason_is_given(flex, regime, orange, baseline):
    with reverts("ReasonMissing", unchanged=regime):
        call(flex, baseline, [direct({72: 1})], reason="")


@pytest.mark.parametrize("level", [GREEN, YELLOW, RED])
def test_orderDirect_reverts_when_regime_is_not_orange(flex, regime, orange, baseline, level):
    set_regime(flex, level)
    with reverts("NotOrange", fx.POINT, level, unchanged=regime):
        call(flex, baseline, [direct({72: 1})])


def test_orderDirect_reverts_when_orange_has_ended(flex, regime, orange, baseline):
    clock.at(flex.start(UNTIL))
    with reverts("NotOrange", fx.POINT, GREEN, unchanged=regime):
        call(flex, baseline, [direct({81: 1})])


def test_orderDirect_reverts_when_point_is_green_from_the_start(flex, regime, baseline):
    with reverts("NotOrange", fx.OTHER_POINT, GREEN, unchanged=regime):
        call(flex, baseline, [direct({72: 1})], point=fx.OTHER_POINT)


@pytest.mark.parametrize("fault", ["kind", "day", "isp_count"])
def test_orderDirect_reverts_when_baseline_is_of_another_kind_or_day(flex, regime, fault, actors):
    commitment_id = fx.commit_baseline(
        flex,
        actors.meter_operator,
        kind=0 if fault == "kind" else fx.BASELINE,
        day=flex.day + (1 if fault == "day" else 0),
        isp_count=100 if fault == "isp_count" else 96,
    )
    request_id, _, _ = fx.order(flex, {72: 999})
    clock.move_to(flex.start(NOW))
    set_regime(flex, ORANGE, request_id)
    with reverts("BaselineNotUsable", commitment_id, unchanged=regime):
        call(flex, commitment_id, [direct({72: 1})])


@pytest.mark.parametrize("late", [0, 1])
def test_orderDirect_takes_baselines_committed_until_the_gate(flex, regime, actors, late):
    request_id = fx.publish(flex)
    clock.at(flex.now + fx.HOUR + late)
    commitment_id = fx.commit_baseline(flex, actors.dso)
    clock.move_to(flex.start(NOW))
    flex.market.expireRequest(request_id, {"from": actors.outsider})
    set_regime(flex, ORANGE, request_id)
    if late:
        with reverts("BaselineNotUsable", commitment_id, unchanged=regime):
            call(flex, commitment_id, [direct({72: 1})])
    else:
        call(flex, commitment_id, [direct({72: 1})])


def test_orderDirect_reverts_when_nobody_is_ordered(flex, regime, orange, baseline):
    with reverts("NoConnections", unchanged=regime):
        call(flex, baseline, [])


def test_orderDirect_reverts_when_curve_has_another_length(flex, regime, orange, baseline):
    with reverts("CurveLength", 400, 384, unchanged=regime):
        call(flex, baseline, [direct({72: 1}), direct(fx.curve({72: 1}, 100), fx.OTHER_CONNECTION)])


def test_orderDirect_reverts_when_curve_is_empty(flex, regime, orange, baseline):
    with reverts("EmptyDirectOrder", fx.OTHER_CONNECTION, unchanged=regime):
        call(flex, baseline, [direct({72: 1}), direct({}, fx.OTHER_CONNECTION)])


@pytest.mark.parametrize("position", [0, NOW - 1, NOW])
def test_orderDirect_reverts_when_isp_has_begun(flex, regime, orange, baseline, position):
    now = flex.start(NOW) + 100
    clock.at(now)
    with reverts("DirectIspsPassed", position, now, unchanged=regime):
        call(flex, baseline, [direct({position: 1, 72: 1})])


def test_orderDirect_decides_by_the_second_when_isp_begins(flex, regime, orange, baseline):
    clock.at(flex.start(20) - 1)
    call(flex, baseline, [direct({20: 1})])
    clock.at(flex.start(20))
    with reverts("DirectIspsPassed", 20, flex.start(20), unchanged=regime):
        call(flex, baseline, [direct({20: 1})])


@pytest.mark.parametrize("position", [UNTIL, 95])
def test_orderDirect_reverts_when_isp_lies_after_the_regime(flex, regime, orange, baseline, position):
    with reverts("OutsideRegime", position, flex.day + NOW, flex.day + UNTIL, unchanged=regime):
        call(flex, baseline, [direct({72: 1, position: 1})])


def test_orderDirect_reverts_when_technical_limit_is_exceeded(flex, regime, orange, baseline):
    with reverts("OutsideTechnicalLimit", fx.CONNECTION, 73, 2_001, 2_000, unchanged=regime):
        call(flex, baseline, [direct({72: 2_000, 73: 2_001})])  # 8,000 W


def test_orderDirect_goes_by_the_limit_of_its_direction(flex, regime, baseline, actors):
    request_id = fx.publish(flex, direction=fx.DOWN)
    clock.move_to(flex.start(NOW))
    flex.market.expireRequest(request_id, {"from": actors.outsider})
    set_regime(flex, ORANGE, request_id)
    with reverts("OutsideTechnicalLimit", fx.CONNECTION, 72, 1_001, 1_000, unchanged=regime):
        call(flex, baseline, [direct({72: 1_001})])  # 4,001 W
    tx = call(flex, baseline, [direct({72: 1_000})])
    assert event(tx, "DirectIssued")["direction"] == fx.DOWN


def test_orderDirect_hands_the_orders_to_dispatch(flex, regime, orange, baseline, actors):
    orders = [direct({NOW + 1: 2_000, UNTIL - 1: 1}), direct({72: 7}, fx.OTHER_CONNECTION)]
    tx = call(flex, baseline, orders)
    assert tx.return_value == GROUP
    assert event(tx, "DirectIssued") == {
        "payer": actors.dso,
        "congestionPointId": fx.POINT,
        "direction": fx.UP,
        "dayFirstIsp": flex.day,
        "ispCount": 96,
        "rate": fx.REGULATED_RATE,
        "baselineCommitmentId": baseline,
        "ordersHash": fx.keccak(encode(["(bytes32,bytes,bytes,bytes32[])[]"], [orders])),
    }
    assert event(tx, "DirectControlUsed") == {
        "congestionPointId": fx.POINT,
        "groupId": GROUP,
        "dso": actors.dso,
        "connections": 2,
        "reason": "overload of 12%",
    }
