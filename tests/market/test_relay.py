"""
submitSigned
├── several traders → as if each had submitted
├── expired, by another, of another sequence (replay), of other orders or times → own error with its position
├── somebody brought one of the bundles before → passed over, the others are placed
├── a relayer that omits → the trader goes to another one, or itself
└── cancels when paused
rejectSigned
└── as reject; by another, replayed → InvalidSignature
"""

import pytest

from tests.market.test_submit import BIDS, MIXED, escrow
from tests.market.world import BUY, FUNDS, SELL, bundle_of
from tests.utils.evm import reverts


def test_submitSigned_places_for_all_who_signed(world, session):
    bundles = [BIDS, MIXED, bundle_of((3, SELL, 50, 900))]
    session.submit_signed(*(session.signed(t, b) for t, b in zip(world.traders, bundles, strict=False)))
    for trader, bundle in zip(world.traders, bundles, strict=False):
        assert world.house.balanceOf(trader.address) == FUNDS - escrow(bundle)
        assert session.bundle(trader)["sequence"] == 1
    assert session.state()["openBundles"] == 3


def test_submitSigned_replaces_and_cancels(world, session):
    trader = world.traders[0]
    session.submit_signed(session.signed(trader, BIDS))
    session.submit_signed(session.signed(trader, MIXED, BIDS))
    world.market.pause(sender=world.admin.address)
    session.submit_signed(session.signed(trader, b"", MIXED))
    assert world.house.balanceOf(trader.address) == FUNDS


def test_submitSigned_refuses_all_when_one_is_replayed(world, session):
    trader, other = world.traders[:2]
    once = session.signed(trader, BIDS)
    session.submit_signed(once)
    session.submit(trader, b"", BIDS)
    # Back to no orders: the old signature is still spent.
    with reverts("InvalidSignature", 1, trader.address):
        session.submit_signed(session.signed(other, MIXED), once)
    assert session.bundle(other)["sequence"] == 0


def test_submitSigned_passes_over_what_somebody_else_brought_first(world, session):
    """Whoever sees a relayer's transaction can bring one bundle of it before: the others must not be lost."""
    trader, other, third = world.traders[:3]
    standing = session.signed(third, BIDS)
    session.submit_signed(standing)
    relayed = [session.signed(trader, BIDS), session.signed(other, MIXED), session.signed(third, b"", BIDS)]
    session.submit_signed(relayed[0], relayed[2])
    session.submit_signed(*relayed)
    assert [name for name, _ in world.evm.events].count("BundleSubmitted") == 1
    assert [session.bundle(t)["sequence"] for t in (trader, other, third)] == [1, 1, 2]
    assert world.house.balanceOf(trader.address) == FUNDS - escrow(BIDS)
    assert world.house.balanceOf(third.address) == FUNDS
    # What was cancelled does not come back.
    with reverts("InvalidSignature", 0, third.address):
        session.submit_signed(standing)


@pytest.mark.parametrize(
    "changed", [{"deadline": 2**60}, {"bundle": MIXED}, {"connectionId": b"\1" * 32}, {"signature": b"\1" * 65}]
)
def test_submitSigned_refuses_when_something_else_was_signed(world, session, changed):
    trader = world.traders[0]
    signer = "0x" + "0" * 40 if "connectionId" in changed else trader.address
    with reverts("InvalidSignature", 0, signer):
        session.submit_signed(session.signed(trader, BIDS) | changed)


def test_submitSigned_refuses_when_another_signed(world, session):
    trader, other = world.traders[:2]
    with reverts("InvalidSignature", 0, trader.address):
        session.submit_signed(session.signed(trader, BIDS, by=other))


def test_submitSigned_refuses_when_it_was_signed_for_another_session(world, session):
    trader = world.traders[0]
    signed = session.signed(trader, BIDS)
    later = world.open()
    with reverts("InvalidSignature", 0, trader.address):
        later.submit_signed(signed)


@pytest.mark.parametrize("late", [0, 1])
def test_submitSigned_ends_with_the_second_of_its_deadline(world, session, late):
    trader = world.traders[0]
    signed = session.signed(trader, BIDS, deadline=world.evm.now)
    world.evm.now += late
    if late:
        with reverts("SignatureExpired", 0, signed["deadline"], world.evm.now):
            session.submit_signed(signed)
    else:
        session.submit_signed(signed)


def test_submitSigned_leaves_a_trader_free_when_its_relayer_omits_it(world, session):
    trader, other = world.traders[:2]
    kept_back = session.signed(trader, BIDS)
    session.submit_signed(session.signed(other, BIDS))
    session.submit(trader, MIXED)  # by transaction
    with reverts("InvalidSignature", 0, trader.address):
        session.submit_signed(kept_back)  # of no use to the relayer any more


def test_rejectSigned_rejects_once(world, session):
    buyer, seller, other = world.traders[:3]
    bids = bundle_of((0, BUY, 60, 500), (0, BUY, 55, 500))
    session.submit(buyer, bids)
    session.submit(seller, bundle_of((0, SELL, 40, 1_000)))
    session.close_gate()
    session.clear()
    with reverts("InvalidSignature", 0, buyer.address):
        session.reject_signed(buyer, bids, 1, by=other)
    session.reject_signed(buyer, bids, 1)
    assert world.evm.event("MatchRejected")["bundle"] == bids[8:]
    with reverts("InvalidSignature", 0, buyer.address):
        session.reject_signed(buyer, bids[8:], 1, sequence=1)
