"""
clear
├── gate open, after finalise, product outside → own error; at the second of the gate
├── provisional once; what nobody rejected is final; what changed is cleared again after the window
├── products without orders are passed over, also by finalise
├── in steps of ticks → same result, across the end of the window too
└── session without acceptance window → final at once
reject
├── one or all orders of a bundle → book, escrow, fee, word; the others keep their provisional result
├── fee at most what is freed
├── before the gate, after the window (each second), other caller, mismatch, no position, unmatched, beyond, not cleared
└── while a clearing stands unfinished → ClearingUnfinished
finalise
├── window open, twice, product not cleared → own error
└── rates that the budgets suffice for
"""

import pytest

from offchain.market.clearing import ClearingClass, clear_orders
from offchain.market.replay import unpack_result
from offchain.market.settlement import final_rates
from tests.market.test_submit import escrow, orders_of
from tests.market.world import BUY, FUNDS, SELL, SOLAR, TERMS, bundle_of
from tests.utils.evm import reverts

BIDS = bundle_of((0, BUY, 60, 1_000), (0, BUY, 50, 400), (1, BUY, 60, 300))
ASKS = bundle_of((0, SELL, 30, 700), (0, SELL, 50, 900), (1, SELL, 61, 500))


@pytest.fixture
def crossed(world, session):
    session.submit(world.traders[0], BIDS)
    session.submit(world.traders[1], ASKS)
    return session


def result(session, product):
    return unpack_result(TERMS.grid, session.market.resultOf(session.id, product))


def test_clear_waits_for_the_second_after_the_gate(world, crossed):
    world.evm.now = crossed.times.gate_closure
    with reverts("GateStillOpen", crossed.id, crossed.times.gate_closure, world.evm.now):
        crossed.clear()
    world.evm.now += 1
    assert crossed.clear()


def test_clear_is_provisional_once_and_final_for_what_changed(world, crossed):
    crossed.close_gate()
    assert crossed.clear()
    cleared = [args for name, args in world.evm.events if name == "ProductCleared"]
    assert [(args["product"], args["isFinal"]) for args in cleared] == [(0, False), (1, False)]
    book = orders_of(BIDS + ASKS)
    for product in (0, 1):
        assert result(crossed, product) == clear_orders(TERMS.grid, book[book["period"] == product])
    assert result(crossed, 0).kind is ClearingClass.MARGINAL_SELLER and result(crossed, 1).kind is ClearingClass.NONE
    assert crossed.clear() and world.evm.events == []
    crossed.reject(world.traders[0], BIDS, 0b010)
    assert crossed.clear() and world.evm.events == []  # not before the window is over
    crossed.end_acceptance()
    assert crossed.clear()
    (event,) = [args for _, args in world.evm.events]
    assert (event["product"], event["isFinal"]) == (0, True)
    left = orders_of(BIDS[:8] + BIDS[16:] + ASKS)
    assert result(crossed, 0) == clear_orders(TERMS.grid, left[left["period"] == 0])
    assert crossed.finalise()["brownVolumeWh"] == 1_000


def test_clear_is_final_at_once_when_there_is_no_window(world):
    session = world.open(acceptance_seconds=0)
    session.submit(world.traders[0], BIDS)
    session.submit(world.traders[1], ASKS)
    session.close_gate()
    session.clear()
    assert {args["isFinal"] for _, args in world.evm.events} == {True}
    with reverts("AcceptanceOver", session.id, session.times.accept_by, world.evm.now):
        session.reject(world.traders[0], BIDS, 1)
    session.finalise()


def test_clear_passes_over_products_without_orders(world, session):
    session.end_acceptance()
    assert session.clear() and world.evm.events == []
    assert session.finalise()["brownVolumeWh"] == 0
    assert session.market.resultOf(session.id, 0) == 0 == session.market.resultOf(session.id, 5_000)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_clear_gives_the_same_in_steps_across_the_window(world, crossed, step):
    with world.evm.rolled_back():
        crossed.end_acceptance()
        crossed.clear()
        expected = [crossed.market.resultOf(crossed.id, product) for product in range(8)]
    crossed.close_gate()
    assert not crossed.clear(0, 7, 1)
    with reverts("ClearingUnfinished", 1):
        crossed.reject(world.traders[0], BIDS, 1)
    crossed.end_acceptance()
    with reverts("ProductNotCleared", crossed.id, 0):
        crossed.finalise()
    while not crossed.clear(0, 7, step):
        pass
    assert [crossed.market.resultOf(crossed.id, product) for product in range(8)] == expected
    crossed.finalise()


