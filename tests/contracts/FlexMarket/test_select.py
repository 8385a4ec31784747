"""
select
├── paused → reverts EnforcedPause
├── caller no DSO, suspended at once → reverts MissingRole
├── request unknown → reverts RequestUnknown; closed → RequestNotOpen; of another DSO → NotCaller
├── until the gate → reverts GateStillOpen; after selectBy → SelectionClosed, both to the second
├── more than 16 → reverts TooManySelections
├── request curve another one → reverts CurveMismatch
├── each selection
│   ├── offer unknown → reverts OfferUnknown; of another request → OfferOfOtherRequest
│   ├── offer withdrawn, or selected twice → reverts OfferNotOpen
│   ├── aggregator suspended → reverts MissingRole
│   ├── offer curve another one → reverts CurveMismatch
│   ├── ordered curve of another length → reverts CurveLength; all zero → EmptyCurve
│   └── more than offered, or in sum more than requested → reverts QuantityExceeded with the position
└── else → orders, escrows, bonds, the rest returns, emits FlexOrdered, OfferClosed, RequestClosed
    ├── partly → the unneeded part of the bond returns
    ├── several offers of two aggregators → the escrows fit the budget, whatever is rounded
    └── none → every offer declined
"""

import pytest

from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts


@pytest.fixture
def request_id(flex):
    return fx.publish(flex)


@pytest.fixture
def offer_id(flex, request_id):
    return fx.place(flex, request_id)


@pytest.fixture
def after_gate(flex, offer_id):
    clock.move_to(flex.now + fx.HOUR + 1)


def call(flex, request_id, selections, *, requested=None, sender=None):
    packed = [
        (offer, offered if isinstance(offered, bytes) else fx.curve(offered), ordered)
        for offer, offered, ordered in selections
    ]
    packed = [(a, b, c if isinstance(c, bytes) else fx.curve(c)) for a, b, c in packed]
    return flex.market.select(
        request_id,
        fx.curve(fx.REQUESTED) if requested is None else requested,
        packed,
        {"from": sender or flex.actors.dso},
    )


def whole(offer_id):
    return [(offer_id, fx.REQUESTED, fx.REQUESTED)]


def test_select_reverts_when_paused(flex, market, request_id, offer_id, after_gate, actors):
    market.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=market):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_when_caller_is_no_dso(flex, market, request_id, offer_id, after_gate, actors):
    with reverts("MissingRole", actors.outsider, system.Role.DSO, 0, unchanged=market):
        call(flex, request_id, whole(offer_id), sender=actors.outsider)


def test_select_reverts_at_once_when_dso_is_suspended(flex, market, request_id, offer_id, after_gate, actors):
    fx.suspend(flex, actors.dso)
    with reverts("MissingRole", actors.dso, system.Role.DSO, system.Status.SUSPENDED, unchanged=market):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_when_request_is_not_the_callers_to_select(
    flex, market, request_id, offer_id, after_gate, actors
):
    with reverts("RequestUnknown", 2, unchanged=market):
        call(flex, 2, whole(offer_id))
    with reverts("NotCaller", actors.other_dso, actors.dso, unchanged=market):
        call(flex, request_id, whole(offer_id), sender=actors.other_dso)


def test_select_reverts_when_selected_before(flex, market, house, request_id, offer_id, after_gate):
    call(flex, request_id, [])
    with reverts("RequestNotOpen", request_id, 2, unchanged=(market, house)):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_until_the_gate_closes(flex, market, request_id, offer_id):
    gate = flex.now + fx.HOUR
    clock.at(gate)
    with reverts("GateStillOpen", gate, gate, unchanged=market):
        call(flex, request_id, whole(offer_id))
    clock.at(gate + 1)
    assert list(call(flex, request_id, whole(offer_id)).return_value) == [1]


