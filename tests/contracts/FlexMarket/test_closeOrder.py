"""
closeOrder
├── caller is no module → reverts NotModule
├── unknown → reverts FlexOrderUnknown; not open → OrderNotOpen
└── else, also paused → Finalised, the locks are left to settlement, emits FlexOrderClosed
"""

import pytest

from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


@pytest.fixture
def order_id(flex):
    return fx.order(flex)[2]


@pytest.mark.parametrize("caller", ["dso", "aggregator", "admin", "outsider"])
def test_closeOrder_reverts_when_caller_is_no_module(market, actors, order_id, caller):
    account = getattr(actors, caller)
    with reverts("NotModule", account, unchanged=market):
        market.closeOrder(order_id, {"from": account})


def test_closeOrder_reverts_when_order_is_unknown_or_cancelled(market, actors, order_id):
    with reverts("FlexOrderUnknown", 2, unchanged=market):
        market.closeOrder(2, {"from": actors.module})
    market.cancelOrder(order_id, {"from": actors.dso})
    with reverts("OrderNotOpen", order_id, 2, unchanged=market):
        market.closeOrder(order_id, {"from": actors.module})


def test_closeOrder_leaves_the_locks_to_settlement(flex, market, house, actors, order_id):
    before = [house.lockOf(lock) for lock in (market.escrowLockId(order_id), market.bondLockId(order_id))]
    market.pause({"from": actors.guardian})
    tx = market.closeOrder(order_id, {"from": actors.module})
    assert event(tx, "FlexOrderClosed") == {"flexOrderId": order_id, "status": 3}
    after = [house.lockOf(lock) for lock in (market.escrowLockId(order_id), market.bondLockId(order_id))]
    assert after == before != [0, 0]
    with reverts("OrderNotOpen", order_id, 3, unchanged=(market, house)):
        market.cancelOrder(order_id, {"from": actors.dso})
