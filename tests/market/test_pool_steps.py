"""
Post-delivery pool: who may do what until when
open → terms out of bounds, another than a market operator, unknown area, budget too small, paused
join, joinSigned → too late, another's connection, outside the area, twice, off the grid, signed by another, expired
record, clear, settleUnreported of the pool → modules and deadlines at the second
report → too early, too late, twice, other meters, incomplete days, stale batch, omitted, foreign, cancelled trades
claim → before prices, false position, false prices, twice
close → members open, twice; whoever pauses stops no payment
"""

from dataclasses import replace

import pytest

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.pool import Mechanism, MemberState
from tests.market.pooling import DEPOSIT, TERMS, OpenPool, periods
from tests.market.settling import CHALLENGE_WINDOW, meter_of
from tests.market.world import FUNDS
from tests.utils.evm import reverts

NONE, JOINED, REPORTED, SETTLED = MemberState
IDLE = periods(0, 0, 0, 0)


@pytest.fixture
def pool(pooling):
    return pooling.open_pool()


@pytest.fixture
def joined(pooling, pool):
    pool.join(pooling.traders[0])
    return pool


def open_raw(pooling, *, sender=None, **changed):
    """Opens a pool that the twin would refuse."""
    fields = dict(zip(TERMS.__dataclass_fields__, TERMS.as_tuple(), strict=True)) | changed
    return pooling.pool.open(tuple(fields.values()), sender=sender or pooling.operator.address)


# -------------------------------------------------------------------------------- open


@pytest.mark.parametrize(
    "changed",
    [
        {"retail_price": 0, "feed_in_price": 0},
        {"retail_price": 80_999},
        {"mechanism": Mechanism.SUPPLY_DEMAND_RATIO, "feed_in_price": 0},
        {"mechanism": Mechanism.SUPPLY_DEMAND_RATIO, "compensation": 300_000 - 81_000 + 1},
    ],
)
def test_open_refuses_prices_out_of_bounds(pooling, changed):
    terms = {"feed_in_price": TERMS.feed_in_price, "compensation": 0, "retail_price": TERMS.retail_price} | changed
    with reverts("PricesInvalid", terms["feed_in_price"], terms["compensation"], terms["retail_price"]):
        open_raw(pooling, **changed)


def test_open_refuses_a_weight_beyond_the_whole(pooling):
    weighted = {"mechanism": Mechanism.INTERMEDIATE_RATE}
    with reverts("WeightInvalid", 10_001, 10_000):
        open_raw(pooling, **weighted, retail_weight_bps=10_001)
    assert open_raw(pooling, **weighted, retail_weight_bps=10_000) == 1


START, END = TERMS.delivery_start, TERMS.delivery_end


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({"join_by": START, "trade_by": START}, True),
        ({"join_by": START + 1}, False),
        ({"trade_by": TERMS.join_by}, True),
        ({"trade_by": TERMS.join_by - 1}, False),
        ({"report_by": TERMS.trade_by + 1}, True),
        ({"report_by": TERMS.trade_by}, False),
        ({"trade_by": END, "report_by": END + 1}, True),
        ({"trade_by": START, "report_by": END}, False),
        ({"isps_per_period": 0}, False),
    ],
)
def test_open_keeps_the_deadlines_in_their_order(pooling, changed, fits):
    if fits:
        assert open_raw(pooling, **changed) == 1
        return
    terms = {"join_by": TERMS.join_by, "trade_by": TERMS.trade_by, "report_by": TERMS.report_by} | changed
    end = START if changed == {"isps_per_period": 0} else END
    times = terms["join_by"], terms["trade_by"], terms["report_by"]
    with reverts("TimesInvalid", pooling.evm.now, *times, START, end):
        open_raw(pooling, **changed)


@pytest.mark.parametrize("late", [0, 1])
def test_open_ends_with_the_second_of_joining(pooling, late):
    pooling.evm.now = TERMS.join_by + late
    if late:
        with reverts(
            *("TimesInvalid", TERMS.join_by + 1, TERMS.join_by, TERMS.trade_by, TERMS.report_by, START, END),
        ):
            pooling.open_pool()
    else:
        pooling.open_pool()


