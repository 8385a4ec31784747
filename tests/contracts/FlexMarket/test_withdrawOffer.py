"""
withdrawOffer
├── unknown → reverts OfferUnknown; not open → OfferNotOpen
├── caller is not its aggregator → reverts NotCaller
├── after the gate, to the second → reverts GateClosed
└── else, also paused or suspended → bond returns, emits OfferClosed
"""

import pytest

from tests.utils import clock
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


@pytest.fixture
def offer_id(flex):
    return fx.place(flex, fx.publish(flex))


def test_withdrawOffer_reverts_when_offer_is_unknown(market, actors, offer_id):
    with reverts("OfferUnknown", 2, unchanged=market):
        market.withdrawOffer(2, {"from": actors.aggregator})


def test_withdrawOffer_reverts_when_withdrawn_before(market, house, actors, offer_id):
    market.withdrawOffer(offer_id, {"from": actors.aggregator})
    with reverts("OfferNotOpen", offer_id, 3, unchanged=(market, house)):
        market.withdrawOffer(offer_id, {"from": actors.aggregator})


def test_withdrawOffer_reverts_when_caller_is_another_aggregator(flex, market, actors, offer_id):
    with reverts("NotCaller", flex.other_aggregator, actors.aggregator, unchanged=market):
        market.withdrawOffer(offer_id, {"from": flex.other_aggregator})


def test_withdrawOffer_reverts_when_gate_has_closed(flex, market, house, actors, offer_id):
    gate = flex.now + fx.HOUR
    clock.at(gate + 1)
    with reverts("GateClosed", gate, gate + 1, unchanged=(market, house)):
        market.withdrawOffer(offer_id, {"from": actors.aggregator})


def test_withdrawOffer_returns_the_bond_when_gate_is_about_to_close(flex, market, house, actors, offer_id):
    bond = market.offer(offer_id)["bond"]
    market.pause({"from": actors.guardian})
    fx.suspend(flex, actors.aggregator)
    clock.at(flex.now + fx.HOUR)
    tx = market.withdrawOffer(offer_id, {"from": actors.aggregator})
    assert event(tx, "OfferClosed") == {"offerId": offer_id, "status": 3, "bondReturned": bond}
    assert house.balanceOf(actors.aggregator) == 10**9
    assert house.lockOf(market.offerLockId(offer_id)) == 0
