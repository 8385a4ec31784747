"""
claim
├── returns escrow less needs to the owner, whoever calls; once; not after settlement
└── before finalise, another bundle → own error
claimAll
├── as claim for each, in one call
├── claimed or settled before → passed over, so that nobody stops the others
└── before finalise, another bundle → own error, nothing changed
settle
├── only a module; fills, and what is held; claims first when nobody did
└── twice → AlreadySettled
certify
└── only a module, once, before and after settlement
closeSession
└── bundles open, twice → own error; what is left goes to the operator
money
├── worked example of the interface
└── negative price: sellers pay, buyers are paid
"""

import pytest

from offchain.market.settlement import Fills, final_needs
from tests.market.test_submit import escrow
from tests.market.world import BUY, FUNDS, SELL, TERMS, bundle_of
from tests.utils.evm import reverts

BIDS = bundle_of((0, BUY, 60, 1_000), (0, BUY, 50, 400), (1, BUY, 60, 300))
ASKS = bundle_of((0, SELL, 30, 700), (0, SELL, 50, 900), (1, SELL, 61, 500))
PRICE = TERMS.grid.price(50)


@pytest.fixture
def final(world, session):
    session.submit(world.traders[0], BIDS)
    session.submit(world.traders[1], ASKS)
    session.run_auction()
    return session


def needs(bought: dict[int, int], sold: dict[int, int], prices: dict[int, int]) -> int:
    columns = ([column.get(product, 0) for product in range(8)] for column in (bought, sold, prices))
    return final_needs(TERMS, Fills(*columns))


BUYER_NEEDS = needs({0: 1_400}, {}, {0: PRICE})
SELLER_NEEDS = needs({}, {0: 1_400}, {0: PRICE})


def test_claim_returns_what_the_final_match_does_not_need(world, final):
    buyer, seller = world.traders[:2]
    assert BUYER_NEEDS == 280_000 + 1_402 and SELLER_NEEDS == 1_402 + 98_010
    event = final.claim(buyer, BIDS)
    assert event == {
        "sessionId": final.id,
        "connectionId": buyer.connection,
        "released": escrow(BIDS) - BUYER_NEEDS,
        "escrow": BUYER_NEEDS,
    }
    assert world.house.balanceOf(buyer.address) == FUNDS - BUYER_NEEDS
    final.claim(seller, ASKS)
    assert world.house.balanceOf(seller.address) == FUNDS - SELLER_NEEDS
    assert final.pot == TERMS.surplus_budget + TERMS.reward_budget + BUYER_NEEDS + SELLER_NEEDS
    assert final.bundle(buyer)["claimed"] and not final.bundle(buyer)["settled"]
    with reverts("AlreadyClaimed", final.id, buyer.connection):
        final.claim(buyer, BIDS)


def claim_all(session, *claims: tuple) -> list[dict]:
    """Events of one call."""
    rows = [{"connectionId": trader.connection, "bundle": bundle} for trader, bundle in claims]
    session.market.claimAll(session.id, rows)
    return [arguments for name, arguments in session.world.evm.events if name == "BundleClaimed"]


def test_claimAll_returns_to_each_what_claim_does(world, final):
    buyer, seller = world.traders[:2]
    with world.evm.rolled_back():
        expected = [final.claim(buyer, BIDS), final.claim(seller, ASKS)]
    assert claim_all(final, (buyer, BIDS), (seller, ASKS)) == expected
    assert world.house.balanceOf(buyer.address) == FUNDS - BUYER_NEEDS
    assert world.house.balanceOf(seller.address) == FUNDS - SELLER_NEEDS
    assert final.bundle(buyer)["claimed"] and final.bundle(seller)["claimed"]


def test_claimAll_passes_over_what_was_claimed_or_settled(world, final):
    buyer, seller = world.traders[:2]
    final.claim(buyer, BIDS)
    pot = final.pot
    (event,) = claim_all(final, (buyer, BIDS), (seller, ASKS), (seller, ASKS))
    assert event["connectionId"] == seller.connection
    assert final.pot == pot - event["released"]
    final.settle(seller, ASKS)
    assert claim_all(final, (seller, ASKS), (buyer, BIDS)) == []
    assert final.bundle(seller)["settled"]


def test_claimAll_refuses_before_finalise_and_for_another_bundle(world, session):
    buyer, seller = world.traders[:2]
    session.submit(buyer, BIDS)
    session.submit(seller, ASKS)
    session.end_acceptance()
    with reverts("NotFinalised", session.id):
        claim_all(session, (buyer, BIDS))
    session.run_auction()
    for other in (BIDS, BIDS + ASKS, b""):
        with reverts("BundleMismatch", session.id, seller.connection, session.bundle(seller)["hash"]):
            claim_all(session, (buyer, BIDS), (seller, other))
    with reverts("BundleMismatch", session.id, world.traders[2].connection, bytes(25)):
        claim_all(session, (world.traders[2], b""))
    assert not session.bundle(buyer)["claimed"]


def test_claim_refuses_before_finalise_and_for_another_bundle(world, session):
    buyer = world.traders[0]
    session.submit(buyer, BIDS)
    session.end_acceptance()
    with reverts("NotFinalised", session.id):
        session.claim(buyer, BIDS)
    session.run_auction()
    with reverts("BundleMismatch", session.id, buyer.connection, session.bundle(buyer)["hash"]):
        session.claim(buyer, ASKS)
    with reverts("BundleMismatch", session.id, world.traders[1].connection, bytes(25)):
        session.claim(world.traders[1], ASKS)


