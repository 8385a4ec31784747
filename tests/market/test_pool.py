"""Post-delivery pool: positions, prices and payments against the twin; published examples; conservation; solvency."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offchain.audit import pool_verdicts
from offchain.domain.units import cost_down, cost_up
from offchain.market.orders import orders, pack_bundle
from offchain.market.pool import Mechanism, fix_prices, net_payment, shared_prices, unreported_debt
from tests.market.pooling import DEPOSIT, TERMS, periods

# The vector of the ledger of requirements, part 1.5: 6 kWh of supply meet 10 kWh of demand.
RETAIL, FEED_IN, SUPPLY, DEMAND = 200_000, 80_000, 6_000, 10_000
BUYS, SELLS = (4_000, 6_000), (3_000, 3_000)


def nets(pool, values):
    """Everybody joined as the values go on; what each period of one member is."""
    return dict(zip(pool.world.traders, (periods(*v) for v in values), strict=False))


def run(pooling, values, limits=None, **terms):
    pool = pooling.open_pool(**terms)
    for trader, limit in zip(pooling.traders, limits or [(0, 0)] * len(values), strict=False):
        pool.join(trader, limits=limit)
    paid, priced = pool.run(nets(pool, values))
    return pool, list(paid.values()), priced


# -------------------------------------------------------------------------------- published examples


@pytest.mark.parametrize(
    ("mechanism", "compensation", "demand", "supply", "buyers", "sellers"),
    [
        # Long et al. 2017: p = (b + s) / 2 when both sides are equal,
        (Mechanism.MID_MARKET_RATE, 0, 10_000, 10_000, 140_000, 140_000),
        # buyers share what the retailer adds: (6 * 140 + 4 * 200) / 10,
        (Mechanism.MID_MARKET_RATE, 0, DEMAND, SUPPLY, 164_000, 140_000),
        # sellers share what the retailer takes: (6 * 140 + 4 * 80) / 10.
        (Mechanism.MID_MARKET_RATE, 0, SUPPLY, DEMAND, 140_000, 116_000),
        # Liu et al. 2017: b s / ((b - s) 0.6 + s) = 105,263.2, buyers 0.6 p + 0.4 b = 143,157.9.
        (Mechanism.SUPPLY_DEMAND_RATIO, 0, DEMAND, SUPPLY, 143_158, 105_263),
        (Mechanism.SUPPLY_DEMAND_RATIO, 0, SUPPLY, DEMAND, 80_000, 80_000),
        # No supply at all: the ratio is 0, the price that of retail.
        (Mechanism.SUPPLY_DEMAND_RATIO, 0, DEMAND, 0, 200_000, 80_000),
        # With a compensation of 12,000: p = s + c, sellers s + c / R with R = 10 / 6.
        (Mechanism.SUPPLY_DEMAND_RATIO, 12_000, SUPPLY, DEMAND, 92_000, 87_200),
    ],
)
def test_shared_prices_are_those_of_the_papers(mechanism, compensation, demand, supply, buyers, sellers):
    terms = replace(TERMS, mechanism=mechanism, compensation=compensation, retail_price=RETAIL, feed_in_price=FEED_IN)
    assert shared_prices(terms, FEED_IN, demand, supply) == (buyers, sellers)


@pytest.mark.parametrize(
    ("mechanism", "expected"),
    [
        (Mechanism.MID_MARKET_RATE, [-656_000, -984_000, 420_000, 420_000]),
        # A weight of one quarter: 0.25 * 200 + 0.75 * 80 = 110, buyers 0.6 * 110 + 0.4 * 200 = 146.
        (Mechanism.INTERMEDIATE_RATE, [-584_000, -876_000, 330_000, 330_000]),
        (Mechanism.SUPPLY_DEMAND_RATIO, [-572_632, -858_948, 315_789, 315_789]),
    ],
)
def test_claim_pays_the_published_prices(pooling, mechanism, expected):
    values = [(-w, 0, 0, 0) for w in BUYS] + [(w, 0, 0, 0) for w in SELLS]
    terms = {"mechanism": mechanism, "retail_price": RETAIL, "feed_in_price": FEED_IN, "retail_weight_bps": 2_500}
    assert run(pooling, values, **terms)[1] == expected


def test_shared_price_of_the_ledger_with_a_weight_of_one_quarter():
    """Part 1.5 of the ledger of requirements: 0.20 and 0.08 of the marginal pair, weight 0.25: 0.11."""
    terms = replace(TERMS, mechanism=Mechanism.INTERMEDIATE_RATE, retail_price=RETAIL, feed_in_price=FEED_IN)
    for weight, price in ((0, FEED_IN), (2_500, 110_000), (5_000, 140_000), (10_000, RETAIL)):
        assert shared_prices(replace(terms, retail_weight_bps=weight), FEED_IN, 1_000, 1_000) == (price, price)


def test_claim_pays_the_tick_book_of_the_requirements(pooling):
    """Buys 4 kWh at 0.25 and 6 at 0.20, sells 3 at 0.05 and 3 at 0.08: 6 kWh at 0.20, 2 of the second buyer's."""
    ticks = [(200, 0), (150, 0), (0, 0), (0, 30)]  # 50,000 + tick * 1,000
    values = [(-w, 0, 0, 0) for w in BUYS] + [(w, 0, 0, 0) for w in SELLS]
    _, paid, priced = run(
        pooling, values, ticks, mechanism=Mechanism.TICK_BOOK, retail_price=300_000, feed_in_price=50_000
    )
    assert priced["prices"] == b""
    assert paid == [-800_000, -(2_000 * 200 + 4_000 * 300), 600_000, 600_000]


