"""Machine of the flexibility market: a DSO, two aggregators, an outsider, time that moves over every deadline.

Invariants FM1 to FM4 of ``SPEC.md``. The reference predicts every revert with its numbers.
"""

import brownie
import pytest
from brownie import chain
from eth_hash.auto import keccak
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from offchain.domain.units import cost_up
from tests.fixtures.flexibility import *  # noqa: F403
from tests.reference.flex_market import FlexMarketReference, OfferStatus, OrderStatus
from tests.reference.revert import Revert
from tests.utils import clock, system
from tests.utils import flexibility as fx
from tests.utils.reverts import error_text

POSITIONS = (72, 73, 74)
RATES = (333, 1_001, 1, 0, 333, 1_001, 300_001)
SET_UP_SECONDS = 60
"""What the fixtures may take by the machine's clock."""
FUNDS = 9_000
"""Free balance of each party [uToken]: little, so that it sometimes does not suffice."""

curves = st.lists(st.integers(0, 3_000), min_size=3, max_size=3).map(
    lambda wh: {p: q for p, q in zip(POSITIONS, wh, strict=True) if q}
)
small_curves = st.lists(st.integers(0, 3), min_size=3, max_size=3).map(
    lambda wh: {p: q for p, q in zip(POSITIONS, wh, strict=True) if q}
)
any_curve = st.one_of(small_curves, curves)
numbers = st.integers(0, 2**16)