def test_select_works_in_the_last_second(flex, market, request_id, offer_id):
    clock.at(flex.now + 2 * fx.HOUR)
    assert list(call(flex, request_id, whole(offer_id)).return_value) == [1]


def test_select_reverts_when_selection_is_over(flex, market, request_id, offer_id):
    select_by = flex.now + 2 * fx.HOUR
    clock.at(select_by + 1)
    with reverts("SelectionClosed", select_by, select_by + 1, unchanged=market):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_when_given_more_than_sixteen(flex, market, request_id, offer_id, after_gate):
    with reverts("TooManySelections", 17, 16, unchanged=market):
        call(flex, request_id, whole(offer_id) * 17)


def test_select_reverts_when_request_curve_is_another(flex, market, request_id, offer_id, after_gate):
    other = fx.curve({72: 1})
    with reverts("CurveMismatch", fx.keccak(other), fx.keccak(fx.curve(fx.REQUESTED)), unchanged=market):
        call(flex, request_id, whole(offer_id), requested=other)


def test_select_reverts_when_offer_is_unknown(flex, market, request_id, offer_id, after_gate):
    with reverts("OfferUnknown", 2, unchanged=market):
        call(flex, request_id, whole(2))


def test_select_reverts_when_offer_belongs_to_another_request(flex, market, request_id, offer_id):
    other_request = fx.publish(flex)
    other_offer = fx.place(flex, other_request)
    clock.move_to(flex.now + fx.HOUR + 1)
    with reverts("OfferOfOtherRequest", other_offer, request_id, unchanged=market):
        call(flex, request_id, whole(other_offer))


def test_select_reverts_when_offer_was_withdrawn(flex, market, request_id, offer_id, actors):
    market.withdrawOffer(offer_id, {"from": actors.aggregator})
    clock.move_to(flex.now + fx.HOUR + 1)
    with reverts("OfferNotOpen", offer_id, 3, unchanged=market):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_when_offer_is_sold_twice(flex, market, house, request_id, offer_id, after_gate):
    half = {72: 500}
    with reverts("OfferNotOpen", offer_id, 2, unchanged=(market, house)):
        call(flex, request_id, [(offer_id, fx.REQUESTED, half), (offer_id, fx.REQUESTED, half)])


def test_select_reverts_at_once_when_aggregator_is_suspended(flex, market, request_id, offer_id, after_gate, actors):
    fx.suspend(flex, actors.aggregator)
    with reverts("MissingRole", actors.aggregator, system.Role.AGGREGATOR, system.Status.SUSPENDED, unchanged=market):
        call(flex, request_id, whole(offer_id))


def test_select_reverts_when_offer_curve_is_another(flex, market, request_id, offer_id, after_gate):
    other = fx.curve({72: 4_000})
    with reverts("CurveMismatch", fx.keccak(other), fx.keccak(fx.curve(fx.REQUESTED)), unchanged=market):
        call(flex, request_id, [(offer_id, other, {72: 1})])


def test_select_reverts_when_ordered_curve_has_another_length(flex, market, request_id, offer_id, after_gate):
    with reverts("CurveLength", 368, 384, unchanged=market):
        call(flex, request_id, [(offer_id, fx.REQUESTED, fx.curve({72: 1}, 92))])


def test_select_reverts_when_nothing_is_ordered(flex, market, request_id, offer_id, after_gate):
    with reverts("EmptyCurve", unchanged=market):
        call(flex, request_id, [(offer_id, fx.REQUESTED, {})])


@pytest.mark.parametrize(("position", "limit"), [(72, 1_000), (74, 501), (0, 0), (95, 0)])
def test_select_reverts_when_more_is_ordered_than_offered(
    flex, market, request_id, offer_id, after_gate, position, limit
):
    with reverts("QuantityExceeded", position, limit + 1, limit, unchanged=market):
        call(flex, request_id, [(offer_id, fx.REQUESTED, {position: limit + 1})])


