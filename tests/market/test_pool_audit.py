"""The audit of bilateral trades and post-delivery pools: all in order when nothing was changed, every change named.

Two pools told by the contracts themselves: one at the mid-market rate with trades (one cancelled, one after delivery),
an import beyond the deposit, a missing reading and a member without report; one tick book with rationed sellers. An
auction took some of the same energy before.
"""

from dataclasses import replace

import pytest

from offchain.audit.rules import post_delivery_pool
from offchain.market.pool import Mechanism
from offchain.market.pool_replay import replay_pools
from tests.market.audited import AuditedWorld
from tests.market.pooling import TERMS, PoolWorld, periods
from tests.market.settling import position
from tests.market.test_audit import dropped, flip, flipped, in_struct, more, other
from tests.market.world import BUY, SELL, SOLAR, Trader, bundle_of, price_tick

AT = price_tick(120_000)
STRANGER = Trader("stranger").address


class AuditedPools(AuditedWorld, PoolWorld):
    """Pools whose every event is kept."""


def tell(world: AuditedPools) -> None:
    seller, buyer, thirsty, silent, green = world.traders
    pool = world.open_pool(budget=20_000)
    world.set_producer_class(green, SOLAR)
    for trader in (seller, buyer, silent):
        pool.join(trader)
    pool.join(thirsty, 150_000)
    world.pool_relay.joinSigned(pool.id, [pool.signed_joining(green)])
    pool.limits[green], pool.deposits[green] = (0, 0), 5_000_000
    book = world.open_pool(mechanism=Mechanism.TICK_BOOK)
    for trader, limits in ((seller, (0, 40)), (buyer, (150, 0)), (green, (0, 40))):
        book.join(trader, limits=limits)
    pool.register(pool.trade(seller, buyer, (1_000, 500, 0, 0), 150_555))
    pool.cancel(pool.register(pool.trade(seller, buyer, (1, 1, 1, 1))))
    pool.register(pool.trade(silent, buyer, (0, 0, 0, 700), -1_000))
    session = world.open()
    auctioned = {seller: bundle_of((0, SELL, AT, 300)), buyer: bundle_of((0, BUY, AT, 300))}
    for trader, bundle in auctioned.items():
        session.submit(trader, bundle)
    session.run_auction()
    held = {trader: [position(session, bundle)] for trader, bundle in auctioned.items()}
    world.evm.now = TERMS.delivery_end + 1
    pool.register(pool.trade(green, thirsty, (0, 300, 0, 0), energy_type=1))
    missing = periods(0, 500, 0, 2_000)
    missing[5] = None
    readings = {
        seller: periods(1_501, 500, 900, -50),
        buyer: periods(-2_000, 0, 0, -300),
        thirsty: periods(-300, -300, -400, 0),
        green: missing,
    }
    evidence = world.anchor(pool, readings)
    positions = {}
    for member in readings:
        positions[member] = pool.report(member, evidence[member], positions=held.get(member, ()))
    packed = {
        member: book.report(member, evidence[member], positions=held.get(member, ()))
        for member in (seller, buyer, green)
    }
    book.clear()
    book.fix_prices()
    for member, reported in packed.items():
        book.claim(member, reported)
    book.close()
    pool.end_reports()
    prices = pool.fix_prices()["prices"]
    for member, reported in positions.items():
        pool.claim(member, reported, prices)
    pool.settle_unreported(silent)
    pool.close()


@pytest.fixture(scope="module")
def story():
    world = AuditedPools()
    tell(world)
    return world


def test_audit_finds_nothing_when_nothing_was_changed(story):
    checks = story.audit()
    assert checks.mismatches == []
    for subject in ("post-delivery pools", "bilateral trades", "clearings", "evidence"):
        assert checks.checked[subject] > 0


def test_replay_pools_tells_what_became_of_the_pools(story):
    pool, book = replay_pools(story.evm.history).values()
    assert (len(pool.members), len(pool.reported), len(pool.open)) == (5, 4, 0)
    assert (len(pool.trades), len(pool.cancelled)) == (3, 1)
    assert pool.surplus_price < TERMS.feed_in_price  # the budget was too small for all of the surplus
    assert len(pool.shared_prices) == 4
    assert (book.prices, book.surplus_price) == (b"", TERMS.feed_in_price)
    assert sum(m.payout for m in book.members.values()) + book.residual == TERMS.budget + 3 * 5_000_000


def at_book(name, argument, by):
    """The same event of the second pool."""
    return lambda w: w.changed(name, -1, **{argument: w.events(name)[-1].args[argument] + by})


