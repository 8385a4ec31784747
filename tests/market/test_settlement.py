"""MarketSettlement: outcomes against the twin, who is paid, what is refused."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.clearing import clear_orders
from offchain.market.netting import MeteredWindow, Position, net
from offchain.market.orders import orders, unpack_bundle
from offchain.market.settlement import FinalRates, Outcome, bundle_fills, outcome
from tests.market.settling import ISPS, meter_of, position, span_of
from tests.market.world import BUY, SELL, SOLAR, TERMS, bundle_of, price_tick
from tests.utils.evm import reverts

AT_120 = price_tick(120_000)
SELLS = bundle_of((0, SELL, AT_120, 1_000), (5, SELL, AT_120, 500))
BUYS = bundle_of((0, BUY, AT_120, 1_000), (5, BUY, AT_120, 500))
DELIVERED = [(0, 500), (0, 500), (0, 250), (0, 250), (0, 0), (0, 0), (0, 0), (0, 0)]
TAKEN = [(x, i) for i, x in DELIVERED]
NOTHING = [(0, 0)] * 8


@pytest.fixture
def matched(settling):
    """The first trader sold to the second, brown in period 0 and green in period 1."""
    settling.set_producer_class(settling.traders[0], SOLAR)
    session = settling.open()
    session.submit(settling.traders[0], SELLS)
    session.submit(settling.traders[1], BUYS)
    session.run_auction()
    return session


def settle(world, session, trader, bundle, evidence) -> Outcome:
    found = world.settlement.settle(session.id, trader.connection, [position(session, bundle)], [evidence])
    return Outcome(*found.values())


def test_settle_pays_both_sides_when_all_is_delivered(settling, matched):
    seller, buyer = settling.traders[:2]
    evidence = settling.anchor(matched, {seller: DELIVERED, buyer: TAKEN})
    before = settling.house.balanceOf(seller.address)
    sold = settle(settling, matched, seller, SELLS, evidence[seller])
    # 1,000 and 500 Wh at 120,000; 70.007 per Wh guaranteed; a penalty for brown, a reward for green energy.
    assert (sold.receipts, sold.guarantee, sold.charges, sold.green_reward) == (180_000, 105_011, 5_000, 5_000)
    assert sold.payout == 285_011
    event = settling.evm.event("TraderSettled")
    assert (event["trader"], event["metered"]) == (seller.address, True)
    assert Outcome(*event["outcome"].values()) == sold
    fee = 1_502  # 1,500 Wh at 1,001, rounded up; it was locked, the rest of the escrow comes back
    assert settling.house.balanceOf(seller.address) - before == sold.payout
    bought = settle(settling, matched, buyer, BUYS, evidence[buyer])
    assert (bought.payout, bought.surplus_wh) == (0, 0)
    settling.market.closeSession(matched.id)
    budgets = TERMS.surplus_budget + TERMS.reward_budget
    assert settling.evm.event("SessionClosed")["residual"] == budgets + 2 * fee + sold.charges - sold.green_reward
    assert matched.pot == 0


def test_settle_refuses_a_second_time(settling, matched):
    seller = settling.traders[0]
    evidence = settling.anchor(matched, {seller: DELIVERED})
    settle(settling, matched, seller, SELLS, evidence[seller])
    with reverts("AlreadySettled", matched.id, seller.connection):
        settle(settling, matched, seller, SELLS, evidence[seller])


def test_settle_refuses_another_bundle(settling, matched):
    seller = settling.traders[0]
    evidence = settling.anchor(matched, {seller: DELIVERED})
    with reverts("BundleMismatch", matched.id, seller.connection, matched.bundle(seller)["hash"]):
        settle(settling, matched, seller, BUYS, evidence[seller])


def test_settle_refuses_before_the_end_of_delivery(settling, matched):
    seller = settling.traders[0]
    evidence = settling.anchor(matched, {seller: DELIVERED})
    end = matched.times.delivery_end
    settling.evm.now = end - 1
    with reverts("DeliveryNotOver", matched.id, end, end - 1):
        settle(settling, matched, seller, SELLS, evidence[seller])


def test_settle_refuses_the_meter_of_another_connection(settling, matched):
    seller, buyer = settling.traders[:2]
    evidence = settling.anchor(matched, {seller: DELIVERED, buyer: TAKEN})
    with reverts("MeterOfOtherConnection", meter_of(buyer), seller.connection):
        settle(settling, matched, seller, SELLS, evidence[buyer])


def test_settle_refuses_readings_that_do_not_cover_the_session(settling, matched):
    seller = settling.traders[0]
    settling.anchor(matched, {seller: DELIVERED})
    with reverts("IspNotCovered", matched.first_isp):
        settling.settlement.settle(matched.id, seller.connection, [position(matched, SELLS)], [])


def test_settle_refuses_a_day_that_nobody_anchored(settling, matched):
    seller = settling.traders[0]
    evidence = settling.anchor(matched, {seller: DELIVERED})
    forged = evidence[seller] | {"day": evidence[seller]["day"] | {"values": bytes(8 * ISPS)}}
    with pytest.raises(Exception, match="LeafNotAnchored"):
        settle(settling, matched, seller, SELLS, forged)


def test_settle_does_not_take_a_retired_meter_for_missing_readings(settling, matched):
    """Otherwise a seller that changed its meter would bring the old one and owe nothing."""
    seller = settling.traders[0]
    settling.evm.now = (matched.first_isp + 2) * SECONDS_PER_ISP
    settling.meters.decommissionMeter(meter_of(seller), matched.first_isp + 2, sender=settling.meter_operator.address)
    evidence = settling.anchor(matched, {seller: [(0, 500), (0, 500), *[None] * 6]})
    with reverts("IspNotCovered", matched.first_isp + 2):
        settle(settling, matched, seller, SELLS, evidence[seller])


def test_settle_refuses_days_that_begin_after_the_window(settling, matched):
    seller = settling.traders[0]
    later = SimpleNamespace(first_isp=matched.first_isp + 1)
    evidence = settling.anchor(later, {seller: DELIVERED})
    with reverts("IspNotCovered", matched.first_isp):
        settle(settling, matched, seller, SELLS, evidence[seller])


def test_settle_refuses_a_connection_without_a_bundle(settling, matched):
    stranger = settling.traders[2]
    evidence = settling.anchor(matched, {stranger: NOTHING})
    with reverts("BundleMismatch", matched.id, stranger.connection, bytes(25)):
        settling.settlement.settle(matched.id, stranger.connection, [], [evidence[stranger]])


def test_settle_missing_waits_for_the_deadline(settling, matched):
    seller = settling.traders[0]
    due = settling.settlement.settleBy(matched.id)
    assert due == matched.times.settle_by
    settling.evm.now = due - 1
    with reverts("ReadingsStillDue", matched.id, due, due - 1):
        settling.settlement.settleMissing(matched.id, seller.connection, [position(matched, SELLS)])
    settling.evm.now = due
    found = Outcome(
        *settling.settlement.settleMissing(matched.id, seller.connection, [position(matched, SELLS)]).values()
    )
    assert found.payout == found.guarantee
    assert settling.evm.event("TraderSettled")["metered"] is False


orders_of_a_trader = st.lists(
    st.tuples(
        st.integers(0, TERMS.product_count - 1),
        st.integers(0, 1),
        st.sampled_from([0, 5, 10, 34, 36, 60]),
        st.integers(TERMS.min_quantity_wh, 2_000),
    ),
    min_size=1,
    max_size=5,
)
readings = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(0, 1_500), st.integers(0, 1_500))), min_size=8, max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_outcomes_equal_the_twin_and_the_pot_pays_them_all(settling, data):
    with settling.evm.rolled_back():
        traders = settling.traders[:3]
        for trader in traders:
            settling.set_producer_class(trader, SOLAR)
        session = settling.open()
        bundles = {trader: orders(data.draw(orders_of_a_trader)).tobytes() for trader in traders}
        for trader, bundle in bundles.items():
            session.submit(trader, bundle)
        session.run_auction()
        state = session.state()
        rates = FinalRates(state["surplusPrice"], state["greenRewardRate"])
        books = {trader: unpack_bundle(TERMS.grid, bundle) for trader, bundle in bundles.items()}
        everything = np.concatenate(list(books.values()))
        results = [clear_orders(TERMS.grid, everything[everything["period"] == p]) for p in range(TERMS.product_count)]
        metered = {trader: data.draw(readings) for trader in traders}
        evidence = settling.anchor(session, metered)
        for trader in data.draw(st.permutations(traders)):
            fills = bundle_fills(TERMS, results, books[trader])
            own = Position(session.id, span_of(session), fills)
            netted = net([own], MeteredWindow.of(session.first_isp, metered[trader])).sessions[session.id]
            expected = outcome(TERMS, rates, fills, netted)
            found, injected = settling.settlement.outcomeOf(
                session.id, trader.connection, [position(session, bundles[trader])], [evidence[trader]]
            )
            assert list(found.values()) == list(asdict(expected).values())
            assert list(injected) == netted.injected_wh
            assert settle(settling, session, trader, bundles[trader], evidence[trader]) == expected
        settling.market.closeSession(session.id)
        assert session.pot == 0


def test_settle_refuses_a_session_that_nobody_opened(settling, matched):
    seller, unknown = settling.traders[0], matched.id + 1
    evidence = settling.anchor(matched, {seller: DELIVERED})
    for call in (settling.settlement.settle, settling.settlement.outcomeOf):
        with reverts("SessionUnknown", unknown):
            call(unknown, seller.connection, [], [evidence[seller]])
    for call in (settling.settlement.readingsUntil, settling.settlement.settleBy):
        with reverts("SessionUnknown", unknown):
            call(unknown)
    with reverts("SessionUnknown", unknown):
        settling.settlement.settleMissing(unknown, seller.connection, [])