@pytest.mark.parametrize(("step", "ticks"), [(0, 0), (1, 219_001), (53, 4_133)])
def test_open_refuses_a_grid_of_too_many_ticks(pooling, step, ticks):
    with reverts("GridInvalid", ticks, step, 4, 1):
        open_raw(pooling, mechanism=Mechanism.TICK_BOOK, price_step=step)


def test_open_refuses_when_there_is_no_period(pooling):
    with reverts("TimesInvalid", pooling.evm.now, TERMS.join_by, TERMS.trade_by, TERMS.report_by, START, START):
        open_raw(pooling, period_count=0)


def test_open_is_for_market_operators_with_their_budget(pooling):
    outsider = pooling.outsider.address
    with reverts("MissingRole", outsider, 6, 0):
        open_raw(pooling, sender=outsider)
    with reverts("CongestionPointUnknown", b"\1" * 32):
        open_raw(pooling, congestion_point_id=b"\1" * 32)
    free = pooling.house.balanceOf(pooling.operator.address)
    with reverts("InsufficientBalance", pooling.operator.address, free, free + 1):
        open_raw(pooling, budget=free + 1)
    pooling.pool.pause(sender=pooling.admin.address)
    with reverts("EnforcedPause"):
        open_raw(pooling)


# -------------------------------------------------------------------------------- join


def test_join_locks_the_deposit(pooling, pool):
    trader = pooling.traders[0]
    pool.join(trader)
    assert pooling.evm.event("MemberJoined") == {
        "poolId": pool.id,
        "connectionId": trader.connection,
        "account": trader.address,
        "deposit": DEPOSIT,
        "buyTick": 0,
        "sellTick": 0,
    }
    assert pooling.house.balanceOf(trader.address) == FUNDS - DEPOSIT
    assert pool.pot == TERMS.budget + DEPOSIT


@pytest.mark.parametrize("late", [0, 1])
def test_join_ends_with_its_second(pooling, pool, late):
    pooling.evm.now = TERMS.join_by + late
    if late:
        with reverts("JoiningOver", pool.id, TERMS.join_by, pooling.evm.now):
            pool.join(pooling.traders[0])
    else:
        pool.join(pooling.traders[0])


def test_join_refuses_whoever_may_not(pooling, pool):
    trader, other = pooling.traders[:2]
    with reverts("NotOwnerOf", trader.connection, other.address):
        pool.join(trader, sender=other.address)
    with reverts("ConnectionUnknown", b"\1" * 32):
        pooling.pool.join(pool.id, b"\1" * 32, 0, 0, 0, sender=trader.address)
    with reverts("PoolUnknown", 7):
        pooling.pool.termsOf(7)
    with reverts("PoolUnknown", 7):
        pooling.pool.join(7, trader.connection, 0, 0, 0, sender=trader.address)
    with reverts("LimitOffGrid", 1, 1):
        pool.join(trader, limits=(1, 0))
    with reverts("LimitOffGrid", 2, 1):
        pool.join(trader, limits=(0, 2))
    pool.join(trader)
    with reverts("AlreadyMember", pool.id, trader.connection):
        pool.join(trader)
    elsewhere = pooling.open_pool(congestion_point_id=pooling.other_area)
    with reverts("OutsideArea", trader.connection, pooling.area, pooling.other_area):
        elsewhere.join(trader)
    pooling.participants.setStatus(trader.address, 2, b"\0" * 32, sender=pooling.registrar.address)
    with reverts("MissingRole", trader.address, 4, 2):
        pooling.open_pool().join(trader)
    pooling.pool.pause(sender=pooling.admin.address)
    with reverts("EnforcedPause"):
        pool.join(other)


def test_joinSigned_lets_several_join_once(pooling, pool):
    joinings = [pool.signed_joining(trader) for trader in pooling.traders[:2]]
    pooling.pool_relay.joinSigned(pool.id, joinings, sender=pooling.outsider.address)
    assert [pool.member(t)["account"] for t in pooling.traders[:3]] == [
        *(t.address for t in pooling.traders[:2]),
        "0x" + "0" * 40,
    ]
    pooling.pool_relay.joinSigned(pool.id, joinings[:1])
    assert pooling.evm.events == []
    assert pool.pot == TERMS.budget + 2 * DEPOSIT