KINDS = ("budget", "offer", "escrow", "bond")
EXAMPLES = settings(max_examples=max(1, settings.default.max_examples // 4))
"""A step costs a transaction and up to thirty calls: a quarter of what the profile says."""


def lock_id(market, kind: str, number: int) -> bytes:
    """``keccak256(abi.encode(market, kind, number))`` of the interface, without asking the contract."""
    address = bytes.fromhex(market.address[2:]).rjust(32, b"\0")
    return keccak(address + kind.encode().ljust(32, b"\0") + number.to_bytes(32))


def make_machine(flex, reference=FlexMarketReference, summed=KINDS, closed=True):
    """A machine over the market and a class of references.

    ``summed`` are the kinds of lock that FM2 adds up, all of them unless FM2 is to fail; ``closed``
    says whether an outsider closes at the end what others left open, as it does unless FM4 is to fail.
    """
    actors, market, house = flex.actors, flex.market, flex.core.house
    aggregators = [actors.aggregator, flex.other_aggregator]
    parties = [actors.dso, *aggregators]
    callers = [*parties, actors.outsider]
    commitments = {a.address: number for number, a in enumerate(aggregators, start=1)}
    total = house.totalHeld()
    chain.snapshot()

    class FlexMarketMachine(RuleBasedStateMachine):
        def __init__(self):
            chain.revert()
            super().__init__()
            self.parties = parties
            self.now = flex.now + SET_UP_SECONDS
            self.reference = reference(
                actors.dso.address,
                dict(commitments),
                {account.address: house.balanceOf(account) for account in callers},
                flex.day,
            )

        def expect(self, expected: Revert | None, function, *arguments, sender):
            """Sends a transaction at ``now`` and expects what the reference said."""
            clock.at(self.now)
            if expected is None:
                function(*arguments, {"from": sender})
            else:
                with brownie.reverts(error_text(expected.name, *expected.arguments)):
                    function(*arguments, {"from": sender})

        def one_of(self, items: list, number: int) -> int:
            """Identifier of one of ``items``; now and then one that does not exist."""
            return len(items) + 1 if not items or number % 16 == 15 else number % len(items) + 1

        # -------------------------------------------------------------- time, standing

        @rule(seconds=st.integers(1, 200))
        def wait(self, seconds):
            self.now += seconds

        @rule(number=numbers, which=st.sampled_from(["gate_closure", "select_by"]), late=st.integers(-1, 1))
        def wait_for_a_deadline(self, number, which, late):
            if self.reference.requests:
                request = self.reference.requests[number % len(self.reference.requests)]
                self.now = max(self.now, getattr(request, which) + late)

        @rule(party=st.sampled_from(parties))
        def change_standing(self, party):
            """Suspends a party, or reinstates the one that is suspended."""
            suspended = self.reference.suspended
            changed = next((p for p in parties if p.address in suspended), party)
            status = system.Status.ACTIVE if suspended else system.Status.SUSPENDED
            clock.at(self.now)
            flex.core.participants.setStatus(changed, status, b"\x01" * 32, {"from": actors.registrar})
            suspended ^= {changed.address}

        def reinstate(self):
            if self.reference.suspended:
                self.change_standing(actors.dso)

        # -------------------------------------------------------------- requests

        @initialize(requested=curves.filter(bool), offered=st.lists(curves, min_size=2, max_size=2))
        def begin_with_offers(self, requested, offered):
            self.publish(actors.dso, requested, 1_001, 333, 600, 600, 0)
            for aggregator, curve in zip(aggregators, offered, strict=True):
                self.place(aggregator, 0, 1, True, curve)

        @rule(
            caller=st.sampled_from([actors.dso] * 6 + callers),
            curve=any_curve,
            cap=st.sampled_from(RATES),
            bond_rate=st.sampled_from(RATES),
            gate=st.sampled_from([600, 600, 300, 0, -1]),
            selection=st.sampled_from([600, 600, 1, 0]),
            dispatch=st.sampled_from([600, 0, 0, -1, 10**6]),
        )
        def publish(self, caller, curve, cap, bond_rate, gate, selection, dispatch):
            gate_closure = self.now + gate
            deadlines = (gate_closure, gate_closure + selection, gate_closure + selection + dispatch)
            expected = self.reference.publish(self.now, caller.address, curve, cap, bond_rate, *deadlines)
            terms = fx.make_request(
                flex,
                price_cap=cap,
                bond_rate=bond_rate,
                gate_closure=deadlines[0],
                select_by=deadlines[1],
                dispatch_by=deadlines[2],
            )
            self.expect(expected, market.publishRequest, terms.as_tuple(), fx.curve(curve), sender=caller)

        @rule(caller=st.sampled_from([actors.dso] * 3 + callers), number=numbers)
        def cancel_request(self, caller, number):
            request_id = self.one_of(self.reference.requests, number)
            expected = self.reference.cancel_request(self.now, caller.address, request_id)
            self.expect(expected, market.cancelRequest, request_id, sender=caller)

        @rule(number=numbers)
        def expire_request(self, number):
            request_id = self.one_of(self.reference.requests, number)
            expected = self.reference.expire_request(self.now, request_id)
            self.expect(expected, market.expireRequest, request_id, sender=actors.outsider)

        # -------------------------------------------------------------- offers

        @rule(
            caller=st.sampled_from(aggregators * 4 + [actors.outsider]),
            number=numbers,
            below_cap=st.sampled_from([0, 1, -1]),
            own_baseline=st.sampled_from([True] * 6 + [False]),
            curve=any_curve,
        )
        def place(self, caller, number, below_cap, own_baseline, curve):
            request_id = self.one_of(self.reference.requests, number)
            known = self.reference.requests[request_id - 1 : request_id]
            price = max(known[0].price_cap - below_cap, 0) if known else 1
            own = commitments.get(caller.address, 1)
            commitment_id = own if own_baseline else 3 - own
            expected = self.reference.place(self.now, caller.address, request_id, price, commitment_id, curve)
            self.expect(expected, market.placeOffer, request_id, price, commitment_id, fx.curve(curve), sender=caller)

        @rule(caller=st.sampled_from(aggregators * 3 + [actors.dso]), number=numbers)
        def withdraw(self, caller, number):
            offer_id = self.one_of(self.reference.offers, number)
            expected = self.reference.withdraw(self.now, caller.address, offer_id)
            self.expect(expected, market.withdrawOffer, offer_id, sender=caller)

        @rule(number=numbers)
        def release(self, number):
            offer_id = self.one_of(self.reference.offers, number)
            expected = self.reference.release(self.now, offer_id)
            self.expect(expected, market.releaseOffer, offer_id, sender=actors.outsider)

        # -------------------------------------------------------------- orders

        @rule(number=numbers, share=st.sampled_from([1, 1, 2, 3]))
        def select_what_fits(self, number, share):
            """As a sensible DSO does: in good standing, after the gate, open offers, each as far as it fits."""
            reference = self.reference
            still_open = [n for n, r in enumerate(reference.requests, start=1) if r.status == 1]
            if not still_open:
                return
            self.reinstate()
            request_id = still_open[number % len(still_open)]
            request = reference.requests[request_id - 1]
            if self.now <= request.select_by:
                self.now = max(self.now, request.gate_closure + 1)
            left, chosen = dict(request.curve), []
            for offer_id, offer in enumerate(reference.offers, start=1):
                if offer.request_id != request_id or offer.status != 1:
                    continue
                ordered = {p: min(q, left.get(p, 0)) // share for p, q in offer.curve.items()}
                ordered = {p: q for p, q in ordered.items() if q}
                if ordered:
                    chosen.append((offer_id, ordered))
                    left = {p: q - ordered.get(p, 0) for p, q in left.items()}
            self.select(actors.dso, request_id, chosen)

        @rule(
            caller=st.sampled_from([actors.dso] * 4 + callers),
            number=numbers,
            drawn=st.lists(st.tuples(numbers, small_curves), max_size=3),
        )
        def select_anything(self, caller, number, drawn):
            request_id = self.one_of(self.reference.requests, number)
            chosen = [(self.one_of(self.reference.offers, n), ordered) for n, ordered in drawn]
            self.select(caller, request_id, chosen)

        def select(self, caller, request_id, chosen):
            reference = self.reference
            requested = reference.requests[request_id - 1].curve if request_id <= len(reference.requests) else {}
            offered = [o.curve for o in reference.offers]
            packed = [
                (offer_id, fx.curve(offered[offer_id - 1] if offer_id <= len(offered) else {}), fx.curve(ordered))
                for offer_id, ordered in chosen
            ]
            expected = reference.select(self.now, caller.address, request_id, chosen)
            self.expect(expected, market.select, request_id, fx.curve(requested), packed, sender=caller)

        @rule(number=numbers)
        def dispatch(self, number):
            if self.reference.orders:
                order_id = number % len(self.reference.orders) + 1
                clock.at(self.now)
                flex.dispatch.setIssued(order_id, 1, {"from": actors.admin})
                self.reference.dispatch(order_id)

        @rule(caller=st.sampled_from([actors.dso] * 3 + callers), number=numbers)
        def cancel_order(self, caller, number):
            order_id = self.one_of(self.reference.orders, number)
            expected = self.reference.cancel_order(caller.address, order_id)
            self.expect(expected, market.cancelOrder, order_id, sender=caller)

        @rule(number=numbers)
        def settle(self, number):
            self.settle_order(self.one_of(self.reference.orders, number))

        def settle_order(self, order_id):
            """What the settlement module does, played by an account that is a module."""
            expected = self.reference.settle(order_id)
            self.expect(expected, market.closeOrder, order_id, sender=actors.module)
            if expected is None:
                aggregator = self.reference.orders[order_id - 1].aggregator
                for lock in (market.escrowLockId(order_id), market.bondLockId(order_id)):
                    amount = house.lockOf(lock)
                    clock.at(self.now)
                    house.release(lock, aggregator, amount, {"from": actors.module})

        # -------------------------------------------------------------- invariants

        @invariant()
        def inv_time(self):
            """Every transaction had its second: one that goes by the machine's clock drifts when that is busy."""
            assert chain[-1].timestamp <= self.now

        @invariant()
        def inv_fm1_fm2_money(self):
            """One reading of the ledger for both: most of the time of a step is spent on it."""
            free = {account.address: house.balanceOf(account) for account in parties}
            locks = {lock: house.lockOf(lock_id(market, *lock)) for lock in self.reference.locks}
            in_locks = sum(amount for (kind, _), amount in locks.items() if kind in summed)
            assert sum(free.values()) + in_locks == 3 * FUNDS, "FM2"
            assert house.totalHeld() == total, "FM2"
            assert free == {account: self.reference.free[account] for account in free}, "FM1 free balances"
            assert locks == self.reference.locks, "FM1 locks"

        @invariant()
        def inv_fm3_states(self):
            for number, request in enumerate(self.reference.requests, start=1):
                stored = market.request(number)
                assert (stored["status"], stored["orderedWh"]) == (request.status, request.ordered_wh), "FM3"
            for number, offer in enumerate(self.reference.offers, start=1):
                assert market.offer(number)["status"] == offer.status, "FM3"
            for number, order in enumerate(self.reference.orders, start=1):
                stored = market.flexOrder(number)
                assert stored["status"] == order.status, "FM3"
                assert bytes(stored["quantitiesHash"]) == keccak(fx.curve(order.curve)), "FM3"

        def teardown(self):
            """FM4: paused, past every deadline, parties gone silent: an outsider closes all, each withdraws all."""
            reference = self.reference
            for target in (market, house):
                clock.at(self.now)
                target.pause({"from": actors.guardian})
            self.now = max([self.now, *(r.select_by + 1 for r in reference.requests)])
            if closed:
                self.close_everything()
            self.inv_fm1_fm2_money()
            assert not any(reference.locks.values()), "FM4"
            for account in parties:
                if free := house.balanceOf(account):
                    house.withdraw(account, free, {"from": account})
            assert house.totalHeld() == total - 3 * FUNDS, "FM4"

        def close_everything(self):
            reference = self.reference
            for number in range(1, len(reference.requests) + 1):
                if reference.expire_request(self.now, number) is None:
                    self.expect(None, market.expireRequest, number, sender=actors.outsider)
            for number in range(1, len(reference.offers) + 1):
                if reference.release(self.now, number) is None:
                    self.expect(None, market.releaseOffer, number, sender=actors.outsider)
            for number, order in enumerate(reference.orders, start=1):
                if order.status is OrderStatus.OPEN:
                    self.settle_order(number)

    return FlexMarketMachine


@pytest.fixture(scope="module")
def funded(flex):
    """Parties with little money and a baseline for each aggregator."""
    actors, house = flex.actors, flex.core.house
    parties = (actors.dso, actors.aggregator, flex.other_aggregator)
    for account in parties:
        house.withdraw(account, house.balanceOf(account) - FUNDS, {"from": account})
    for number, aggregator in enumerate(parties[1:], start=1):
        assert fx.commit_baseline(flex, aggregator) == number
    clock.move_to(flex.now + SET_UP_SECONDS)
    return flex


def test_flex_market_behaves_as_the_reference(funded):
    run_state_machine_as_test(make_machine(funded), settings=EXAMPLES)


class EscrowRoundedUp(FlexMarketReference):
    def _order(self, request_id, offer_id, ordered):
        super()._order(request_id, offer_id, ordered)
        lock = "escrow", len(self.orders)
        escrow = cost_up(sum(ordered.values()), self.offers[offer_id - 1].price)
        missing = min(escrow - self.locks[lock], self.locks["budget", request_id])
        self._relock(("budget", request_id), lock, missing)


class WithdrawnIsReleased(FlexMarketReference):
    def withdraw(self, now, caller, offer_id):
        fault = super().withdraw(now, caller, offer_id)
        if fault is None:
            self.offers[offer_id - 1].status = OfferStatus.RELEASED
        return fault


class GateClosesEarly(FlexMarketReference):
    def place(self, now, *arguments):
        return super().place(now + 1, *arguments)


class SoldTwice(FlexMarketReference):
    def _close_offer(self, offer_id, status):
        super()._close_offer(offer_id, status)
        if status is OfferStatus.ORDERED:
            self.offers[offer_id - 1].status = OfferStatus.OPEN


def run_scenario(machine_class) -> None:
    """A fixed walk through all states, with the invariants after every step, for faults that chance may miss."""
    machine = machine_class()
    dso, first, second = machine.parties
    steps = [
        lambda: machine.publish(dso, {72: 2_001, 73: 3}, 333, 1_001, 600, 600, 0),
        lambda: machine.publish(dso, {74: 1}, 1, 0, 600, 600, 600),
        lambda: machine.place(first, 0, 0, True, {72: 1_000, 73: 2}),
        lambda: machine.place(second, 0, 1, True, {72: 2_000}),
        lambda: machine.place(first, 0, 0, True, {72: 7}),
        lambda: machine.withdraw(first, 2),
        lambda: machine.wait(600),
        lambda: machine.place(first, 0, 0, True, {72: 1}),
        lambda: machine.select_what_fits(0, 2),
        lambda: machine.cancel_order(dso, 1),
        lambda: machine.select(dso, 1, []),
        lambda: machine.wait(1_000),
    ]
    for step in steps:
        step()
        machine.inv_fm1_fm2_money()
        machine.inv_fm3_states()
    assert [order.status for order in machine.reference.orders] == [OrderStatus.OPEN, OrderStatus.CANCELLED]
    machine.teardown()


def test_flex_market_walks_through_all_states(funded):
    run_scenario(make_machine(funded))


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"reference": EscrowRoundedUp}, "FM1"),
        ({"summed": KINDS[1:]}, "FM2"),
        ({"reference": WithdrawnIsReleased}, "FM3"),
        ({"reference": SoldTwice}, "FM3"),
        ({"closed": False}, "FM4"),
        ({"reference": GateClosesEarly}, "Transaction did not revert"),
    ],
)
def test_flex_market_machine_fails_when_it_should(funded, changed, failure):
    broken = make_machine(funded, **changed)
    with pytest.raises(AssertionError, match=failure):
        run_scenario(broken)