def test_clear_refuses_when_product_is_outside_or_session_final(world, crossed):
    crossed.close_gate()
    with reverts("PeriodOutsideSession", 0, 8, 8):
        crossed.clear(0, 8)
    crossed.run_auction()
    with reverts("AlreadyFinalised", crossed.id):
        crossed.clear()
    with reverts("SessionUnknown", 99):
        world.market.clear(99, 0, 0, 1)


def test_reject_takes_orders_off_and_charges_the_fee(world, crossed):
    buyer = world.traders[0]
    crossed.close_gate()
    crossed.clear()
    pot = crossed.pot
    event = crossed.reject(buyer, BIDS, 0b001)
    left = BIDS[8:]
    fee = -(-1_000 * TERMS.rejection_fee_rate // 1_000)
    assert event == {
        "sessionId": crossed.id,
        "connectionId": buyer.connection,
        "sequence": 2,
        "positions": 1,
        "bundle": left,
        "fee": fee,
        "escrow": escrow(left),
    }
    assert world.house.balanceOf(buyer.address) == FUNDS - escrow(left) - fee
    assert crossed.pot == pot - (escrow(BIDS) - escrow(left) - fee)
    # The seller's provisional fills stand as they are.
    assert crossed.market.fillsOf(crossed.id, ASKS)["soldWh"][0] == 1_400
    crossed.end_acceptance()
    crossed.clear()
    assert crossed.market.fillsOf(crossed.id, ASKS)["soldWh"][0] == 400


def test_clear_again_in_steps_after_a_rejection(world, crossed):
    crossed.close_gate()
    crossed.clear()
    before = crossed.market.resultOf(crossed.id, 0)
    crossed.reject(world.traders[0], BIDS, 0b001)
    assert crossed.clear() and world.evm.events == []  # provisional results stand until the window ends
    assert crossed.market.resultOf(crossed.id, 0) == before
    crossed.end_acceptance()
    assert not crossed.clear(0, 7, 0)
    with reverts("ProductNotCleared", crossed.id, 0):
        crossed.finalise()
    while not crossed.clear(0, 7, 1):
        pass
    assert crossed.market.resultOf(crossed.id, 0) != before
    assert crossed.clear() and world.evm.events == []
    crossed.finalise()


def test_reject_closes_the_bundle_when_nothing_is_left(world, crossed):
    seller = world.traders[1]
    crossed.close_gate()
    crossed.clear()
    assert crossed.reject(seller, ASKS, 0b011)["bundle"] == ASKS[16:]
    event = None
    with reverts("NotMatched", 0):
        event = crossed.reject(seller, ASKS[16:], 1)
    assert event is None and crossed.bundle(seller)["placed"]
    buyer = world.traders[0]
    assert crossed.reject(buyer, BIDS, 0b011)["bundle"] == BIDS[16:]


def test_reject_all_leaves_nothing_to_settle(world, session):
    buyer, seller = world.traders[:2]
    bid, ask = bundle_of((0, BUY, 60, 500)), bundle_of((0, SELL, 60, 500))
    session.submit(buyer, bid)
    session.submit(seller, ask)
    session.close_gate()
    session.clear()
    event = session.reject(buyer, bid, 1)
    assert (event["bundle"], event["escrow"], event["sequence"]) == (b"", 0, 2)
    assert session.bundle(buyer)["placed"] is False and session.state()["openBundles"] == 1
    event = session.reject(seller, ask, 1)
    assert event["fee"] == -(-500 * TERMS.rejection_fee_rate // 1_000)
    session.run_auction()
    session.market.closeSession(session.id)
    fees = 2 * event["fee"]
    assert world.evm.event("SessionClosed")["residual"] == TERMS.surplus_budget + TERMS.reward_budget + fees


def test_reject_charges_no_more_than_it_frees(world):
    session = world.open(rejection_fee_rate=2**32 - 1)
    buyer, seller = world.traders[:2]
    bid = bundle_of((0, BUY, 60, 500))
    session.submit(buyer, bid)
    session.submit(seller, bundle_of((0, SELL, 60, 500)))
    session.close_gate()
    session.clear()
    freed = session.market.escrowOf(session.id, bid)
    assert session.reject(buyer, bid, 1)["fee"] == freed
    assert world.house.balanceOf(buyer.address) == FUNDS - freed


def test_reject_refuses(world, crossed):
    buyer, seller = world.traders[:2]
    with reverts("GateStillOpen", crossed.id, crossed.times.gate_closure, world.evm.now):
        crossed.reject(buyer, BIDS, 1)
    crossed.close_gate()
    with reverts("NotCleared", 0):
        crossed.reject(buyer, BIDS, 1)
    crossed.clear()
    with reverts("NotOwnerOf", buyer.connection, seller.address):
        crossed.reject(buyer, BIDS, 1, sender=seller.address)
    with reverts("NotModule", seller.address):
        world.market.rejectFor(crossed.id, buyer.connection, BIDS, 1, sender=seller.address)
    with reverts("BundleMismatch", crossed.id, buyer.connection, crossed.bundle(buyer)["hash"]):
        crossed.reject(buyer, ASKS, 1)
    with reverts("NoPositions"):
        crossed.reject(buyer, BIDS, 0)
    for positions, first_bad in ((0b100, 2), (0b101, 2), (0b1000, 3), (1 << 255 | 1, 255)):
        with reverts("NotMatched", first_bad):
            crossed.reject(buyer, BIDS, positions)
    crossed.reject(buyer, BIDS, 1)
    with reverts("BundleMismatch", crossed.id, buyer.connection, crossed.bundle(buyer)["hash"]):
        crossed.reject(buyer, BIDS, 1)


@pytest.mark.parametrize("late", [0, 1])
def test_reject_ends_with_the_second_of_the_window(world, crossed, late):
    crossed.close_gate()
    crossed.clear()
    world.evm.now = crossed.times.accept_by + late
    if late:
        with reverts("AcceptanceOver", crossed.id, crossed.times.accept_by, world.evm.now):
            crossed.reject(world.traders[0], BIDS, 1)
        crossed.finalise()
    else:
        with reverts("AcceptanceOpen", crossed.id, crossed.times.accept_by, world.evm.now):
            crossed.finalise()
        crossed.reject(world.traders[0], BIDS, 1)


def test_reject_and_clear_work_when_paused(world, crossed):
    world.market.pause(sender=world.admin.address)
    world.house.pause(sender=world.admin.address)
    crossed.close_gate()
    crossed.clear()
    crossed.reject(world.traders[0], BIDS, 1)
    crossed.end_acceptance()
    crossed.clear()
    crossed.finalise()
    crossed.claim(world.traders[1], ASKS)


def test_finalise_refuses_when_a_rejection_changed_a_book_or_twice(world, crossed):
    crossed.close_gate()
    crossed.clear()
    crossed.reject(world.traders[0], BIDS, 1)
    crossed.end_acceptance()
    with reverts("ProductNotCleared", crossed.id, 0):
        crossed.finalise()
    crossed.run_auction()
    with reverts("AlreadyFinalised", crossed.id):
        crossed.finalise()


@pytest.mark.parametrize(("surplus_budget", "reward_budget"), [(0, 0), (37, 11), (56_000, 4_000), (10**9, 10**9)])
def test_finalise_lowers_rates_to_what_the_budgets_suffice_for(world, surplus_budget, reward_budget):
    session = world.open(surplus_budget=surplus_budget, reward_budget=reward_budget)
    buyer, seller = world.traders[:2]
    world.set_producer_class(seller, SOLAR)
    bids = bundle_of((0, BUY, 60, 1_000), (5, BUY, 60, 333), (5, BUY, 60, 334))
    asks = bundle_of((0, SELL, 30, 700), (0, SELL, 50, 900), (5, SELL, 20, 400))
    session.submit(buyer, bids)
    session.submit(seller, asks)
    event = session.run_auction()
    book = orders_of(bids + asks)
    results = [clear_orders(TERMS.grid, book[book["period"] == product]) for product in range(8)]
    expected = final_rates(session.terms, results)
    assert (event["surplusPrice"], event["greenRewardRate"]) == (expected.surplus_price, expected.green_reward_rate)
    assert (event["brownVolumeWh"], event["greenVolumeWh"]) == (1_000, 400)
    state = session.state()
    assert (state["surplusPrice"], state["greenRewardRate"]) == (event["surplusPrice"], event["greenRewardRate"])
