"""
cancelOrder
├── unknown → reverts FlexOrderUnknown; not open → OrderNotOpen
├── caller is not its DSO → reverts NotCaller
├── something of it is dispatched → reverts OrderAlreadyDispatched
└── else, also paused → escrow and bond return, emits FlexOrderClosed
"""

import pytest

from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


@pytest.fixture
def order_id(flex):
    return fx.order(flex)[2]


def test_cancelOrder_reverts_when_order_is_unknown(market, actors, order_id):
    with reverts("FlexOrderUnknown", 2, unchanged=market):
        market.cancelOrder(2, {"from": actors.dso})


@pytest.mark.parametrize("caller", ["aggregator", "other_dso", "outsider"])
def test_cancelOrder_reverts_when_caller_is_not_its_dso(market, actors, order_id, caller):
    account = getattr(actors, caller)
    with reverts("NotCaller", account, actors.dso, unchanged=market):
        market.cancelOrder(order_id, {"from": account})


def test_cancelOrder_reverts_when_something_is_dispatched(flex, market, house, actors, order_id):
    flex.dispatch.setIssued(order_id, 1, {"from": actors.admin})
    with reverts("OrderAlreadyDispatched", order_id, unchanged=(market, house)):
        market.cancelOrder(order_id, {"from": actors.dso})


def test_cancelOrder_returns_escrow_and_bond(flex, market, house, actors, order_id):
    market.pause({"from": actors.guardian})
    tx = market.cancelOrder(order_id, {"from": actors.dso})
    assert event(tx, "FlexOrderClosed") == {"flexOrderId": order_id, "status": 2}
    assert house.balanceOf(actors.dso) == house.balanceOf(actors.aggregator) == 10**9
    with reverts("OrderNotOpen", order_id, 2, unchanged=(market, house)):
        market.cancelOrder(order_id, {"from": actors.dso})