@pytest.mark.parametrize("claimed_before", [False, True])
def test_settle_says_what_was_traded_and_what_is_held(world, final, claimed_before):
    buyer = world.traders[0]
    if claimed_before:
        final.claim(buyer, BIDS)
    fills, held = final.settle(buyer, BIDS)
    assert fills == {
        "boughtWh": [1_400, 0, 0, 0, 0, 0, 0, 0],
        "soldWh": [0] * 8,
        "prices": [PRICE, 0, 0, 0, 0, 0, 0, 0],
    }
    assert held == BUYER_NEEDS
    assert [name for name, _ in world.evm.events if name == "BundleClaimed"] == ["BundleClaimed"] * (not claimed_before)
    assert world.house.balanceOf(buyer.address) == FUNDS - BUYER_NEEDS
    state = final.bundle(buyer)
    assert state["claimed"] and state["settled"] and final.state()["openBundles"] == 1
    with reverts("AlreadySettled", final.id, buyer.connection):
        final.settle(buyer, BIDS)
    with reverts("AlreadySettled", final.id, buyer.connection):
        final.claim(buyer, BIDS)


def test_settle_and_certify_refuse_when_caller_is_no_module(world, final):
    buyer = world.traders[0]
    for function in (world.market.settle, world.market.certify):
        with reverts("NotModule", buyer.address):
            function(final.id, buyer.connection, BIDS, sender=buyer.address)


def test_settle_and_certify_refuse_before_finalise(world, session):
    buyer = world.traders[0]
    session.submit(buyer, BIDS)
    for function in (world.market.settle, world.market.certify):
        with reverts("NotFinalised", session.id):
            function(session.id, buyer.connection, BIDS, sender=world.module.address)


def test_settle_and_certify_refuse_another_bundle_than_the_one_that_stands(world, final):
    buyer, stands = world.traders[0], final.bundle(world.traders[0])["hash"]
    for function in (world.market.settle, world.market.certify):
        with reverts("BundleMismatch", final.id, buyer.connection, stands):
            function(final.id, buyer.connection, BIDS[:8], sender=world.module.address)


@pytest.mark.parametrize("settled_before", [False, True])
def test_certify_works_once_whatever_is_settled(world, final, settled_before):
    buyer, module = world.traders[0], world.module.address
    if settled_before:
        final.settle(buyer, BIDS)
    fills = world.market.certify(final.id, buyer.connection, BIDS, sender=module)
    assert fills["boughtWh"][0] == 1_400 and final.bundle(buyer)["certified"]
    with reverts("AlreadyCertified", final.id, buyer.connection):
        world.market.certify(final.id, buyer.connection, BIDS, sender=module)


def test_closeSession_waits_for_every_bundle_and_pays_the_operator(world, final):
    buyer, seller = world.traders[:2]
    with reverts("BundlesOpen", final.id, 2):
        final.market.closeSession(final.id)
    final.settle(buyer, BIDS)
    final.settle(seller, ASKS)
    pot, before = final.pot, world.house.balanceOf(world.operator.address)
    final.market.closeSession(final.id)
    assert world.evm.event("SessionClosed") == {
        "sessionId": final.id,
        "operator": world.operator.address,
        "residual": pot,
    }
    assert (final.pot, world.house.balanceOf(world.operator.address)) == (0, before + pot)
    assert final.state()["closed"]
    with reverts("AlreadyClosed", final.id):
        final.market.closeSession(final.id)


def test_closeSession_refuses_before_finalise(world, session):
    with reverts("NotFinalised", session.id):
        session.market.closeSession(session.id)


def test_money_is_that_of_the_worked_example(world):
    session = world.open(fee_rate=1_000, guarantee_rate=50_000)
    buyer, seller = world.traders[:2]
    bid, ask = bundle_of((0, BUY, 70, 1_000)), bundle_of((0, SELL, 30, 1_000))  # limits 300,000 and 100,000
    assert session.submit(buyer, bid)["escrow"] == 301_000
    assert session.submit(seller, ask)["escrow"] == 51_000
    session.run_auction()
    bought, sold = session.claim(buyer, bid), session.claim(seller, ask)
    assert (bought["released"], bought["escrow"]) == (100_000, 201_000)
    assert (sold["released"], sold["escrow"]) == (0, 51_000)


def test_money_goes_the_other_way_when_the_price_is_negative(world, session):
    buyers, seller = world.traders[:2], world.traders[2]
    bids = [bundle_of((0, BUY, 8, 333)), bundle_of((0, BUY, 2, 501))]
    asks = bundle_of((0, SELL, 1, 400), (0, SELL, 1, 101), (0, SELL, 4, 1_000))
    for trader, bundle in zip(buyers, bids, strict=True):
        session.submit(trader, bundle)
    session.submit(seller, asks)
    session.run_auction()
    fills = session.market.fillsOf(session.id, asks)
    # 501 Wh are offered at -45,000, 333 Wh wanted at up to -10,000 and 501 Wh at -40,000: buyers ration at -40,000,
    # 168 of 501 Wh, and are paid: rounded down.
    assert (fills["prices"][0], fills["soldWh"][0]) == (-40_000, 501)
    assert session.market.fillsOf(session.id, bids[1])["boughtWh"][0] == 168
    assert session.claim(seller, asks)["escrow"] == 20_040 + 502 + 35_074  # 501 Wh: cost, fee, guarantee
    assert session.claim(buyers[1], bids[1])["escrow"] == 169  # 168 Wh: fee alone
