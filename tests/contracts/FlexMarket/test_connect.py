"""
connect
├── caller is not governance → reverts AccessManagedUnauthorized
├── connected before → reverts AlreadyConnected
└── else → emits MarketConnected; before that nothing can be published
"""

import brownie

from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


def test_connect_reverts_when_caller_is_not_governance(flex, market, actors):
    with reverts("AccessManagedUnauthorized", actors.guardian, unchanged=market):
        market.connect(actors.outsider, actors.outsider, {"from": actors.guardian})


def test_connect_reverts_when_connected_before(flex, market, actors):
    with reverts("AlreadyConnected", flex.regime, flex.dispatch, unchanged=market):
        market.connect(actors.outsider, actors.outsider, {"from": actors.admin})


def test_connect_opens_the_market(flex, core, actors):
    fresh = fx.deploy_market(actors.admin, core.authority, core.participants, core.grid, flex.commitments, core.house)
    terms = fx.make_request(flex).as_tuple()
    with brownie.reverts():
        fresh.publishRequest(terms, fx.curve(fx.REQUESTED), {"from": actors.dso})
    tx = fresh.connect(flex.regime, flex.dispatch, {"from": actors.admin})
    assert event(tx, "MarketConnected") == {"regime": flex.regime, "dispatch": flex.dispatch}
    core.house.setModule(fresh, True, {"from": actors.admin})
    fresh.publishRequest(terms, fx.curve(fx.REQUESTED), {"from": actors.dso})
