"""
any session of several traders
├── escrow, book, provisional and final fills, rejection fees, claims → as the reference
├── balances + locks never change in sum; the pot is what is owed, at every step
├── whatever settlement pays, up to the most that its rules allow, in any order → the pot suffices
├── the residual is fees, charges kept, what the budgets did not pay, and rounding; bounded
└── arrival order and who brings the bundles do not matter
"""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market.world import BUY, SELL, SOLAR, TERMS, MarketWorld, bundle_of
from tests.reference.energy_market import BundleOrder, SessionReference

TICKS = [0, 3, 8, 9, 10, 11, 12, 40]
"""Prices from -50,000 over zero (tick 10) to 150,000: those below zero come up as often as those above."""
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 4, 7]),
        st.sampled_from([BUY, SELL]),
        st.sampled_from(TICKS),
        st.integers(10, 25) | st.integers(10, 5_000) | st.just(2**32 - 1),
    ),
    min_size=1,
    max_size=7,
)
TERMS_OF_ALL_KINDS = st.builds(
    lambda **changed: replace(TERMS, **changed),
    fee_rate=st.sampled_from([0, 1, 999, 20_003]),
    guarantee_rate=st.sampled_from([0, 1, 77_777]),
    rejection_fee_rate=st.sampled_from([0, 13, 2**32 - 1]),
    surplus_price=st.sampled_from([0, 40_000, 2**32 - 1]),
    green_reward_rate=st.sampled_from([0, 9_999, 2**32 - 1]),
    surplus_budget=st.sampled_from([0, 17, 123_456]),
    reward_budget=st.sampled_from([0, 23, 654_321]),
)


class Run:
    """A session on chain and its reference, step by step."""

    def __init__(self, world: MarketWorld, terms):
        self.world, self.terms = world, terms
        self.session = world.open(terms)
        self.reference = SessionReference(terms)
        self.rows = {}
        self.sum = world.house.totalHeld()
        for trader in world.traders:
            world.set_producer_class(trader, SOLAR)

    def orders(self, rows) -> list[BundleOrder]:
        return [BundleOrder(product, sell == SELL, self.terms.grid.price(tick), wh) for product, sell, tick, wh in rows]

    def check_money(self) -> None:
        world = self.world
        free = sum(world.house.balanceOf(t.address) for t in [*world.traders, world.operator])
        assert free + self.session.pot == world.house.totalHeld() == self.sum

    def submit(self, trader, rows) -> None:
        previous = bundle_of(*self.rows.get(trader, []))
        event = self.session.submit(trader, bundle_of(*rows), previous)
        self.rows[trader] = list(rows)
        self.reference.bundles[trader.name] = self.orders(rows)
        assert event["escrow"] == self.reference.escrow(self.orders(rows))
        assert self.session.pot == self.reference.pot
        self.check_money()

    def reject(self, trader, positions: set[int]) -> None:
        bundle = bundle_of(*self.rows[trader])
        fee = self.reference.reject(trader.name, positions)
        event = self.session.reject(trader, bundle, sum(1 << i for i in positions))
        self.rows[trader] = [row for i, row in enumerate(self.rows[trader]) if i not in positions]
        assert (event["fee"], event["bundle"]) == (fee, bundle_of(*self.rows[trader]))
        assert event["escrow"] == self.reference.escrow(self.reference.bundles[trader.name])
        assert self.session.pot == self.reference.pot
        self.check_money()

    def matched(self, trader) -> list[int]:
        orders = self.reference.bundles[trader.name]
        return [i for i, order in enumerate(orders) if self.reference.filled_wh(order)]

    def check_fills(self) -> None:
        for trader, rows in self.rows.items():
            if not rows:
                continue
            final = self.reference.final(self.orders(rows))
            fills = self.session.market.fillsOf(self.session.id, bundle_of(*rows))
            products = range(self.terms.product_count)
            assert fills["boughtWh"] == [final.bought.get(p, 0) for p in products], trader
            assert fills["soldWh"] == [final.sold.get(p, 0) for p in products], trader
            assert fills["prices"] == [final.prices.get(p, 0) for p in products], trader

    def finish(self, order_of_claims, order_of_settlements) -> None:
        """From the final clearing to the closing, paying all bundles the most there can be."""
        rates = self.session.finalise()
        reference = self.reference
        open_traders = [t for t in self.world.traders if self.rows.get(t)]
        finals = {t: reference.final(self.orders(self.rows[t])) for t in open_traders}
        held = {t: reference.escrow(self.orders(self.rows[t])) for t in open_traders}
        fixed = self.session.pot - sum(held.values())
        for trader in order_of_claims:
            if trader in finals:
                event = self.session.claim(trader, bundle_of(*self.rows[trader]))
                needs = reference.needs(finals[trader])
                assert (event["released"], event["escrow"]) == (held[trader] - needs, needs)
                held[trader] = needs
                assert self.session.pot == fixed + sum(held.values())
                self.check_money()
        paid = 0
        for trader in order_of_settlements:
            if trader not in finals:
                continue
            _, escrow = self.session.settle(trader, bundle_of(*self.rows[trader]))
            assert escrow == reference.needs(finals[trader])
            payout = reference.most(finals[trader], rates["surplusPrice"], rates["greenRewardRate"])
            # Reverts with InsufficientLock were the pot too small.
            self.world.house.release(self.session.pot_id, trader.address, payout, sender=self.world.module.address)
            paid += payout
            self.check_money()
        self.session.market.closeSession(self.session.id)
        residual = self.world.evm.event("SessionClosed")["residual"]
        assert residual == fixed + sum(reference.needs(final) for final in finals.values()) - paid
        fees = reference.rejection_fees + sum(reference.fee(final) for final in finals.values())
        assert residual >= fees
        self.check_money()


