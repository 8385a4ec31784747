"""
A session under people who do what they like, when they like
├── INV-P1: balances + pot are what was deposited and not withdrawn
├── INV-P2: the pot is what the reference owes, until it is closed
├── INV-P3: every refusal is the one that the time and the state predict
├── INV-P4: wherever the walk ends, anybody can wind the session up, all contracts paused and the token stopped; nothing
│   is left in the pot, and once the token goes on everybody withdraws everything
├── every contract may be paused and the token stopped, at any time
├── time stands at, before and after each deadline, that of a signature too
├── relayers bring signatures late, again, several at once, or never: what they omit the trader places without them
└── traders take all their money out, reject all that is matched, and bring an old rejection back
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
from tests.market.world import BUY, FAR_FUTURE, FUNDS, SELL, TERMS, MarketWorld, bundle_of
from tests.reference.energy_market import BundleOrder, SessionReference

ROW = st.tuples(st.integers(0, 1), st.sampled_from([BUY, SELL]), st.sampled_from([8, 10, 12]), st.integers(10, 90))
ROWS = st.lists(ROW, max_size=3)
WHO = st.integers(0, 2)
STOPPABLE = ("market", "house", "sessions", "participants", "grid", "producers")
DEADLINES = ("gate_closure", "accept_by")
BOUNDARIES = (-1, 0, 1)


class StoppableWorld(MarketWorld):
    """Its token can be stopped; traders may bring back what they took out."""

    def __init__(self):
        super().__init__()
        for trader in self.traders:
            self.token.approve(self.house.address, 1_000 * FUNDS, sender=trader.address)

    def issue_token(self):
        token = self.evm.deploy("HostileToken", 6, 0, False, sender=self.admin.address)
        token.mint(self.admin.address, 1_000 * FUNDS)
        return token


@pytest.fixture(scope="module")
def stoppable():
    return StoppableWorld()


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
            self.signed, self.used_rejections, self.provisional = [], [], False
            self.stopped, self.paused = False, set()
            self.finalised = self.closed = False
            self.claimed, self.settled = set(), set()
            self.total = world.house.totalHeld()

        @initialize(
            sold=st.integers(10, 90),
            bought=st.integers(10, 90),
            third=ROWS,
            start=st.sampled_from(["open", "signed", "accept", "final", "settled"]),
        )
        def begin_with_a_match(self, sold, bought, third, start):
            """Left to chance, hardly a walk would trade before a gate closes."""
            for who, rows in enumerate([[(0, SELL, 8, sold)], [(0, BUY, 12, bought)], third]):
                if rows:
                    self.submit(who, rows)
            if start == "signed":
                for who in (0, 1, 2):
                    self.sign_and_keep_back(who, third, None)
            elif start == "accept":
                world.evm.now = self.session.times.gate_closure + 1
                self.clear(2**256 - 1, 1)
            elif start in ("final", "settled"):
                world.evm.now = self.session.times.accept_by + 1
                self.finalise()
                for who in (0, 1, 2) if start == "settled" else ():
                    self.settle(who)

        def teardown(self):
            try:
                self.wind_up()
            finally:
                self.rollback.__exit__(None, None, None)

        def wind_up(self) -> None:
            """INV-P4."""
            for name in set(STOPPABLE) - self.paused:
                getattr(world, name).pause(sender=world.admin.address)
            world.token.setStopped(True)
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
            world.token.setStopped(False)
            for trader in (*world.traders, world.operator):
                if balance := world.house.balanceOf(trader.address):
                    world.house.withdraw(trader.address, balance, sender=trader.address)
            assert world.house.totalHeld() == 0

        # -------------------------------------------------- helpers

        def trader(self, who: int):
            return world.traders[who]

        def packed(self, trader) -> bytes:
            return bundle_of(*self.rows[trader])

        def orders(self, rows):
            return [BundleOrder(p, sell == SELL, TERMS.grid.price(tick), wh) for p, sell, tick, wh in rows]

        def expect(self, error: str | None, call) -> bool:
            """Calls; says whether it went through, as ``error`` predicts."""
            for deadline in DEADLINES:
                offset = world.evm.now - getattr(self.session.times, deadline)
                if offset in BOUNDARIES:
                    seen[f"{deadline} {offset:+}"] += 1
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

        def refusal_of_orders(self, trader, rows) -> str | None:
            if not self.trading:
                return "GateClosed"
            if rows and "market" in self.paused:
                return "EnforcedPause"
            if rows == self.rows[trader]:
                return "NothingToChange"
            escrow, freed = (self.reference.escrow(self.orders(r)) for r in (rows, self.rows[trader]))
            if escrow > freed and "house" in self.paused:
                return "EnforcedPause"
            return "InsufficientBalance" if escrow - freed > world.house.balanceOf(trader.address) else None

        def stands(self, trader, rows) -> bool:
            """Whether a relayer has nothing to bring: it is passed over, whatever the time."""
            return rows == self.rows[trader] and self.sequence[trader] != 0

        def relayed(self, trader, rows) -> None:
            if self.stands(trader, rows):
                seen["relayed again"] += 1
            else:
                self.placed(trader, rows)
                seen["relayed"] += 1

        def refusal_of_signed(self, trader, rows, sequence, deadline) -> str | None:
            if self.stands(trader, rows):
                return None
            if world.evm.now > deadline:
                return "SignatureExpired"
            return "InvalidSignature" if sequence != self.sequence[trader] else self.refusal_of_orders(trader, rows)

        # -------------------------------------------------- orders

        @rule(who=WHO, rows=ROWS)
        def submit(self, who, rows):
            trader, before = self.trader(who), self.packed(self.trader(who))
            error = self.refusal_of_orders(trader, rows)
            if self.expect(error, lambda: self.session.submit(trader, bundle_of(*rows), before)):
                held_back = any(t is trader and kept == self.sequence[t] for t, _, kept, _, _ in self.signed)
                seen["placed what a relayer omitted"] += held_back
                self.placed(trader, rows)
            else:
                seen[f"submitted in vain: {error}"] += 1

        @rule(who=WHO, rows=ROWS, deadline=st.sampled_from([None, None, -1, 0]))
        def sign_and_keep_back(self, who, rows, deadline):
            trader = self.trader(who)
            until = FAR_FUTURE if deadline is None else self.session.times.gate_closure + deadline
            message = self.session.signed(trader, bundle_of(*rows), self.packed(trader), deadline=until)
            self.signed.append((trader, rows, self.sequence[trader], until, message))

        @precondition(lambda self: self.signed)
        @rule(data=st.data())
        def relay_old_or_new(self, data):
            signed = data.draw(st.sampled_from(self.signed))
            error = self.refusal_of_signed(*signed[:4])
            if self.expect(error, lambda: self.session.submit_signed(signed[4])):
                assert world.evm.events or self.stands(*signed[:2])
                self.relayed(*signed[:2])
            else:
                seen[f"relayed in vain: {error}"] += 1

        @precondition(lambda self: len({trader for trader, *_ in self.signed}) > 1)
        @rule(data=st.data())
        def relay_of_two_all_or_nothing(self, data):
            first = data.draw(st.sampled_from(self.signed))
            second = data.draw(st.sampled_from([signed for signed in self.signed if signed[0] is not first[0]]))
            refusals = [self.refusal_of_signed(*signed[:4]) for signed in (first, second)]
            error = refusals[0] or refusals[1]
            if self.expect(error, lambda: self.session.submit_signed(first[4], second[4])):
                self.relayed(*first[:2])
                self.relayed(*second[:2])
                seen["relayed two"] += 1
            elif refusals[0] is None:
                seen["relayed two, the second in vain"] += 1

        # -------------------------------------------------- money

        @rule(who=WHO, everything=st.booleans())
        def withdraw(self, who, everything):
            trader = self.trader(who)
            amount = world.house.balanceOf(trader.address) if everything else 1
            error = "TransfersStopped" if self.stopped else None
            if amount > world.house.balanceOf(trader.address):
                error = "InsufficientBalance"
            elif amount == 0:
                error = "ZeroAmount"
            if self.expect(error, lambda: world.house.withdraw(trader.address, amount, sender=trader.address)):
                self.total -= amount
                seen["withdrew while the clearing house was paused"] += "house" in self.paused
            else:
                seen[f"withdrew in vain: {error}"] += 1

        @rule(who=WHO)
        def deposit(self, who):
            trader = self.trader(who)
            amount = world.token.balanceOf(trader.address)
            error = "TransfersStopped" if self.stopped else None if amount else "ZeroAmount"
            if "house" in self.paused:
                error = "EnforcedPause"
            if self.expect(error, lambda: world.house.deposit(trader.address, amount, sender=trader.address)):
                self.total += amount
                seen["deposited"] += 1
            else:
                seen[f"deposited in vain: {error}"] += 1

        # -------------------------------------------------- time and stop

        @rule(offset=st.sampled_from(BOUNDARIES))
        def go_to_the_next_deadline(self, offset):
            """Or a second further, as long as one is before us or near."""
            moments = [getattr(self.session.times, deadline) + offset for deadline in DEADLINES]
            world.evm.now = min((m for m in moments if m > world.evm.now), default=world.evm.now)

        @rule(name=st.sampled_from([*STOPPABLE, "token"]))
        def stop_or_go_on(self, name):
            if name == "token":
                self.stopped = not self.stopped
                world.token.setStopped(self.stopped)
                return
            contract = getattr(world, name)
            (contract.unpause if name in self.paused else contract.pause)(sender=world.admin.address)
            self.paused ^= {name}

        @rule()
        def open_another(self):
            """It is undone: the walk is about one session."""
            arguments = TERMS.as_tuple(), self.session.first_isp
            error = "EnforcedPause" if self.paused & {"sessions", "market", "house"} else None
            if not self.trading and "sessions" not in self.paused:
                error = "GatePassed"
            with world.evm.rolled_back():
                opened = self.expect(error, lambda: world.sessions.open(*arguments, sender=world.operator.address))
            seen["opened another" if opened else f"opened another in vain: {error}"] += 1

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
        @rule(who=WHO, relayed=st.booleans())
        def reject_all_that_is_matched(self, who, relayed):
            trader, call = self.trader(who), self.session.reject_signed if relayed else self.session.reject
            matched = {
                i for i, order in enumerate(self.reference.bundles.get(trader.name, [])) if self.was_filled(order)
            }
            if not matched:
                return
            over = world.evm.now > self.session.times.accept_by
            error = "AcceptanceOver" if over else None
            bundle, bits = self.packed(trader), sum(1 << i for i in matched)
            if self.expect(error, lambda: call(trader, bundle, bits)):
                self.reference.reject(trader.name, matched)
                self.used_rejections.append((trader, bundle, bits, self.sequence[trader]))
                self.rows[trader] = [row for i, row in enumerate(self.rows[trader]) if i not in matched]
                self.sequence[trader] += 1
                seen["rejected" if self.rows[trader] else "rejected all"] += 1
            else:
                seen["rejected in vain: AcceptanceOver"] += 1

        @precondition(lambda self: self.used_rejections)
        @rule(data=st.data())
        def replay_a_rejection(self, data):
            trader, bundle, bits, sequence = data.draw(st.sampled_from(self.used_rejections))
            self.expect("InvalidSignature", lambda: self.session.reject_signed(trader, bundle, bits, sequence=sequence))
            seen["rejection replayed"] += 1

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
    "deposited",
    "deposited in vain: EnforcedPause",
    "deposited in vain: TransfersStopped",
    "opened another",
    "opened another in vain: EnforcedPause",
    "opened another in vain: GatePassed",
    "placed what a relayer omitted",
    "rejected all",
    "rejected in vain: AcceptanceOver",
    "rejection replayed",
    "relayed",
    "relayed again",
    "relayed in vain: GateClosed",
    "relayed in vain: InvalidSignature",
    "relayed in vain: SignatureExpired",
    "relayed two",
    "relayed two, the second in vain",
    "settled",
    "settled in the end",
    "submitted in vain: EnforcedPause",
    "submitted in vain: GateClosed",
    "submitted in vain: InsufficientBalance",
    "withdrew in vain: TransfersStopped",
    "withdrew while the clearing house was paused",
    *(f"{deadline} {offset:+}" for deadline in DEADLINES for offset in BOUNDARIES),
}


def test_session_under_hostile_actors(stoppable):
    seen = Counter()
    run_state_machine_as_test(
        lambda: make_machine(stoppable, seen)(),
        settings=settings(max_examples=max(120, settings().max_examples), stateful_step_count=40),
    )
    missed = {kind for kind in REACHED if not seen[kind]}
    assert not missed, f"no walk saw {sorted(missed)}"


def test_walk_notices_a_wrong_prediction(stoppable):
    machine = make_machine(stoppable, Counter())()
    with pytest.raises(AssertionError, match="did not come"):
        machine.expect("GateClosed", lambda: machine.session.submit(stoppable.traders[0], bundle_of((0, 0, 8, 50))))
    # The bundle was placed and nobody settles it: the walk cannot be wound up.
    with pytest.raises(ContractRevertedError, match="BundlesOpen"):
        machine.teardown()


@pytest.mark.parametrize(
    ("invariant", "fault"),
    [
        (
            "inv_p1_money_is_conserved",
            lambda world, _: world.house.lock(b"\1" * 32, world.traders[3].address, 1, sender=world.module.address),
        ),
        (
            "inv_p2_pot_is_what_is_owed",
            lambda world, session: world.house.release(
                session.pot_id, world.traders[1].address, 1, sender=world.module.address
            ),
        ),
        (
            "inv_p3_open_bundles_are_counted",
            lambda world, session: session.submit(world.traders[0], bundle_of((1, SELL, 8, 50))),
        ),
    ],
)
def test_walk_notices_a_fault(stoppable, invariant, fault):
    machine = make_machine(stoppable, Counter())()
    try:
        getattr(machine, invariant)()
        fault(stoppable, machine.session)
        with pytest.raises(AssertionError):
            getattr(machine, invariant)()
    finally:
        machine.rollback.__exit__(None, None, None)