# -------------------------------------------------------------------------------- one side, nobody, one member


@pytest.mark.parametrize("mechanism", list(Mechanism))
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(-1_000, 0, 0, 0), (0, -500, 0, 0)], [-300_000, -150_000]),  # no supply: retail price
        ([(1_000, 0, 0, 0), (0, 500, 0, 0)], [81_000, 40_500]),  # no demand: feed-in price
        ([(0, 0, 0, 0)], [0]),
        ([(1_001, -7, 0, 0)], [81_081 - 2_100]),
    ],
)
def test_claim_pays_outside_prices_when_there_is_one_side(pooling, mechanism, values, expected):
    limit = (200, 0) if mechanism is Mechanism.TICK_BOOK else (0, 0)
    pool, paid, _ = run(pooling, values, [limit] * len(values), mechanism=mechanism)
    assert paid == expected
    assert pool.close() == TERMS.budget - sum(expected)


def test_close_returns_the_budget_when_nobody_joined(pooling):
    pool = pooling.open_pool()
    pooling.evm.now = TERMS.join_by + 1
    assert pool.close() == TERMS.budget


# -------------------------------------------------------------------------------- trades


def test_trade_is_firm_whatever_meters_say(pooling):
    """The seller injects nothing and buys it in the pool; the buyer takes nothing and sells it there."""
    pool = pooling.open_pool()
    seller, buyer = pooling.traders[:2]
    pool.join(seller, 0)
    pool.join(buyer, 0)
    pool.register(pool.trade(seller, buyer, (1_001, 0, 0, 0), 150_555))
    before = {t: pooling.house.balanceOf(t.address) for t in (seller, buyer)}
    paid, _ = pool.run({seller: periods(0, 0, 0, 0), buyer: periods(0, 0, 0, 0)})
    # 1,001 Wh of demand meet 1,001 Wh of surplus at the mid-market rate of 190,500.
    assert list(paid.values()) == [-190_691, 190_690]
    earned = {t: pooling.house.balanceOf(t.address) - before[t] for t in (seller, buyer)}
    escrow = cost_up(1_001, 300_000)
    assert earned[seller] == escrow + cost_down(1_001, 150_555) - 190_691
    assert earned[buyer] == 190_690  # the price of the trade had left its balance before
    assert pool.close() == TERMS.budget + 2  # 1 of the trade, 1 of the pool


def test_trade_pays_the_buyer_when_the_price_is_negative(pooling):
    pool = pooling.open_pool(feed_in_price=-50_000)
    seller, buyer = pooling.traders[:2]
    for trader in (seller, buyer):
        pool.join(trader, 0)
    start = {t: pooling.house.balanceOf(t.address) for t in (seller, buyer)}
    pool.register(pool.trade(seller, buyer, (1_001, 0, 0, 0), -20_000))
    assert start[seller] - pooling.house.balanceOf(seller.address) == cost_up(1_001, 300_000) + cost_up(1_001, 20_000)
    assert start[buyer] - pooling.house.balanceOf(buyer.address) == cost_up(1_001, 50_000)
    pool.run({seller: periods(1_001, 0, 0, 0), buyer: periods(0, 0, 0, 0)})
    assert pooling.house.balanceOf(seller.address) - start[seller] == -20_020
    assert pooling.house.balanceOf(buyer.address) - start[buyer] == 20_020 - 50_050  # not taken: fed in at its cost