CHANGES = {
    "pool: number": (other("PoolOpened", poolId=7), "number of a pool"),
    "pool: operator": (other("PoolOpened", operator=STRANGER), "role of"),
    "pool: budget": (in_struct("PoolOpened", "terms", "budget"), "money of"),
    "pool: retail price": (in_struct("PoolOpened", "terms", "retailPrice"), "prices of a pool"),
    "pool: terms that cannot be": (
        in_struct("PoolOpened", "terms", "retailPrice", -(10**6)),
        "terms or curve of a pool",
    ),
    "pool: joining": (in_struct("PoolOpened", "terms", "joinBy", -(10**5)), "time of joining"),
    "pool: reports": (in_struct("PoolOpened", "terms", "reportBy", -84_000), "time of a report"),
    "member: deposit": (more("MemberJoined", "deposit"), "credit of a member"),
    "member: account": (other("MemberJoined", account=STRANGER), "account of a member"),
    "member: limit": (more("MemberJoined", "sellTick", which=-1), "position of a member"),
    "member: limit off the grid": (more("MemberJoined", "sellTick", 9_000, which=-1), "limit prices of a member"),
    "member: left out": (dropped("MemberJoined"), "event about something never recorded"),
    "trade: price": (in_struct("TradeRegistered", "trade", "price"), "id of a trade"),
    "trade: id": (flipped("TradeRegistered", "tradeId"), "id of a trade"),
    "trade: seller": (flipped("TradeRegistered", "sellerConnectionId"), "seller of a trade"),
    "trade: green": (in_struct("TradeRegistered", "trade", "energyType"), "seller of green energy"),
    "trade: expired": (in_struct("TradeRegistered", "trade", "validUntil", -(2**63) + 1), "time of a trade"),
    "trade: left out": (dropped("TradeRegistered"), "position of a member"),
    "trade: cancellation left out": (dropped("TradeCancelled"), "credit of a member"),
    "report: position": (flipped("PositionReported", "position"), "position of a member"),
    "report: credit": (more("PositionReported", "credit"), "credit of a member"),
    "report: sold in an auction": (
        lambda w: w.changed("BundleSubmitted", bundle=bundle_of((0, SELL, AT, 299))),
        "position of a member",
    ),
    "report: left out": (dropped("PositionReported"), "prices of a pool"),
    "report: of the book": (at_book("PositionReported", "credit", 1), "payout of a member"),
    "clearing": (more("PeriodCleared", "result", 1 << 180), "result of period"),
    "clearing: left out": (dropped("PeriodCleared"), "periods cleared"),
    "prices": (flipped("PoolPriced", "prices", which=-1), "prices of a pool"),
    "prices: surplus": (more("PoolPriced", "surplusPrice", -1, which=-1), "price of the surplus"),
    "prices: left out": (dropped("PoolPriced", -1), "paid before prices"),
    "payment: net": (more("MemberSettled", "net"), "net payment of a member"),
    "payment: payout": (more("MemberSettled", "payout"), "payout of a member"),
    "payment: account": (other("MemberSettled", account=STRANGER), "account of a payment"),
    "payment: debt": (more("MemberSettled", "net", which=-1), "net payment of a member"),
    "payment: left out": (dropped("MemberSettled"), "members left open"),
    "payment: not in the ledger": (more("Released", "amount"), "money of"),
    "residual": (more("PoolClosed", "residual"), "residual of a pool"),
    "closing left out": (dropped("PoolClosed"), "money of"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_audit_names_what_was_changed(story, name):
    change, what = CHANGES[name]
    found = story.audit(events=change(story)).mismatches
    assert any(what in mismatch.what for mismatch in found), found[:5]


ANSWERS = {
    "PostDeliveryPool.pool": lambda answer: answer | {"reports": answer["reports"] + 1},
    "PostDeliveryPool.memberOf": lambda answer: answer | {"positionHash": flip(answer["positionHash"])},
    "BilateralTrades.stateOf": lambda answer: answer + 1,
    "BilateralTrades.countOf": lambda answer: answer + 1,
}


@pytest.mark.parametrize("getter", ANSWERS)
def test_audit_names_the_getter_that_differs(story, getter):
    def get(queries):
        answers = story.get(queries)
        changed = [f"{q.contract}.{q.function}" == getter for q in queries]
        return [ANSWERS[getter](a) if wrong else a for a, wrong in zip(answers, changed, strict=True)]

    found = story.audit(get=get).mismatches
    assert any(mismatch.where.startswith(getter) for mismatch in found), found[:5]


def test_audit_names_a_trade_too_many(story, monkeypatch):
    monkeypatch.setattr(post_delivery_pool, "MAX_TRADES", 1)
    found = story.audit().mismatches
    assert any("trades of a connection" in mismatch.what for mismatch in found), found[:5]


def test_audit_names_the_report_behind_a_changed_metered_day(story):
    records = story.records()
    ((batch, days),) = records.batches
    days[1] = days[1]._replace(values=flip(days[1].values, 7))
    found = story.audit(records=replace(records, batches=[(batch, days)])).mismatches
    assert any("behind a settlement" in m.what and "another root" in m.found for m in found), found[:5]


def test_audit_names_a_report_that_came_before_its_batch_was_usable(story):
    """The same position a second earlier: the batch could still be challenged."""
    target = story.events("PositionReported")[0]
    early = replace(target, timestamp=target.timestamp - 1)
    found = story.audit(events=[early if e is target else e for e in story.evm.history]).mismatches
    assert any("metered day behind a settlement" in m.what for m in found), found[:5]
