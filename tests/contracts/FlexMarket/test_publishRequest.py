"""
publishRequest
├── paused → reverts EnforcedPause
├── caller no DSO, suspended at once → reverts MissingRole
├── congestion point never declared or withdrawn → reverts CongestionPointUnknown; of another DSO → NotDsoOf
├── regime Red → reverts MarketClosed; Yellow → publishes
├── number of ISPs not 92, 96, 100 → reverts InvalidIspCount
├── curve of another length → reverts CurveLength; all zero → EmptyCurve
├── deadlines: now <= gate < selectBy <= dispatchBy < first ISP with a quantity, else reverts InvalidDeadlines
├── budget not covered → reverts InsufficientBalance
└── else → budget in escrow, rounded up, emits RequestPublished
"""

import pytest

from offchain.domain.curves import MISSING
from offchain.domain.units import cost_up
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts

GREEN, YELLOW, ORANGE, RED = range(4)


def call(flex, quantities=None, *, packed=None, sender=None, **changed):
    terms = fx.make_request(flex, **changed)
    packed = fx.curve(quantities or fx.REQUESTED, terms.isp_count) if packed is None else packed
    return flex.market.publishRequest(terms.as_tuple(), packed, {"from": sender or flex.actors.dso})


def test_publishRequest_reverts_when_paused(flex, market, house, actors):
    market.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=(market, house)):
        call(flex)


def test_publishRequest_reverts_when_caller_is_no_dso(flex, market, actors):
    with reverts("MissingRole", actors.outsider, system.Role.DSO, 0, unchanged=market):
        call(flex, sender=actors.outsider)


def test_publishRequest_reverts_at_once_when_dso_is_suspended(flex, market, actors):
    fx.suspend(flex, actors.dso)
    with reverts("MissingRole", actors.dso, system.Role.DSO, system.Status.SUSPENDED, unchanged=market):
        call(flex)


def test_publishRequest_reverts_when_congestion_point_is_unknown(flex, market, grid, actors):
    with reverts("CongestionPointUnknown", b"\x05" * 32, unchanged=market):
        call(flex, congestion_point_id=b"\x05" * 32)
    grid.withdrawCongestionPoint(fx.POINT, {"from": actors.dso})
    with reverts("CongestionPointUnknown", fx.POINT, unchanged=market):
        call(flex)


def test_publishRequest_reverts_when_point_belongs_to_another_dso(flex, market, actors):
    with reverts("NotDsoOf", fx.POINT, actors.other_dso, unchanged=market):
        call(flex, sender=actors.other_dso)


def test_publishRequest_reverts_when_regime_is_red_until_it_ends(flex, market, regime, actors):
    until = flex.now // 900 + 2
    regime.setRegime(fx.POINT, RED, until, 0, "transformer fault", {"from": actors.dso})
    clock.at(until * 900 - 1)
    with reverts("MarketClosed", fx.POINT, RED, unchanged=market):
        call(flex)
    assert call(flex, congestion_point_id=fx.OTHER_POINT).return_value == 1
    clock.at(until * 900)
    assert call(flex).return_value == 2


def test_publishRequest_publishes_when_regime_is_yellow(flex, regime, actors):
    regime.setRegime(fx.POINT, YELLOW, flex.day, 0, "congestion forecast", {"from": actors.dso})
    assert call(flex).return_value == 1


@pytest.mark.parametrize("isp_count", [0, 91, 95, 97, 104])
def test_publishRequest_reverts_when_a_day_cannot_have_so_many_isps(flex, market, isp_count):
    with reverts("InvalidIspCount", isp_count, unchanged=market):
        call(flex, isp_count=isp_count)


@pytest.mark.parametrize("isp_count", [92, 96, 100])
def test_publishRequest_publishes_days_of_every_length(flex, market, isp_count):
    last = {isp_count - 1: MISSING - 1}
    call(flex, last, isp_count=isp_count, price_cap=1)
    assert market.request(1)["requestedWh"] == MISSING - 1


@pytest.mark.parametrize("length", [0, 95 * 4, 96 * 4 - 1, 96 * 4 + 1, 97 * 4])
def test_publishRequest_reverts_when_curve_has_another_length(flex, market, length):
    with reverts("CurveLength", length, 384, unchanged=market):
        call(flex, packed=b"\x00\x00\x00\x01" * (length // 4) + b"\x01" * (length % 4))


def test_publishRequest_reverts_when_curve_is_empty(flex, market):
    with reverts("EmptyCurve", unchanged=market):
        call(flex, packed=bytes(384))


@pytest.mark.parametrize(
    "changed",
    [
        {"gate_closure": -1},
        {"select_by": 3_600},
        {"select_by": 3_599},
        {"dispatch_by": 7_199},
        {"dispatch_by": 12 * 3_600 + 72 * 900},
    ],
)
def test_publishRequest_reverts_when_deadlines_are_out_of_order(flex, market, changed):
    changed = {name: flex.now + seconds for name, seconds in changed.items()}
    terms = fx.make_request(flex, **changed)
    clock.at(flex.now + 10)
    with reverts(
        "InvalidDeadlines",
        terms.gate_closure,
        terms.select_by,
        terms.dispatch_by,
        flex.start(72),
        unchanged=market,
    ):
        call(flex, **changed)


def test_publishRequest_publishes_when_deadlines_are_as_tight_as_can_be(flex, market):
    now = flex.start(72) - 2
    clock.at(now)
    tx = call(flex, gate_closure=now, select_by=now + 1, dispatch_by=now + 1)
    assert tx.return_value == 1


def test_publishRequest_reverts_when_budget_is_not_covered(flex, market, house, actors):
    free = house.balanceOf(actors.dso)
    budget = cost_up(sum(fx.REQUESTED.values()), 300_000_001)
    with reverts("InsufficientBalance", actors.dso, free, budget, unchanged=(market, house)):
        call(flex, price_cap=300_000_001)


def test_publishRequest_puts_the_budget_in_escrow(flex, market, house, actors):
    free = house.balanceOf(actors.dso)
    terms = fx.make_request(flex)
    tx = call(flex)
    budget = 1_050_304  # 3,501 Wh at 300,001 uToken/kWh = 1,050,303.501
    assert tx.return_value == 1
    assert house.lockOf(market.budgetLockId(1)) == budget == free - house.balanceOf(actors.dso)
    stored = plain(market.request(1))
    assert tuple(map(plain, stored.pop("terms").values())) == terms.as_tuple()
    assert stored == {
        "dso": actors.dso,
        "status": 1,
        "quantitiesHash": fx.keccak(fx.curve(fx.REQUESTED)),
        "requestedWh": 3_501,
        "orderedWh": 0,
        "budget": budget,
    }
    emitted = event(tx, "RequestPublished")
    assert tuple(emitted.pop("terms").values()) == terms.as_tuple()
    assert emitted == {
        "requestId": 1,
        "congestionPointId": fx.POINT,
        "dso": actors.dso,
        "quantitiesWh": fx.curve(fx.REQUESTED),
        "requestedWh": 3_501,
        "budget": budget,
    }