def test_report_serves_no_more_demand_than_the_deposit_pays_for(pooling):
    """The example of IPoolReports: 600,000 uToken pay for 2,000 Wh at 300,000 beside what the trade covers."""
    pool = pooling.open_pool()
    seller, buyer = pooling.traders[:2]
    pool.join(seller, 600_000)
    pool.join(buyer, 0)
    pool.register(pool.trade(seller, buyer, (3_000, 0, 0, 0)))
    evidence = pool.anchor({seller: periods(1_000, -4_000, -1, 0)})
    assert pool.book(pool.report(seller, evidence[seller])) == [(0, 0, 0, 2_000), (1, 0, 0, 2_000)]


def test_report_takes_no_more_surplus_than_the_deposit_pays_for_when_feeding_in_costs(pooling):
    pool = pooling.open_pool(feed_in_price=-50_000)
    seller = pooling.traders[0]
    pool.join(seller, 100_000)
    evidence = pool.anchor({seller: periods(1_500, 1_000, 1_000, 0)})
    assert pool.book(pool.report(seller, evidence[seller])) == [(0, 1, 0, 1_500), (1, 1, 0, 500)]


def test_fixPrices_lowers_the_feed_in_price_to_what_the_budget_suffices_for(pooling):
    pool, paid, priced = run(pooling, [(3_000, 0, 0, 0), (0, 4_000, 0, 0)], budget=100_000)
    assert priced["surplusPrice"] == 100_000 // 7
    assert paid == [cost_down(3_000, 100_000 // 7), cost_down(4_000, 100_000 // 7)]
    assert pool.close() == 100_000 - sum(paid)


def test_report_gains_nothing_by_a_missing_reading(pooling):
    """Bought 1,000 Wh count as taken where an ISP is missing; what was sold there is owed all the same."""
    pool = pooling.open_pool()
    seller, buyer = pooling.traders[:2]
    for trader in (seller, buyer):
        pool.join(trader, 0)
    pool.register(pool.trade(seller, buyer, (1_000, 1_000, 1_000, 0)))
    missing = [None, (0, 0), (0, 300), None, (0, 0), (0, 0), (0, 0), (0, 0)]
    evidence = pool.anchor({seller: missing, buyer: missing})
    assert pool.book(pool.report(seller, evidence[seller])) == [(0, 0, 0, 1_000), (1, 0, 0, 700), (2, 0, 0, 1_000)]
    assert pool.book(pool.report(buyer, evidence[buyer])) == [(1, 1, 0, 300), (2, 1, 0, 1_000)]


# -------------------------------------------------------------------------------- properties

prices = st.one_of(st.just(0), st.integers(-300_000, 400_000))
reading = st.one_of(st.none(), st.tuples(st.integers(0, 2_500), st.integers(0, 2_500)))


@st.composite
def terms_of_a_pool(draw):
    mechanism = draw(st.sampled_from(Mechanism))
    retail = draw(st.integers(1, 500_000))
    feed_in = draw(st.integers(1 if mechanism == Mechanism.SUPPLY_DEMAND_RATIO else -retail, retail))
    return replace(
        TERMS,
        mechanism=mechanism,
        retail_price=retail,
        feed_in_price=feed_in,
        retail_weight_bps=draw(st.integers(0, 10_000)),
        compensation=draw(st.integers(0, retail - feed_in)),
        price_step=draw(st.integers((retail - feed_in) // 4_095 + 1, 300_000)),
        budget=draw(st.sampled_from([0, 1_000, 100_000, 10**9])),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_pool_equals_the_twin_and_conserves_money(pooling, data):
    """Any terms, trades, meters and deposits; somebody may stay without report; claims in any order."""
    with pooling.evm.rolled_back():
        start = pooling.money
        terms = data.draw(terms_of_a_pool())
        pool = pooling.open_pool(terms)
        members = pooling.traders[: data.draw(st.integers(1, 4))]
        last_tick = terms.grid.tick_count - 1
        for trader in members:
            limits = data.draw(st.tuples(st.integers(0, last_tick), st.integers(0, last_tick)))
            pool.join(trader, data.draw(st.sampled_from([0, 1_000, DEPOSIT])), limits)
        for _ in range(data.draw(st.integers(0, 3)) if len(members) > 1 else 0):
            seller, buyer = data.draw(st.permutations(members))[:2]
            quantity = st.one_of(st.just(0), st.integers(1, 3_000))
            quantities = data.draw(st.tuples(*[quantity] * terms.period_count).filter(any))
            pool.register(pool.trade(seller, buyer, quantities, data.draw(prices)))
        metered = {t: data.draw(st.lists(reading, min_size=8, max_size=8)) for t in members}
        evidence = pool.anchor(metered)
        reported = [t for t in members if data.draw(st.integers(0, 9))]
        packed, expected, credits = {}, {}, {}
        for trader in reported:
            packed[trader] = pool.report(trader, evidence[trader])
            expected[trader], credits[trader] = pool.expected_position(trader, metered[trader])
            assert packed[trader] == (pack_bundle(terms.grid, expected[trader]) if len(expected[trader]) else b"")
            assert pooling.evm.event("PositionReported")["credit"] == credits[trader]
        pool.end_reports()
        while not pool.clear(data.draw(st.integers(1, 3))):
            pass
        priced = pool.fix_prices()
        twin = fix_prices(terms, list(expected.values()))
        assert priced["surplusPrice"] == twin.surplus_price
        assert priced["prices"] == (twin.packed if twin.shared else b"")
        for trader in data.draw(st.permutations(members)):
            if trader in packed:
                settled = pool.claim(trader, packed[trader], priced["prices"])
                net = net_payment(terms, twin, expected[trader])
                assert (settled["net"], settled["payout"]) == (net, credits[trader] + net)
            else:
                traded = pool.expected_position(trader, [(0, 0)] * 8)[1]
                owed = unreported_debt(terms, *sold_and_bought(pool, trader))
                settled = pool.settle_unreported(trader)
                assert (settled["net"], settled["payout"]) == (-owed, traded - owed)
            assert settled["payout"] >= 0
        assert pool.close() >= 0
        assert pool.pot == 0
        assert pooling.money == start


def sold_and_bought(pool, trader):
    sold, bought = [0] * pool.terms.period_count, [0] * pool.terms.period_count
    for trade in pool.trades_of(trader):
        side = sold if trade.seller_connection_id == trader.connection else bought
        for period, quantity in enumerate(trade.quantities_wh):
            side[period] += quantity
    return sold, bought


@given(
    mechanism=st.sampled_from([m for m in Mechanism if m is not Mechanism.TICK_BOOK]),
    demand=st.integers(0, 2**63),
    supply=st.integers(0, 2**63),
    low=st.integers(1, 10**6),
    span=st.integers(0, 10**6),
    weight=st.integers(0, 10_000),
)
def test_shared_prices_pay_out_no_more_than_comes_in(mechanism, demand, supply, low, span, weight):
    terms = replace(TERMS, mechanism=mechanism, feed_in_price=low, retail_price=low + span, retail_weight_bps=weight)
    buyers, sellers = shared_prices(terms, low, demand, supply)
    assert (buyers, sellers) == pool_verdicts.shared_prices(terms, low, demand, supply)
    assert low <= buyers <= low + span
    assert low <= sellers <= low + span
    shared = min(demand, supply)
    comes_in = demand * buyers + (supply - shared) * low
    assert comes_in >= supply * sellers + (demand - shared) * (low + span)


def test_fixPrices_computes_the_largest_sums(pooling):
    """Ratio prices of sums near 2^33 Wh at the highest price: nothing overflows."""
    pool = pooling.open_pool(
        mechanism=Mechanism.SUPPLY_DEMAND_RATIO, retail_price=2**31 - 1, feed_in_price=1, budget=0, period_count=3
    )
    books = [orders([(0, sell, 0, 2**32 - 1)]) for sell in (1, 0, 0)]
    for trader in pooling.traders[:3]:
        pool.join(trader, 0)
    pool.end_reports()
    pooling.evm.now -= 1
    for trader, book in zip(pooling.traders, books, strict=False):
        pooling.pool.record(
            pool.id, trader.connection, pack_bundle(pool.terms.grid, book), 10**20, sender=pooling.module.address
        )
    assert pool.fix_prices()["prices"] == fix_prices(pool.terms, books).packed
