"""Auctions and pool of the same hours: the pool gets metered energy that no auction used, and nothing twice."""

import pytest

from tests.market.pooling import TERMS, periods
from tests.market.settling import position
from tests.market.world import BUY, SELL, bundle_of, price_tick
from tests.utils.evm import reverts

AT = price_tick(120_000)
SELLS = bundle_of((0, SELL, AT, 1_000))
BUYS = bundle_of((0, BUY, AT, 1_000))


@pytest.fixture
def traded(pooling):
    """Two members of a pool that traded 1,000 Wh of its first period in an auction."""
    pool = pooling.open_pool()
    session = pooling.open()
    assert session.first_isp == TERMS.first_isp
    seller, buyer = pooling.traders[:2]
    for trader, bundle in ((seller, SELLS), (buyer, BUYS)):
        pool.join(trader)
        session.submit(trader, bundle)
    return pool, session, seller, buyer


@pytest.mark.parametrize(
    ("net_wh", "left"),
    [
        (1_500, [(0, 1, 0, 500)]),  # the auction used 1,000
        (1_000, []),
        (400, []),  # short of 600: the auction's matter, not a demand of the pool
        (-300, [(0, 0, 0, 300)]),  # import that nobody sold
    ],
)
def test_report_leaves_out_what_the_seller_delivered_to_an_auction(pooling, traded, net_wh, left):
    pool, session, seller, _ = traded
    session.run_auction()
    evidence = pool.anchor({seller: periods(net_wh, 0, 0, 0)})
    assert pool.book(pool.report(seller, evidence[seller], positions=[position(session, SELLS)])) == left


@pytest.mark.parametrize(("net_wh", "left"), [(-1_500, [(0, 0, 0, 500)]), (-400, []), (300, [(0, 1, 0, 300)])])
def test_report_leaves_out_what_the_buyer_took_from_an_auction(pooling, traded, net_wh, left):
    pool, session, _, buyer = traded
    session.run_auction()
    evidence = pool.anchor({buyer: periods(net_wh, 0, 0, 0)})
    assert pool.book(pool.report(buyer, evidence[buyer], positions=[position(session, BUYS)])) == left


def test_report_is_the_same_whichever_is_settled_first(pooling, traded):
    pool, session, seller, _ = traded
    session.run_auction()
    evidence = pool.anchor({seller: periods(1_700, 0, 0, 0)})
    brought = [position(session, SELLS)]
    pooling.settlement.settle(session.id, seller.connection, brought, [evidence[seller]])
    assert pooling.evm.event("TraderSettled")["outcome"]["injectedBrownWh"] == 1_000
    assert pool.book(pool.report(seller, evidence[seller], positions=brought)) == [(0, 1, 0, 700)]


def test_report_needs_the_positions_of_all_auctions_that_ended(pooling, traded):
    pool, session, seller, _ = traded
    with pooling.evm.rolled_back():
        evidence = pool.anchor({seller: periods(1_000, 0, 0, 0)})
        with reverts("NotFinalised", session.id):
            pool.report(seller, evidence[seller], positions=[position(session, SELLS)])
    session.run_auction()
    evidence = pool.anchor({seller: periods(1_000, 0, 0, 0)})
    with reverts("PositionOmitted", session.id):
        pool.report(seller, evidence[seller])
    with reverts("BundleMismatch", session.id, seller.connection, session.bundle(seller)["hash"]):
        pool.report(seller, evidence[seller], positions=[position(session, BUYS)])
    with reverts("PositionNotInWindow", session.id):
        pool.report(seller, evidence[seller], positions=[position(session, SELLS)] * 2)