@settings(max_examples=80)
@given(data=st.data(), terms=TERMS_OF_ALL_KINDS)
def test_session_follows_the_reference_from_order_to_closing(deployed, data, terms):
    with deployed.evm.rolled_back():
        run = Run(deployed, terms)
        traders = deployed.traders
        for _ in range(data.draw(st.integers(1, 7))):
            trader = data.draw(st.sampled_from(traders))
            rows = data.draw(ROWS if not run.rows.get(trader) else ROWS | st.just([]))
            if rows != run.rows.get(trader):
                run.submit(trader, rows)
        run.session.close_gate()
        if data.draw(st.booleans()):
            run.session.clear()
            run.reference.clear()
            run.check_fills()
            changed = set()
            for trader in data.draw(st.permutations([t for t in traders if run.rows.get(t)])):
                positions = set(data.draw(st.lists(st.sampled_from(run.matched(trader) or [None]), max_size=3)))
                if positions and None not in positions:
                    changed |= {run.rows[trader][i][0] for i in positions}
                    run.reject(trader, positions)
        run.session.end_acceptance()
        run.session.clear()
        run.reference.clear()
        run.check_fills()
        claims = data.draw(st.lists(st.sampled_from(traders), unique=True))
        run.finish(claims, data.draw(st.permutations(traders)))


MATCHES = [
    [(0, BUY, 40, 100), (0, BUY, 12, 60), (1, SELL, 9, 50)],
    [(0, SELL, 3, 70), (0, SELL, 12, 80), (1, BUY, 10, 20)],
]


@pytest.mark.parametrize("first", [c for n in range(3) for c in combinations(range(3), n)])
@pytest.mark.parametrize("second", [c for n in range(3) for c in combinations(range(3), n)])
def test_session_follows_the_reference_for_every_pattern_of_rejections(world, first, second):
    run = Run(world, TERMS)
    for trader, rows in zip(world.traders, MATCHES, strict=False):
        run.submit(trader, rows)
    run.session.close_gate()
    run.session.clear()
    run.reference.clear()
    for trader, positions in zip(world.traders, (first, second), strict=False):
        wanted = set(positions) & set(run.matched(trader))
        if wanted:
            run.reject(trader, wanted)
    run.session.end_acceptance()
    run.session.clear()
    run.reference.clear()
    run.check_fills()
    run.finish(world.traders, world.traders[::-1])


@settings(max_examples=30)
@given(bundles=st.lists(ROWS, min_size=2, max_size=5), order=st.permutations(range(5)), signed=st.booleans())
def test_arrival_does_not_matter(deployed, bundles, order, signed):
    def outcome(sequence, by_relayer):
        with deployed.evm.rolled_back():
            for trader in deployed.traders:
                deployed.set_producer_class(trader, SOLAR)
            session = deployed.open()
            packed = {i: bundle_of(*rows) for i, rows in enumerate(bundles)}
            arrivals = [(deployed.traders[i], packed[i]) for i in sequence if i in packed]
            if by_relayer:
                session.submit_signed(*(session.signed(trader, bundle) for trader, bundle in arrivals))
            else:
                for trader, bundle in arrivals:
                    session.submit(trader, bundle)
            session.run_auction()
            return (
                [session.market.resultOf(session.id, product) for product in range(8)],
                [session.claim(deployed.traders[i], packed[i])["escrow"] for i in packed],
                [deployed.house.balanceOf(trader.address) for trader in deployed.traders],
            )

    assert outcome(range(5), False) == outcome(order, signed)


def test_payment_beyond_the_most_is_noticed(world):
    """The check of the property above can fail: one payment too many empties the pot."""
    run = Run(world, replace(TERMS, surplus_budget=0, reward_budget=0, fee_rate=0))
    buyer, seller = world.traders[:2]
    run.submit(buyer, [(0, BUY, 40, 1_000)])
    run.submit(seller, [(0, SELL, 40, 1_000)])
    run.session.end_acceptance()
    run.session.clear()
    run.reference.clear()
    too_much = run.session.pot // 2 + 1
    run.reference.most = lambda *arguments: too_much
    with pytest.raises(Exception, match="InsufficientLock"):
        run.finish(world.traders, world.traders)