def test_joinSigned_passes_over_whom_somebody_else_brought_first(pooling, pool):
    joinings = [pool.signed_joining(trader) for trader in pooling.traders[:3]]
    pooling.pool_relay.joinSigned(pool.id, joinings[1:2], sender=pooling.outsider.address)
    pooling.pool_relay.joinSigned(pool.id, joinings)
    assert [name for name, _ in pooling.evm.events].count("MemberJoined") == 2
    assert pool.state()["members"] == 3
    assert pool.pot == TERMS.budget + 3 * DEPOSIT


@pytest.mark.parametrize(
    "changed", [{"deposit": 1}, {"buyTick": 1}, {"sellTick": 1}, {"poolId": 2}, {"connectionId": b"\1" * 32}]
)
def test_joinSigned_refuses_when_something_else_was_signed(pooling, pool, changed):
    trader, other = pooling.traders[:2]
    with reverts("InvalidSignature", 0, trader.address):
        pooling.pool_relay.joinSigned(pool.id, [pool.signed_joining(trader, **changed)])
    with reverts("InvalidSignature", 0, trader.address):
        pooling.pool_relay.joinSigned(pool.id, [pool.signed_joining(trader, by=other)])


@pytest.mark.parametrize("late", [0, 1])
def test_joinSigned_ends_with_the_second_of_its_deadline(pooling, pool, late):
    signed = pool.signed_joining(pooling.traders[0], deadline=pooling.evm.now + 5)
    pooling.evm.now += 5 + late
    if late:
        with reverts("SignatureExpired", 0, signed["deadline"], pooling.evm.now):
            pooling.pool_relay.joinSigned(pool.id, [signed])
    else:
        pooling.pool_relay.joinSigned(pool.id, [signed])


# -------------------------------------------------------------------------------- modules


def test_functions_for_modules_are_closed_to_others(pooling, joined):
    trader = pooling.traders[0]
    for call in (
        lambda: pooling.pool.joinFor(joined.id, trader.connection, 0, 0, 0, sender=trader.address),
        lambda: pooling.pool.record(joined.id, trader.connection, b"", 10**9, sender=trader.address),
        lambda: pooling.pool.settleUnreported(joined.id, trader.connection, 10**9, 0, sender=trader.address),
    ):
        with reverts("NotModule", trader.address):
            call()


# -------------------------------------------------------------------------------- report


def test_report_waits_for_delivery_and_trading(pooling, joined):
    """Trading goes on for a while after delivery: a report before its end could leave a trade out."""
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: IDLE})
    for terms in (TERMS, replace(TERMS, trade_by=END - 1), replace(TERMS, trade_by=END)):
        assert terms.reports_from == max(END, terms.trade_by + 1)
    pooling.evm.now = TERMS.trade_by
    with reverts("ChallengeWindowOpen", TERMS.trade_by + CHALLENGE_WINDOW, TERMS.trade_by):
        joined.report(trader, evidence[trader])
    for now in (TERMS.trade_by, TERMS.reports_from - 1):
        pooling.evm.now = now
        with reverts("ReportsNotOpen", joined.id, TERMS.reports_from, now):
            pooling.pool.record(joined.id, trader.connection, b"", 0, sender=pooling.module.address)
    pooling.evm.now = TERMS.reports_from
    pooling.pool.record(joined.id, trader.connection, b"", 0, sender=pooling.module.address)


@pytest.mark.parametrize("late", [0, 1])
def test_report_ends_with_its_second(pooling, joined, late):
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: periods(1, 0, 0, 0)})
    pooling.evm.now = TERMS.report_by + late
    if late:
        with reverts("ReportsOver", joined.id, TERMS.report_by, TERMS.report_by + 1):
            joined.report(trader, evidence[trader])
        assert joined.state()["suppliedWh"] == 0
    else:
        joined.report(trader, evidence[trader])
        assert joined.state()["suppliedWh"] == 1


def test_report_refuses_a_second_one(pooling, joined):
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: IDLE})
    joined.report(trader, evidence[trader])
    assert pooling.evm.event("MemberReported")["reporter"] == pooling.outsider.address
    with reverts("WrongState", joined.id, trader.connection, REPORTED, JOINED):
        joined.report(trader, evidence[trader])


def test_report_refuses_whoever_is_no_member(pooling, joined):
    stranger = pooling.traders[1]
    evidence = joined.anchor({stranger: IDLE})
    with reverts("WrongState", joined.id, stranger.connection, NONE, JOINED):
        joined.report(stranger, evidence[stranger])


