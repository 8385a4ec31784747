"""
submit
├── first bundle → escrow locked, word, book, event; replaced → difference only; cancelled → all back, sequence kept
├── session unknown, gate passed, another caller → own error
├── paused, connection decommissioned, outside the area, prosumer suspended → own error; cancelling works all the same
├── previous missing, wrong, or of nothing; nothing to change → own error
├── bundle too long, malformed, off the grid → own error with the position
├── green sells → only from a green producer
├── balance too small → InsufficientBalance
├── sequence at its end → SequenceExhausted
└── at each second around the gate
submitFor
└── only a module; for the owner
"""

import pytest
from eth_hash.auto import keccak

from offchain.market.orders import orders
from offchain.market.settlement import bundle_escrow
from tests.market.world import BUY, FUNDS, SELL, SOLAR, TERMS, Trader, bundle_of
from tests.utils.evm import reverts

BIDS = bundle_of((0, BUY, 60, 1_000), (1, BUY, 5, 700))
MIXED = bundle_of((0, BUY, 60, 1_501), (2, SELL, 4, 333), (3, SELL, 40, 2_000))


def escrow(bundle: bytes) -> int:
    return bundle_escrow(TERMS, orders_of(bundle))


def orders_of(bundle: bytes):
    rows = [bundle[i : i + 8] for i in range(0, len(bundle), 8)]
    return orders((r[0], r[1], int.from_bytes(r[2:4], "big"), int.from_bytes(r[4:], "big")) for r in rows)


def test_submit_places_and_locks_the_escrow(world, session):
    trader = world.traders[0]
    event = session.submit(trader, MIXED)
    # 1,501 Wh at 250,000; sells at -30,000 may cost 333 Wh; fee on 3,834 Wh, guarantee on 2,333 Wh, each rounded up.
    expected = 375_250 + 9_990 + 3_838 + 163_327
    assert escrow(MIXED) == expected
    assert event == {
        "sessionId": session.id,
        "connectionId": trader.connection,
        "trader": trader.address,
        "sequence": 1,
        "bundle": MIXED,
        "escrow": expected,
    }
    assert world.house.balanceOf(trader.address) == FUNDS - expected
    assert session.pot == TERMS.surplus_budget + TERMS.reward_budget + expected
    assert session.bundle(trader) == {
        "placed": True,
        "claimed": False,
        "certified": False,
        "settled": False,
        "sequence": 1,
        "hash": keccak(MIXED)[:25],
    }
    assert session.state()["openBundles"] == 1
    assert session.market.escrowOf(session.id, MIXED) == expected


@pytest.mark.parametrize("other", [BIDS, bundle_of((0, BUY, 60, 1_600)), bundle_of((7, BUY, 99, 9_999))])
def test_submit_moves_the_difference_when_it_replaces(world, session, other):
    trader = world.traders[0]
    session.submit(trader, MIXED)
    event = session.submit(trader, other, MIXED)
    assert (event["sequence"], event["escrow"]) == (2, escrow(other))
    assert world.house.balanceOf(trader.address) == FUNDS - escrow(other)
    assert session.state()["openBundles"] == 1
    session.end_acceptance()
    session.clear()
    assert session.market.fillsOf(session.id, other)["boughtWh"] == [0] * 8


def test_submit_cancels_and_places_again_when_bundle_is_empty(world, session):
    trader = world.traders[0]
    session.submit(trader, MIXED)
    event = session.submit(trader, b"", MIXED)
    assert (event["sequence"], event["escrow"], event["bundle"]) == (2, 0, b"")
    assert world.house.balanceOf(trader.address) == FUNDS
    assert session.bundle(trader)["placed"] is False and session.bundle(trader)["sequence"] == 2
    assert session.state()["openBundles"] == 0
    assert session.submit(trader, MIXED)["sequence"] == 3


def test_submit_refuses_when_session_is_unknown(world):
    trader = world.traders[0]
    with reverts("SessionUnknown", 77):
        world.market.submit(77, trader.connection, b"", BIDS, sender=trader.address)


@pytest.mark.parametrize("late", [0, 1])
def test_submit_ends_with_the_second_of_the_gate(world, session, late):
    trader = world.traders[0]
    world.evm.now = session.times.gate_closure + late
    if late:
        with reverts("GateClosed", session.id, session.times.gate_closure, world.evm.now):
            session.submit(trader, BIDS)
    else:
        session.submit(trader, BIDS)


def test_submit_refuses_when_caller_is_not_the_owner(world, session):
    trader, other = world.traders[:2]
    with reverts("NotOwnerOf", trader.connection, other.address):
        session.submit(trader, BIDS, sender=other.address)
    unknown = Trader("nobody")
    with reverts("ConnectionUnknown", unknown.connection):
        session.submit(unknown, BIDS)


def test_submit_lets_cancel_alone_when_paused_or_suspended_or_decommissioned(world, session):
    trader, admin = world.traders[0], world.admin.address
    session.submit(trader, BIDS)

    def placing_fails_and_cancelling_works(error, *arguments):
        with world.evm.rolled_back():
            with reverts(error, *arguments):
                session.submit(trader, MIXED, BIDS)
            assert session.submit(trader, b"", BIDS)["escrow"] == 0

    with world.evm.rolled_back():
        world.market.pause(sender=admin)
        placing_fails_and_cancelling_works("EnforcedPause")
    with world.evm.rolled_back():
        world.participants.setStatus(trader.address, 2, keccak(b"why"), sender=world.registrar.address)
        placing_fails_and_cancelling_works("MissingRole", trader.address, 4, 2)
    with world.evm.rolled_back():
        world.grid.decommissionConnection(trader.connection, sender=world.dso.address)
        placing_fails_and_cancelling_works("ConnectionUnknown", trader.connection)


