"""
A session under people who do what they like, when they like
├── INV-P1: balances + pot never change in sum
├── INV-P2: the pot is what the reference owes, until the first claim; afterwards at least what is held
├── INV-P3: every refusal is the one that the time and the state predict
├── INV-P4: wherever the walk ends, anybody can wind the session up, all paused, and nothing is left in the pot
└── time stands at, before and after each deadline; the market may be paused; old signatures come back
"""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from offchain.chain.errors import ContractRevertedError
from tests.market.world import BUY, SELL, TERMS, bundle_of
from tests.reference.energy_market import BundleOrder, SessionReference

ROW = st.tuples(st.integers(0, 1), st.sampled_from([BUY, SELL]), st.sampled_from([8, 10, 12]), st.integers(10, 90))
ROWS = st.lists(ROW, max_size=3)
WHO = st.integers(0, 2)


def make_machine(world, seen: Counter):
    class HostileSession(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.rollback = world.evm.rolled_back()
            self.rollback.__enter__()
            self.session = world.open()
            self.reference = SessionReference(TERMS)
            self.rows = {trader: [] for trader in world.traders[:3]}
            self.sequence = dict.fromkeys(self.rows, 0)
            self.signed, self.provisional = [], False
            self.paused = self.finalised = self.closed = False
            self.claimed, self.settled = set(), set()
            self.total = world.house.totalHeld()

        @initialize(
            sold=st.integers(10, 90),
            bought=st.integers(10, 90),
            third=ROWS,
            start=st.sampled_from(["open", "open", "accept", "final"]),
        )
        def begin_with_a_match(self, sold, bought, third, start):
            """Left to chance, hardly a walk would trade before a gate closes."""
            for who, rows in enumerate([[(0, SELL, 8, sold)], [(0, BUY, 12, bought)], third]):
                if rows:
                    self.submit(who, rows)
            if start == "accept":
                self.go_to("gate_closure", 1)
            elif start == "final":
                self.go_to("accept_by", 1)
                self.finalise()

        def teardown(self):
            try:
                self.wind_up()
            finally:
                self.rollback.__exit__(None, None, None)

        def wind_up(self) -> None:
            """INV-P4."""
            if not self.paused:
                world.market.pause(sender=world.admin.address)
            world.house.pause(sender=world.admin.address)
            if not self.finalised:
                world.evm.now = max(world.evm.now, self.session.times.accept_by + 1)
                assert self.session.clear()
                self.session.finalise()
            for trader, rows in self.rows.items():
                if rows and trader not in self.settled:
                    self.session.settle(trader, self.packed(trader))
                    seen["settled in the end"] += 1
            if not self.closed:
                self.session.market.closeSession(self.session.id)
            assert self.session.pot == 0
            self.inv_p1_money_is_conserved()

        # -------------------------------------------------- helpers

        def trader(self, who: int):
            return world.traders[who]

        def packed(self, trader) -> bytes:
            return bundle_of(*self.rows[trader])

        def orders(self, rows):
            return [BundleOrder(p, sell == SELL, TERMS.grid.price(tick), wh) for p, sell, tick, wh in rows]

        def expect(self, error: str | None, call) -> bool:
            """Calls; says whether it went through, as ``error`` predicts."""
            try:
                call()
            except ContractRevertedError as refused:
                assert refused.name == error, f"{refused} instead of {error}"
                return False
            assert error is None, f"{error} did not come"
            return True

        def placed(self, trader, rows) -> None:
            self.rows[trader] = rows
            self.sequence[trader] += 1
            self.reference.bundles[trader.name] = self.orders(rows)

        @property
        def trading(self) -> bool:
            return world.evm.now <= self.session.times.gate_closure

        def refusal_of_orders(self, trader, rows, sequence=None) -> str | None:
            if sequence is not None and sequence != self.sequence[trader]:
                return "InvalidSignature"
            if not self.trading:
                return "GateClosed"
            if rows and self.paused:
                return "EnforcedPause"
            return "NothingToChange" if rows == self.rows[trader] else None

        # -------------------------------------------------- orders

        @rule(who=WHO, rows=ROWS)
        def submit(self, who, rows):
            trader, before = self.trader(who), self.packed(self.trader(who))
            error = self.refusal_of_orders(trader, rows)
            if self.expect(error, lambda: self.session.submit(trader, bundle_of(*rows), before)):
                self.placed(trader, rows)

        @rule(who=WHO, rows=ROWS)
        def sign_and_keep_back(self, who, rows):
            trader = self.trader(who)
            message = self.session.signed(trader, bundle_of(*rows), self.packed(trader))
            self.signed.append((trader, rows, self.sequence[trader], message))

        @precondition(lambda self: self.signed)
        @rule(data=st.data())
        def relay_old_or_new(self, data):
            trader, rows, sequence, message = data.draw(st.sampled_from(self.signed))
            if rows == self.rows[trader] and self.sequence[trader]:
                self.session.submit_signed(message)  # in place already: passed over, whatever the time
                assert world.evm.events == []
                seen["relayed again"] += 1
                return
            error = self.refusal_of_orders(trader, rows, sequence)
            if self.expect(error, lambda: self.session.submit_signed(message)):
                self.placed(trader, rows)
                seen["relayed"] += 1
            else:
                seen[f"relayed in vain: {error}"] += 1

        # -------------------------------------------------- time and stop

        @rule(deadline=st.sampled_from(["gate_closure", "accept_by"]), offset=st.integers(-1, 1))
        def go_to(self, deadline, offset):
            world.evm.now = max(world.evm.now, getattr(self.session.times, deadline) + offset)

        @rule()
        def stop_or_go_on(self):
            function = world.market.unpause if self.paused else world.market.pause
            function(sender=world.admin.address)
            self.paused = not self.paused

        # -------------------------------------------------- clearing

        @rule(max_ticks=st.sampled_from([1, 2, 2**256 - 1]), times=st.integers(1, 9))
        def clear(self, max_ticks, times):
            error = "GateStillOpen" if self.trading else "AlreadyFinalised" if self.finalised else None
            for _ in range(times):
                if self.expect(error, lambda: self.session.clear(0, 7, max_ticks)) and not self.provisional:
                    self.provisional = world.evm.now <= self.session.times.accept_by and self.is_cleared()

        def is_cleared(self) -> bool:
            with world.evm.rolled_back():
                done = self.session.clear(0, 7, 0)
            if done:
                self.reference.clear()
            return done

        @precondition(lambda self: self.provisional)
        @rule(who=WHO)
        def reject_all_that_is_matched(self, who):
            trader = self.trader(who)
            matched = {
                i for i, order in enumerate(self.reference.bundles.get(trader.name, [])) if self.was_filled(order)
            }
            if not matched:
                return
            over = world.evm.now > self.session.times.accept_by
            error = "AcceptanceOver" if over else None
            bundle, bits = self.packed(trader), sum(1 << i for i in matched)
            if self.expect(error, lambda: self.session.reject(trader, bundle, bits)):
                self.reference.reject(trader.name, matched)
                seen["rejected"] += 1
                self.rows[trader] = [row for i, row in enumerate(self.rows[trader]) if i not in matched]
                self.sequence[trader] += 1

        def was_filled(self, order) -> int:
            return self.reference.filled_wh(order)

        @rule()
        def finalise(self):
            if world.evm.now <= self.session.times.accept_by:
                self.expect("AcceptanceOpen", self.session.finalise)
            elif self.finalised:
                self.expect("AlreadyFinalised", self.session.finalise)
            else:
                if not self.session.clear():
                    raise AssertionError("a clearing without limit ends")
                self.expect(None, self.session.finalise)
                self.finalised = True
                self.reference.clear()

        # -------------------------------------------------- afterwards

        @rule(who=WHO)
        def claim(self, who):
            trader = self.trader(who)
            error = None
            if not self.finalised:
                error = "NotFinalised"
            elif not self.rows[trader]:
                error = "BundleMismatch"
            elif trader in self.settled:
                error = "AlreadySettled"
            elif trader in self.claimed:
                error = "AlreadyClaimed"
            if self.expect(error, lambda: self.session.claim(trader, self.packed(trader))):
                self.claimed.add(trader)
                seen["claimed"] += 1

        @precondition(lambda self: self.finalised)
        @rule(who=WHO)
        def settle(self, who):
            trader = self.trader(who)
            error = None if self.rows[trader] else "BundleMismatch"
            if trader in self.settled:
                error = "AlreadySettled"
            if self.expect(error, lambda: self.session.settle(trader, self.packed(trader))):
                self.settled.add(trader)
                seen["settled"] += 1

        @rule()
        def close(self):
            still_open = {trader for trader, rows in self.rows.items() if rows} - self.settled
            error = None
            if not self.finalised:
                error = "NotFinalised"
            elif still_open:
                error = "BundlesOpen"
            elif self.closed:
                error = "AlreadyClosed"
            if self.expect(error, lambda: self.session.market.closeSession(self.session.id)):
                self.closed = True
                seen["closed"] += 1

        # -------------------------------------------------- invariants

        @invariant()
        def inv_p1_money_is_conserved(self):
            free = sum(world.house.balanceOf(t.address) for t in [*world.traders, world.operator])
            assert free + self.session.pot == world.house.totalHeld() == self.total

        @invariant()
        def inv_p2_pot_is_what_is_owed(self):
            if not self.closed:
                held = 0
                for trader, rows in self.rows.items():
                    orders = self.orders(rows)
                    done = trader in self.claimed | self.settled
                    held += (
                        self.reference.needs(self.reference.final(orders)) if done else self.reference.escrow(orders)
                    )
                budgets = TERMS.surplus_budget + TERMS.reward_budget
                assert self.session.pot == held + self.reference.rejection_fees + budgets

        @invariant()
        def inv_p3_open_bundles_are_counted(self):
            standing = {trader for trader, rows in self.rows.items() if rows} - self.settled
            assert self.session.state()["openBundles"] == len(standing)

    return HostileSession


REACHED = {
    "claimed",
    "closed",
    "rejected",
    "relayed",
    "relayed in vain: GateClosed",
    "relayed in vain: InvalidSignature",
    "settled",
    "settled in the end",
}


def test_session_under_hostile_actors(deployed):
    seen = Counter()
    run_state_machine_as_test(lambda: make_machine(deployed, seen)(), settings=settings(stateful_step_count=40))
    assert not REACHED - set(seen), f"no walk saw {sorted(REACHED - set(seen))}"


def test_walk_notices_a_wrong_prediction(deployed):
    machine = make_machine(deployed, Counter())()
    with pytest.raises(AssertionError, match="did not come"):
        machine.expect("GateClosed", lambda: machine.session.submit(deployed.traders[0], bundle_of((0, 0, 8, 50))))
    # The bundle was placed and nobody settles it: the walk cannot be wound up.
    with pytest.raises(ContractRevertedError, match="BundlesOpen"):
        machine.teardown()