def test_report_refuses_readings_that_are_not_the_members(pooling, joined):
    trader, other = pooling.traders[:2]
    evidence = joined.anchor({trader: IDLE, other: IDLE})
    with reverts("MeterOfOtherConnection", meter_of(other), trader.connection):
        joined.report(trader, evidence[other])
    with reverts("IspNotCovered", TERMS.first_isp):
        joined.report(trader)
    forged = evidence[trader] | {"day": evidence[trader]["day"] | {"values": b"\0" * 7 + b"\1" + bytes(8 * 95)}}
    with pytest.raises(Exception, match="LeafNotAnchored"):
        joined.report(trader, forged)


def test_report_refuses_a_version_that_was_corrected(pooling, joined):
    trader = pooling.traders[0]
    stale = joined.anchor({trader: periods(9_000, 0, 0, 0)})
    latest = joined.anchor({trader: periods(1_000, 0, 0, 0)})
    with pytest.raises(Exception, match="LeafNotAnchored"):
        joined.report(trader, stale[trader])
    assert joined.book(joined.report(trader, latest[trader])) == [(0, 1, 0, 1_000)]


def test_report_does_not_take_a_retired_meter_for_missing_readings(pooling, joined):
    trader = pooling.traders[0]
    end = TERMS.first_isp + 2
    pooling.evm.now = end * SECONDS_PER_ISP
    pooling.meters.decommissionMeter(meter_of(trader), end, sender=pooling.meter_operator.address)
    evidence = joined.anchor({trader: [(0, 0), (0, 0), *[None] * 6]})
    with reverts("IspNotCovered", end):
        joined.report(trader, evidence[trader])


def test_report_refuses_a_day_that_begins_later(pooling, joined):
    trader = pooling.traders[0]
    later = OpenPool(pooling, joined.id, replace(TERMS, first_isp=TERMS.first_isp + 1, join_by=TERMS.join_by))
    evidence = later.anchor({trader: IDLE})
    pooling.evm.now = TERMS.report_by
    with reverts("IspNotCovered", TERMS.first_isp):
        joined.report(trader, evidence[trader])


def test_report_refuses_more_than_a_position_holds(pooling, joined):
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: [(0, 2**32 - 2), (0, 2**32 - 2)]})
    with reverts("SafeCastOverflowedUintDowncast", 32, 2**33 - 4):
        joined.report(trader, evidence[trader])


# -------------------------------------------------------------------------------- members without report


@pytest.mark.parametrize("late", [0, 1])
def test_settleUnreported_waits_for_the_deadline(pooling, joined, late):
    """Readings have the right of way until then."""
    trader = pooling.traders[0]
    pooling.evm.now = TERMS.report_by + late
    if late:
        settled = joined.settle_unreported(trader)
        assert (settled["net"], settled["payout"]) == (0, DEPOSIT)
    else:
        with reverts("ReportsDue", joined.id, TERMS.report_by, TERMS.report_by):
            joined.settle_unreported(trader)


def test_settleUnreported_charges_what_was_sold_at_retail(pooling, pool):
    """3,001 Wh sold, 1,000 of them bought in the same period: 2,001 Wh at 300,000. Bought energy counts as taken."""
    seller, middle, buyer = pooling.traders[:3]
    for trader in (seller, middle, buyer):
        pool.join(trader, 0)
    pool.register(pool.trade(seller, middle, (1_000, 0, 0, 5_000), 0))
    pool.register(pool.trade(middle, buyer, (3_001, 0, 0, 0), 0))
    pool.end_reports()
    assert pool.settle_unreported(seller)["net"] == -1_800_000
    assert pool.settle_unreported(middle)["net"] == -600_300
    assert pool.settle_unreported(buyer)["net"] == 0
    assert pool.close() == TERMS.budget + 2_400_300


def test_settleUnreported_refuses_whoever_was_reported_or_settled(pooling, joined):
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: IDLE})
    joined.report(trader, evidence[trader])
    joined.end_reports()
    with reverts("WrongState", joined.id, trader.connection, REPORTED, JOINED):
        joined.settle_unreported(trader)


# -------------------------------------------------------------------------------- prices and payments


