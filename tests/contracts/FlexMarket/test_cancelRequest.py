"""
cancelRequest
├── unknown → reverts RequestUnknown
├── not open → reverts RequestNotOpen
├── caller is not its DSO → reverts NotCaller
├── after the gate, to the second → reverts GateClosed
└── else, also paused or with the DSO suspended → budget returns, offers can be released, emits RequestClosed
"""

import pytest

from tests.utils import clock
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


@pytest.fixture
def request_id(flex):
    return fx.publish(flex)


def test_cancelRequest_reverts_when_request_is_unknown(market, actors, request_id):
    with reverts("RequestUnknown", 2, unchanged=market):
        market.cancelRequest(2, {"from": actors.dso})


def test_cancelRequest_reverts_when_cancelled_before(market, house, actors, request_id):
    market.cancelRequest(request_id, {"from": actors.dso})
    with reverts("RequestNotOpen", request_id, 3, unchanged=(market, house)):
        market.cancelRequest(request_id, {"from": actors.dso})


def test_cancelRequest_reverts_when_caller_is_not_its_dso(market, actors, request_id):
    with reverts("NotCaller", actors.other_dso, actors.dso, unchanged=market):
        market.cancelRequest(request_id, {"from": actors.other_dso})


def test_cancelRequest_reverts_when_gate_has_closed(flex, market, house, actors, request_id):
    gate = flex.now + fx.HOUR
    clock.at(gate + 1)
    with reverts("GateClosed", gate, gate + 1, unchanged=(market, house)):
        market.cancelRequest(request_id, {"from": actors.dso})


def test_cancelRequest_returns_the_budget_when_gate_is_about_to_close(flex, market, house, actors, request_id):
    offer_id = fx.place(flex, request_id)
    free, budget = house.balanceOf(actors.dso), market.request(request_id)["budget"]
    market.pause({"from": actors.guardian})
    fx.suspend(flex, actors.dso)
    clock.at(flex.now + fx.HOUR)
    tx = market.cancelRequest(request_id, {"from": actors.dso})
    assert event(tx, "RequestClosed") == {
        "requestId": request_id,
        "status": 3,
        "orderedWh": 0,
        "budgetReturned": budget,
    }
    assert house.balanceOf(actors.dso) == free + budget
    assert house.lockOf(market.budgetLockId(request_id)) == 0
    market.releaseOffer(offer_id, {"from": actors.outsider})
    assert house.balanceOf(actors.aggregator) == 10**9