def test_select_reverts_when_sum_exceeds_the_request(flex, market, request_id, offer_id):
    big = {72: 5_000}
    other = fx.place(flex, request_id, big, aggregator=flex.other_aggregator)
    clock.move_to(flex.now + fx.HOUR + 1)
    with reverts("QuantityExceeded", 72, 1_001, 1_000, unchanged=market):
        call(flex, request_id, [(offer_id, fx.REQUESTED, {72: 600}), (other, big, {72: 401})])
    call(flex, request_id, [(offer_id, fx.REQUESTED, {72: 600}), (other, big, {72: 400})])


def test_select_orders_a_part_and_returns_the_rest(flex, market, house, request_id, offer_id, after_gate, actors):
    ordered = {72: 999, 74: 2}  # 1,001 Wh
    budget, offer_bond = market.request(request_id)["budget"], market.offer(offer_id)["bond"]
    tx = call(flex, request_id, [(offer_id, fx.REQUESTED, ordered)])
    escrow = 250_253  # 1,001 Wh at 250,003 uToken/kWh = 250,253.003
    bond = 50_052  # 1,001 Wh at 50,001 uToken/kWh = 50,051.001
    assert list(tx.return_value) == [1]
    assert plain(market.flexOrder(1)) == {
        "requestId": request_id,
        "dso": actors.dso,
        "price": 250_003,
        "offerId": offer_id,
        "aggregator": actors.aggregator,
        "status": 1,
        "orderedWh": 1_001,
        "escrow": escrow,
        "bond": bond,
        "baselineCommitmentId": 1,
        "quantitiesHash": fx.keccak(fx.curve(ordered)),
    }
    assert house.lockOf(market.escrowLockId(1)) == escrow == 10**9 - house.balanceOf(actors.dso)
    assert house.lockOf(market.bondLockId(1)) == bond == 10**9 - house.balanceOf(actors.aggregator)
    assert house.lockOf(market.budgetLockId(request_id)) == house.lockOf(market.offerLockId(offer_id)) == 0
    assert market.request(request_id)["orderedWh"] == 1_001
    assert event(tx, "FlexOrdered") == {
        "flexOrderId": 1,
        "requestId": request_id,
        "offerId": offer_id,
        "aggregator": actors.aggregator,
        "price": 250_003,
        "orderedWh": fx.curve(ordered),
        "totalWh": 1_001,
        "escrow": escrow,
        "bond": bond,
    }
    assert event(tx, "OfferClosed") == {
        "offerId": offer_id,
        "status": 2,
        "bondReturned": offer_bond - bond,
    }
    assert event(tx, "RequestClosed") == {
        "requestId": request_id,
        "status": 2,
        "orderedWh": 1_001,
        "budgetReturned": budget - escrow,
    }


def test_select_fits_the_budget_when_sixteen_orders_are_rounded(flex, market, house, actors):
    single = {72: 1}
    request_id = fx.publish(flex, {72: 16}, price_cap=1)
    assert market.request(request_id)["budget"] == 1
    offers = [
        fx.place(flex, request_id, single, price=1, aggregator=aggregator)
        for aggregator in (actors.aggregator, flex.other_aggregator) * 8
    ]
    clock.move_to(flex.now + fx.HOUR + 1)
    tx = call(flex, request_id, [(o, single, single) for o in offers], requested=fx.curve({72: 16}))
    assert list(tx.return_value) == list(range(1, 17))
    assert market.request(request_id)["orderedWh"] == 16
    assert house.balanceOf(actors.dso) == 10**9


def test_select_declines_every_offer_when_none_is_given(flex, market, house, request_id, offer_id, after_gate, actors):
    tx = call(flex, request_id, [])
    assert list(tx.return_value) == []
    assert event(tx, "RequestClosed")["orderedWh"] == 0
    market.releaseOffer(offer_id, {"from": actors.outsider})
    assert house.balanceOf(actors.dso) == house.balanceOf(actors.aggregator) == 10**9