def test_fixPrices_waits_for_reports_or_their_deadline(pooling, joined):
    trader = pooling.traders[0]
    evidence = joined.anchor({trader: IDLE})
    pooling.evm.now = TERMS.report_by
    for step in (joined.fix_prices, joined.clear):
        with reverts("ReportsDue", joined.id, TERMS.report_by, TERMS.report_by):
            step()
    with pooling.evm.rolled_back():
        joined.end_reports()
        joined.fix_prices()
    joined.report(trader, evidence[trader])
    joined.fix_prices()
    with reverts("AlreadyPriced", joined.id):
        joined.fix_prices()
    with reverts("AlreadyPriced", joined.id):
        joined.clear()


def test_fixPrices_does_not_take_a_pool_without_members_for_complete(pooling, pool):
    with reverts("ReportsDue", pool.id, TERMS.report_by, pooling.evm.now):
        pool.fix_prices()


def test_fixPrices_refuses_a_tick_book_that_is_not_cleared(pooling):
    pool = pooling.open_pool(mechanism=Mechanism.TICK_BOOK)
    trader, other = pooling.traders[:2]
    pool.join(trader, limits=(200, 100))
    pool.join(other, limits=(200, 50))
    evidence = pool.anchor({trader: periods(0, 5, 0, 0), other: periods(0, 5, 0, 0)})
    for member in (trader, other):
        pool.report(member, evidence[member])
    with reverts("PeriodNotCleared", pool.id, 1):
        pool.fix_prices()
    assert pool.clear(0) is False
    with reverts("PeriodNotCleared", pool.id, 1):
        pool.fix_prices()
    with reverts("PeriodOutsideSession", 0, 4, 4):
        pooling.pool.clear(pool.id, 0, 4, 1)
    assert pool.clear() is True
    pool.fix_prices()


def test_claim_refuses_what_was_not_reported_or_fixed(pooling, joined):
    trader, stranger = pooling.traders[:2]
    evidence = joined.anchor({trader: periods(1_000, 0, 0, 0)})
    packed = joined.report(trader, evidence[trader])
    with reverts("NotPriced", joined.id):
        joined.claim(trader, packed)
    priced = joined.fix_prices()["prices"]
    state = joined.state()
    better = packed[:4] + (9_000).to_bytes(4)
    with reverts("PositionMismatch", joined.id, trader.connection, joined.member(trader)["positionHash"]):
        joined.claim(trader, better, priced)
    with reverts("PricesMismatch", joined.id, state["pricesHash"]):
        joined.claim(trader, packed, b"\x7f" + priced[1:])
    with reverts("WrongState", joined.id, stranger.connection, NONE, REPORTED):
        joined.claim(stranger, packed, priced)
    assert joined.claim(trader, packed, priced)["account"] == trader.address
    with reverts("WrongState", joined.id, trader.connection, SETTLED, REPORTED):
        joined.claim(trader, packed, priced)


def test_close_waits_for_all_members_and_happens_once(pooling, joined):
    trader = pooling.traders[0]
    pooling.evm.now = TERMS.join_by
    with reverts("ReportsDue", joined.id, TERMS.join_by, TERMS.join_by):
        joined.close()
    joined.end_reports()
    with reverts("MembersOpen", joined.id, 1):
        joined.close()
    joined.settle_unreported(trader)
    joined.close()
    with reverts("AlreadyClosed", joined.id):
        joined.close()


def test_pause_stops_no_payment(pooling, joined):
    """Paused from the first report on: everybody is paid all the same."""
    trader, other = pooling.traders[:2]
    joined.join(other)
    for contract in (pooling.pool, pooling.trades, pooling.house):
        contract.pause(sender=pooling.admin.address)
    evidence = joined.anchor({trader: periods(1_000, 0, 0, 0)})
    packed = joined.report(trader, evidence[trader])
    joined.end_reports()
    joined.claim(trader, packed, joined.fix_prices()["prices"])
    joined.settle_unreported(other)
    joined.close()
    assert joined.pot == 0


def test_deadlines_need_nobody_when_all_are_silent(pooling, joined):
    """Operator, member and meter operator gone: an outsider ends the pool and everybody has its money."""
    joined.end_reports()
    joined.settle_unreported(pooling.traders[0])
    assert joined.close() == TERMS.budget
    assert pooling.house.balanceOf(pooling.traders[0].address) == FUNDS
