"""
releaseOffer
├── unknown → reverts OfferUnknown; not open → OfferNotOpen
├── request open and selection not over, to the second → reverts SelectionStillOpen
└── request cancelled, selected without this offer, or selection over → bond returns, emits OfferClosed
"""

from tests.utils import clock
from tests.utils import flexibility as fx
from tests.utils.plain import event
from tests.utils.reverts import reverts


def test_releaseOffer_reverts_when_offer_is_unknown(market, actors):
    with reverts("OfferUnknown", 1, unchanged=market):
        market.releaseOffer(1, {"from": actors.outsider})


def test_releaseOffer_decides_by_the_second_when_nobody_expires_the_request(flex, market, house, actors):
    offer_id, select_by = fx.place(flex, fx.publish(flex)), flex.now + 2 * fx.HOUR
    bond = market.offer(offer_id)["bond"]
    for target in (market, house):
        target.pause({"from": actors.guardian})
    clock.at(select_by)
    with reverts("SelectionStillOpen", select_by, select_by, unchanged=(market, house)):
        market.releaseOffer(offer_id, {"from": actors.outsider})
    clock.at(select_by + 1)
    tx = market.releaseOffer(offer_id, {"from": actors.outsider})
    assert event(tx, "OfferClosed") == {"offerId": offer_id, "status": 4, "bondReturned": bond}
    assert house.balanceOf(actors.aggregator) == 10**9
    with reverts("OfferNotOpen", offer_id, 4, unchanged=(market, house)):
        market.releaseOffer(offer_id, {"from": actors.outsider})


def test_releaseOffer_returns_the_bond_when_another_offer_was_selected(flex, market, house, actors):
    request_id = fx.publish(flex)
    chosen = fx.place(flex, request_id)
    left = fx.place(flex, request_id, aggregator=flex.other_aggregator)
    fx.select(flex, request_id, [(chosen, fx.REQUESTED, fx.REQUESTED)])
    market.releaseOffer(left, {"from": actors.outsider})
    assert house.balanceOf(flex.other_aggregator) == 10**9
    with reverts("OfferNotOpen", chosen, 2, unchanged=(market, house)):
        market.releaseOffer(chosen, {"from": actors.outsider})


def test_releaseOffer_returns_the_bond_when_request_was_cancelled(flex, market, house, actors):
    request_id = fx.publish(flex)
    offer_id = fx.place(flex, request_id)
    market.cancelRequest(request_id, {"from": actors.dso})
    market.releaseOffer(offer_id, {"from": actors.outsider})
    assert house.balanceOf(actors.aggregator) == 10**9
