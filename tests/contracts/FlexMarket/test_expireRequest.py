"""
expireRequest
├── unknown → reverts RequestUnknown
├── not open (cancelled, selected, expired) → reverts RequestNotOpen
├── until selectBy, to the second → reverts SelectionStillOpen
└── else, whoever calls, also paused → budget returns, emits RequestClosed
"""

from tests.utils import clock
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


def test_expireRequest_reverts_when_request_is_unknown(market, actors):
    with reverts("RequestUnknown", 1, unchanged=market):
        market.expireRequest(1, {"from": actors.outsider})


def test_expireRequest_reverts_when_request_is_closed(flex, market, house, actors):
    cancelled, expired = fx.publish(flex), fx.publish(flex)
    market.cancelRequest(cancelled, {"from": actors.dso})
    selected, _, _ = fx.order(flex)
    clock.move_to(flex.now + 2 * fx.HOUR + 1)
    market.expireRequest(expired, {"from": actors.outsider})
    for request_id, status in ((selected, 2), (cancelled, 3), (expired, 4)):
        with reverts("RequestNotOpen", request_id, status, unchanged=(market, house)):
            market.expireRequest(request_id, {"from": actors.outsider})


def test_expireRequest_decides_by_the_second(flex, market, house, actors):
    request_id, select_by = fx.publish(flex), flex.now + 2 * fx.HOUR
    budget = market.request(request_id)["budget"]
    clock.at(select_by)
    with reverts("SelectionStillOpen", select_by, select_by, unchanged=(market, house)):
        market.expireRequest(request_id, {"from": actors.outsider})
    clock.at(select_by + 1)
    tx = market.expireRequest(request_id, {"from": actors.outsider})
    assert event(tx, "RequestClosed") == {
        "requestId": request_id,
        "status": 4,
        "orderedWh": 0,
        "budgetReturned": budget,
    }
    assert house.balanceOf(actors.dso) == 10**9
    assert house.lockOf(market.budgetLockId(request_id)) == 0


def test_expireRequest_works_when_paused(flex, market, house, actors):
    request_id = fx.publish(flex)
    for target in (market, house):
        target.pause({"from": actors.guardian})
    clock.move_to(flex.now + 2 * fx.HOUR + 1)
    market.expireRequest(request_id, {"from": actors.outsider})
    assert house.balanceOf(actors.dso) == 10**9