def test_submit_refuses_when_connection_is_outside_the_area(world):
    session = world.open(congestion_point_id=world.area)
    inside, outside = world.traders[0], Trader("far away")
    world.enrol(outside, area=world.other_area)
    session.submit(inside, BIDS)
    with reverts("OutsideArea", outside.connection, world.other_area, world.area):
        session.submit(outside, BIDS)


def test_submit_refuses_when_previous_is_not_what_stands(world, session):
    trader = world.traders[0]
    nothing = bytes(25)
    for previous in (MIXED, b"\0"):
        with reverts("BundleMismatch", session.id, trader.connection, nothing):
            session.submit(trader, BIDS, previous)
    with reverts("NothingToChange", session.id, trader.connection):
        session.submit(trader, b"")
    session.submit(trader, BIDS)
    stands = keccak(BIDS)[:25]
    for previous in (b"", MIXED, BIDS + BIDS[:8]):
        with reverts("BundleMismatch", session.id, trader.connection, stands):
            session.submit(trader, MIXED, previous)
    with reverts("NothingToChange", session.id, trader.connection):
        session.submit(trader, BIDS, BIDS)
    assert world.house.balanceOf(trader.address) == FUNDS - escrow(BIDS)


def test_submit_takes_256_orders_and_no_more(world, session):
    trader = world.traders[0]
    longest = bundle_of(*((n % 8, BUY, n % 100, 10) for n in range(256)))
    session.submit(trader, longest)
    with reverts("BundleTooLong", 257, 256):
        session.submit(trader, longest + longest[:8], longest)


@pytest.mark.parametrize(
    ("bad", "error", "arguments"),
    [
        (b"\0" * 7, "BundleLength", (7,)),
        (BIDS + b"\0", "BundleLength", (17,)),
        (BIDS + bundle_of((8, BUY, 1, 10)), "PeriodOutsideSession", (2, 8, 8)),
        (bundle_of((0, BUY, 100, 10)), "TickOffGrid", (0, 100, 100)),
        (BIDS + bundle_of((0, BUY, 1, 9)), "QuantityTooSmall", (2, 9, 10)),
        (bytes.fromhex("00 02 0007 000001f4"), "ReservedBitsSet", (0,)),
    ],
)
def test_submit_refuses_when_bundle_is_malformed(world, session, bad, error, arguments):
    trader = world.traders[0]
    with reverts(error, *arguments):
        session.submit(trader, bad)
    for view in (world.market.fillsOf, world.market.escrowOf):
        with reverts(error, *arguments):
            view(session.id, bad)
    assert session.bundle(trader)["sequence"] == 0 and world.house.balanceOf(trader.address) == FUNDS


def test_submit_takes_green_sells_from_green_producers_alone(world, session):
    trader = world.traders[0]
    green = bundle_of((3, SELL, 40, 500), (4, BUY, 40, 500), (5, SELL, 40, 500), (6, SELL, 40, 500))
    with reverts("NotGreenProducer", trader.connection, 2):
        session.submit(trader, green)
    session.submit(trader, green[:16])  # brown sells and green buys are open to all
    world.set_producer_class(trader, SOLAR)
    session.submit(trader, green, green[:16])


def test_submit_refuses_when_balance_is_too_small(world, session):
    trader = world.traders[0]
    world.house.withdraw(trader.address, FUNDS - 1_000, sender=trader.address)
    with reverts("InsufficientBalance", trader.address, 1_000, escrow(BIDS)):
        session.submit(trader, BIDS)
    assert session.bundle(trader)["placed"] is False and session.state()["openBundles"] == 0


def test_submit_refuses_when_the_sequence_is_at_its_end(world, session):
    trader = world.traders[0]
    session.submit(trader, BIDS)
    slot, word = next(
        (index, value)
        for index in word_slots(world, session, trader)
        if (value := world.evm.storage(world.market, index))
    )
    assert word & 0xFF == 1 and word >> 8 & 0xFFFF == 1
    world.evm.store(world.market, slot, word | 0xFFFF00)
    with reverts("SequenceExhausted", session.id, trader.connection):
        session.submit(trader, b"", BIDS)


def word_slots(world, session, trader):
    """Where the word of a bundle can be: the mapping's own slot is one of the first."""
    for base in range(12):
        outer = keccak(trader.connection + base.to_bytes(32, "big"))
        yield int.from_bytes(keccak(session.id.to_bytes(32, "big") + outer), "big")


def test_submitFor_acts_for_the_owner_when_a_module_calls(world, session):
    trader = world.traders[0]
    arguments = (session.id, trader.connection, b"", BIDS)
    with reverts("NotModule", trader.address):
        world.market.submitFor(*arguments, sender=trader.address)
    world.market.submitFor(*arguments, sender=world.module.address)
    assert world.evm.event("BundleSubmitted")["trader"] == trader.address
    assert world.house.balanceOf(trader.address) == FUNDS - escrow(BIDS)
