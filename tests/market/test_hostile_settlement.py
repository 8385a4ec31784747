"""
Settlement of a session under people who lie, keep silent or bring nothing
├── INV-S1: money is conserved: free balances, pot, stakes and bonds of challenges
├── INV-S2: everybody has, to the micro-token, what reference and twin say, never more
├── INV-S3: the pot holds at least what is still owed to who is not settled
├── INV-S4: every refusal is the one that the time and the state predict
└── INV-S5: wherever the walk ends, all paused, everybody is settled and the pot is empty; stakes that were bound come
    back when the clearing house goes on

Proposers tell the truth, a micro-token more, or another bundle; challengers challenge either; one watcher challenges
each lie before its window is over, as the protocol assumes, and as soon as the clearing house lets it: nobody lifts a
pause for it. Sellers deliver all, nothing, anything, or have no readings.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from eth_abi import encode
from eth_hash.auto import keccak
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
from offchain.chain.merkle import MerkleTree
from offchain.market.clearing import clear_orders
from offchain.market.netting import MeteredWindow, Position, net
from offchain.market.orders import unpack_bundle
from offchain.market.settlement import FinalRates, bundle_fills, outcome
from tests.market.settling import PROPOSER_SETTINGS, position, span_of
from tests.market.world import BUY, SELL, SOLAR, TERMS, bundle_of
from tests.reference.energy_market import BundleOrder, SessionReference

_, TURN, CHALLENGE, ANSWER, MINIMUM, PENALTY, BOND, FEE = PROPOSER_SETTINGS
TURNS = 3
PRODUCTS = st.sampled_from([0, 1, 4])
QUANTITY = st.integers(10, 900)
SELLER = st.tuples(PRODUCTS, st.just(SELL), st.sampled_from([8, 30]), QUANTITY)
BUYER = st.tuples(PRODUCTS, st.just(BUY), st.sampled_from([30, 40]), QUANTITY)
ANYBODY = st.one_of(SELLER, BUYER)
LIES = st.sampled_from(["", "", "payout", "bundle"])
READINGS = st.one_of(
    st.just([(0, 0)] * 8),
    st.just([None] * 8),
    st.just([(0, 900)] * 8),
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 900), st.integers(0, 900))),
        min_size=8,
        max_size=8,
    ),
)


@dataclass
class Proposal:
    proposer: object
    number: int
    until: int
    """End of its window, on the clock that stands still while the clearing house is paused."""
    outcomes: list[dict]
    traders: list
    lies: set[int]
    tree: MerkleTree
    concluded: bool = False

    def proof(self, place: int) -> list[bytes]:
        return list(self.tree.proofs())[place]


@dataclass
class Challenge:
    proposal: Proposal
    place: int
    by: object
    answer_by: int


def make_machine(world, seen: Counter):
    proposer, house, market = world.proposer, world.house, world.market
    sellers, stakers, watcher = world.traders[:3], world.traders[3:5], world.operator

    class HostileSettlement(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.rollback = world.evm.rolled_back()
            self.rollback.__enter__()
            self.settled, self.paused, self.challenges = set(), set(), {}
            self.proposal, self.number, self.turns_from, self.first_turn = None, 0, None, 0
            self.standstill, self.standstill_at_pause = 0, 0

        def teardown(self):
            try:
                self.wind_up()
            finally:
                self.rollback.__exit__(None, None, None)

        # -------------------------------------------------- up to the final match

        @initialize(data=st.data())
        def trade(self, data):
            self.people = [*world.traders, world.operator]
            for trader in stakers:
                proposer.stake(MINIMUM, sender=trader.address)
            world.evm.now += 10 * 86_400
            for trader in sellers:
                world.set_producer_class(trader, SOLAR)
            self.session = session = world.open()
            self.reference = SessionReference(TERMS)
            self.rows = {
                trader: data.draw(st.lists(kind, min_size=1, max_size=3))
                for trader, kind in zip(sellers, (SELLER, BUYER, ANYBODY), strict=True)
            }
            for trader, rows in self.rows.items():
                session.submit(trader, bundle_of(*rows))
                self.reference.bundles[trader.name] = self.orders(trader)
            for trader in stakers:
                secret = self.secret(trader)
                commitment = keccak(encode(["uint64", "address", "bytes32"], [session.id, trader.address, secret]))
                proposer.commit(session.id, commitment, sender=trader.address)
            session.close_gate()
            self.revealed = data.draw(st.sets(st.sampled_from([0, 1])))
            for who in self.revealed:
                proposer.reveal(session.id, stakers[who].address, self.secret(stakers[who]))
            self.auction(data.draw(st.sets(st.sampled_from(sellers), max_size=1)))
            self.meter({trader: data.draw(READINGS) for trader in sellers})
            self.stakes = dict.fromkeys(stakers, MINIMUM)
            self.draw_ends = session.times.readings_due + TURNS * (TURN + CHALLENGE + ANSWER)
            for trader in (t for i, t in enumerate(stakers) if i not in self.revealed):
                proposer.punishSilence(session.id, trader.address)
                self.stakes[trader] -= PENALTY
            world.evm.now = session.times.readings_due + data.draw(st.integers(-1, 1))
            self.expected = {person: house.balanceOf(person.address) for person in self.people}
            self.total = self.money()
            if self.standing and data.draw(st.booleans()):
                # Most of what can go wrong comes after a proposal.
                self.propose(2, data.draw(LIES), data.draw(st.integers(0, 2)))

        def auction(self, rejecting) -> None:
            session, reference = self.session, self.reference
            session.clear()
            reference.clear()
            for trader in rejecting:
                orders = reference.bundles[trader.name]
                matched = {i for i, order in enumerate(orders) if reference.filled_wh(order)}
                if matched:
                    session.reject(trader, self.packed(trader), sum(1 << i for i in matched))
                    reference.reject(trader.name, matched)
                    self.rows[trader] = [row for i, row in enumerate(self.rows[trader]) if i not in matched]
                    seen["all matches rejected"] += 1
            session.run_auction()
            reference.clear()
            self.standing = [trader for trader, rows in self.rows.items() if rows]

        def meter(self, readings) -> None:
            """Anchors readings; what everybody is owed by reference and twin."""
            session = self.session
            self.evidence = world.anchor(session, readings)
            state = session.state()
            rates = FinalRates(state["surplusPrice"], state["greenRewardRate"])
            books = {trader: unpack_bundle(TERMS.grid, self.packed(trader)) for trader in self.standing}
            if not books:
                return
            everything = np.concatenate(list(books.values()))
            results = [
                clear_orders(TERMS.grid, everything[everything["period"] == p]) for p in range(TERMS.product_count)
            ]
            self.owed, self.spare, self.delivered, self.missing = {}, {}, {}, {}
            for trader, book in books.items():
                fills = bundle_fills(TERMS, results, book)
                for target, values in ((self.owed, readings[trader]), (self.missing, [None] * 8)):
                    own = Position(session.id, span_of(session), fills)
                    netted = net([own], MeteredWindow.of(session.first_isp, values)).sessions[session.id]
                    target[trader] = outcome(TERMS, rates, fills, netted).payout
                final = self.reference.final(self.orders(trader))
                self.spare[trader] = self.reference.escrow(self.orders(trader)) - self.reference.needs(final)
                most = self.reference.most(final, rates.surplus_price, rates.green_reward_rate)
                assert max(self.owed[trader], self.missing[trader]) <= most
                if final.sold and readings[trader] == [(0, 0)] * 8:
                    seen["seller without energy"] += 1

        # -------------------------------------------------- helpers

        def secret(self, trader) -> bytes:
            return keccak(b"secret of " + trader.name.encode())

        def packed(self, trader) -> bytes:
            return bundle_of(*self.rows[trader])

        def orders(self, trader) -> list[BundleOrder]:
            return [BundleOrder(p, sell == SELL, TERMS.grid.price(t), wh) for p, sell, t, wh in self.rows[trader]]

        def position(self, trader) -> list[dict]:
            return [position(self.session, self.packed(trader))]

        def money(self) -> int:
            free = sum(house.balanceOf(person.address) for person in self.people)
            stakes = sum(house.lockOf(proposer.stakeLockId(t.address)) for t in stakers)
            bonds = sum(house.lockOf(proposer.challengeLockId(number)) for number in self.challenges)
            return free + stakes + bonds + self.session.pot

        def expect(self, error: str | None, call) -> bool:
            """Calls; says whether it went through, as ``error`` predicts."""
            try:
                call()
            except ContractRevertedError as refused:
                assert refused.name == error, f"{refused} instead of {error}"
                return False
            assert error is None, f"{error} did not come"
            return True

        def pay(self, trader, amount: int) -> None:
            self.expected[trader] += amount + self.spare[trader]
            self.settled.add(trader)

        @property
        def clock(self) -> int:
            return world.evm.now - self.standstill

        def wait(self, then: int) -> None:
            """Lets time pass; the clock stands still while the clearing house is paused."""
            if "house" in self.paused:
                self.standstill += then - world.evm.now
            world.evm.now = then

        def open_of(self, proposal) -> list[int]:
            return [number for number, open_one in self.challenges.items() if open_one.proposal is proposal]

        # -------------------------------------------------- time and stop

        @rule(
            deadline=st.sampled_from(["readings due", "turn", "window", "answer", "settle by"]),
            offset=st.integers(-1, 1),
        )
        def go_to(self, deadline, offset):
            times, turns_from = self.session.times, self.turns_from or self.session.times.readings_due
            moments = {
                "readings due": times.readings_due,
                "turn": turns_from + max(0, world.evm.now - turns_from) // TURN * TURN + TURN,
                "settle by": times.settle_by,
            }
            if self.proposal:
                moments["window"] = self.proposal.until + self.standstill
            if self.challenges:
                moments["answer"] = min(c.answer_by for c in self.challenges.values())
            self.pass_to(max(world.evm.now, moments.get(deadline, 0) + offset))

        def pass_to(self, then: int) -> None:
            """The watcher comes at the last second in which it can."""
            proposal = self.proposal
            if proposal and "house" not in self.paused:
                last = proposal.until + self.standstill - 1
                challenged = {self.challenges[number].place for number in self.open_of(proposal)}
                if proposal.lies - challenged and world.evm.now <= last < then:
                    self.wait(last)
                    self.challenge_by(watcher, min(proposal.lies))
            self.wait(then)
            if proposal and self.clock < proposal.until <= then - self.standstill_at_pause:
                seen["window held open by a pause"] += 1

        @rule(name=st.sampled_from(["house", "market", "proposer"]))
        def stop_or_go_on(self, name):
            contract = getattr(world, name)
            (contract.unpause if name in self.paused else contract.pause)(sender=world.admin.address)
            self.paused ^= {name}
            if name == "house":
                self.standstill_at_pause = self.standstill

        # -------------------------------------------------- batches

        @precondition(lambda self: self.standing)
        @rule(who=st.integers(0, 2), lie=LIES, place=st.integers(0, 2))
        def propose(self, who, lie, place):
            sender = self.whose_turn() if who == 2 else stakers[who]
            place, outcomes = place % len(self.standing), []
            for trader in self.standing:
                found, injected = world.settlement.outcomeOf(
                    self.session.id, trader.connection, self.position(trader), [self.evidence[trader]]
                )
                outcomes.append(
                    {
                        "connectionId": trader.connection,
                        "bundle": self.packed(trader),
                        "outcome": found,
                        "injectedWh": list(injected),
                    }
                )
            if lie == "payout":
                told = outcomes[place]["outcome"]
                outcomes[place]["outcome"] = told | {"payout": told["payout"] + 1}
            elif lie:
                outcomes[place]["bundle"] = bundle_of((0, SELL, 8, 901))
            tree = MerkleTree([proposer.leafOf(self.session.id, o) for o in outcomes])
            error = self.refusal_of_proposal(sender)
            arguments = self.session.id, tree.root, len(outcomes), keccak(b"data")
            if self.expect(error, lambda: proposer.propose(*arguments, sender=sender.address)):
                self.number += 1
                self.proposal = Proposal(
                    *(
                        sender,
                        self.number,
                        self.clock + CHALLENGE,
                        outcomes,
                        list(self.standing),
                        {place} if lie else set(),
                    ),
                    tree,
                )
                self.proposed_turn = self.turn()
                seen["lie proposed" if lie else "truth proposed"] += 1

        def whose_turn(self):
            """The one who was drawn, the first where anybody may."""
            if world.evm.now < (self.turns_from or self.session.times.readings_due):
                return stakers[0]
            drawn = proposer.proposerOf(self.session.id)
            return next((staker for staker in stakers if staker.address == drawn), stakers[0])

        def turn(self) -> int:
            turns_from = self.turns_from or self.session.times.readings_due
            return min(TURNS, self.first_turn + (world.evm.now - turns_from) // TURN)

        def refusal_of_proposal(self, sender) -> str | None:
            if "proposer" in self.paused:
                return "EnforcedPause"
            if self.proposal:
                return "AlreadyProposed"
            if world.evm.now < (self.turns_from or self.session.times.readings_due):
                return "ReadingsStillDue"
            if self.turn() < len(self.revealed):
                drawn = proposer.proposerOf(self.session.id)
                assert drawn in {stakers[who].address for who in self.revealed}
                if drawn != sender.address:
                    return "NotYourTurn"
            return None if self.stakes[sender] >= MINIMUM else "StakeTooLow"

        @precondition(lambda self: self.proposal)
        @rule(who=st.integers(0, 4), place=st.integers(0, 2))
        def challenge(self, who, place):
            self.challenge_by(world.traders[who], place % len(self.proposal.traders))

        def challenge_by(self, challenger, place: int) -> None:
            proposal, numbers = self.proposal, []
            error = "EnforcedPause" if "house" in self.paused else None
            if self.clock >= proposal.until:
                error = "ChallengeWindowOver"

            def call():
                arguments = self.session.id, proposal.outcomes[place], proposal.proof(place)
                numbers.append(proposer.challenge(*arguments, sender=challenger.address))

            if self.expect(error, call):
                self.challenges[numbers[0]] = Challenge(proposal, place, challenger, world.evm.now + ANSWER)
                self.expected[challenger] -= BOND
                seen["lie challenged" if place in proposal.lies else "truth challenged"] += 1

        @precondition(lambda self: self.challenges)
        @rule(data=st.data())
        def answer(self, data):
            number = data.draw(st.sampled_from(sorted(self.challenges)))
            found = self.challenges[number]
            trader = found.proposal.traders[found.place]
            proposer.answer(
                *(number, found.proposal.outcomes[found.place]),
                *(self.position(trader), [self.evidence[trader]]),
            )
            if found.proposal is self.proposal and found.place not in self.proposal.lies:
                self.expected[self.proposal.proposer] += BOND
                del self.challenges[number]
                seen["lying challenger"] += 1
            else:
                self.fall(number)

        @precondition(lambda self: self.challenges)
        @rule(data=st.data())
        def expire(self, data):
            number = data.draw(st.sampled_from(sorted(self.challenges)))
            found = self.challenges[number]
            early = found.proposal is self.proposal and world.evm.now < found.answer_by
            if self.expect("AnswerStillDue" if early else None, lambda: proposer.expireChallenge(number)):
                self.fall(number)

        def fall(self, number: int) -> None:
            """The bond comes back; when the proposal stood, so does its stake, to the challenger."""
            found = self.challenges.pop(number)
            self.expected[found.by] += BOND
            if found.proposal is self.proposal:
                self.expected[found.by] += self.stakes[self.proposal.proposer]
                self.stakes[self.proposal.proposer] = 0
                self.proposal, self.turns_from, self.first_turn = None, world.evm.now, self.proposed_turn + 1
                seen["fraud proven"] += 1

        @precondition(lambda self: self.proposal)
        @rule(who=st.integers(0, 1))
        def unstake(self, who):
            """A proposer would rather have its stake back before anybody looks."""
            staker = stakers[who]
            amount = self.stakes[staker]
            error = "StakeBound" if self.clock < self.draw_ends else None
            if error is None and self.proposal and self.proposal.proposer is staker and not self.proposal.concluded:
                error = "ProposalsOpen"
            if self.expect(error, lambda: proposer.unstake(amount, sender=staker.address)):
                self.expected[staker] += amount
                self.stakes[staker] = 0
                seen["stake taken back"] += amount > 0
            else:
                seen["stake held back"] += 1

        # -------------------------------------------------- who is paid

        def refusal_of_conclusion(self, proposal) -> str | None:
            if proposal.concluded:
                return None
            if self.clock < proposal.until:
                return "ChallengeWindowOpen"
            if self.open_of(proposal):
                return "ChallengesOpen"
            assert not proposal.lies, "a lie outlived its window"
            return None

        @precondition(lambda self: self.proposal)
        @rule()
        def conclude(self):
            error = "AlreadyConcluded" if self.proposal.concluded else self.refusal_of_conclusion(self.proposal)
            if self.expect(error, lambda: proposer.conclude(self.session.id)):
                self.proposal.concluded = True
                seen["concluded"] += 1

        @precondition(lambda self: self.proposal)
        @rule(place=st.integers(0, 2), in_time=st.booleans())
        def claim(self, place, in_time):
            """In time: as soon as the window is over, if that comes by waiting; challenges may still be open then."""
            proposal = self.proposal
            place %= len(proposal.traders)
            if in_time and "house" not in self.paused:
                self.pass_to(max(world.evm.now, proposal.until + self.standstill))
            trader = proposal.traders[place]
            error = self.refusal_of_conclusion(proposal)
            if error is None and trader in self.settled:
                error = "AlreadySettled"
            elif error == "ChallengesOpen":
                seen["claim refused for an open challenge"] += 1
            arguments = self.session.id, proposal.outcomes[place], proposal.proof(place)
            if self.expect(error, lambda: proposer.claim(*arguments)):
                proposal.concluded = True
                fee = min(FEE, self.owed[trader])
                self.pay(trader, self.owed[trader] - fee)
                self.expected[proposal.proposer] += fee
                seen["claimed from a batch"] += 1

        @precondition(lambda self: self.standing)
        @rule(who=st.integers(0, 2), with_meter=st.booleans())
        def settle(self, who, with_meter):
            trader = self.standing[who % len(self.standing)]
            arguments = self.session.id, trader.connection, self.position(trader)
            if with_meter:
                error = "AlreadySettled" if trader in self.settled else None
                if self.expect(error, lambda: world.settlement.settle(*arguments, [self.evidence[trader]])):
                    self.pay(trader, self.owed[trader])
                    seen["settled by meter"] += 1
            else:
                error = "AlreadySettled" if trader in self.settled else None
                if world.evm.now < self.session.times.settle_by:
                    error = "ReadingsStillDue"
                if self.expect(error, lambda: world.settlement.settleMissing(*arguments)):
                    self.pay(trader, self.missing[trader])
                    seen["settled without readings"] += 1

        # -------------------------------------------------- invariants

        @invariant()
        def inv_s1_money_is_conserved(self):
            assert self.money() == self.total

        @invariant()
        def inv_s2_everybody_has_what_is_due(self):
            for person, amount in self.expected.items():
                assert house.balanceOf(person.address) == amount, person.name

        @invariant()
        def inv_s3_pot_is_solvent(self):
            due = sum(self.owed[t] + self.spare[t] for t in self.standing if t not in self.settled)
            assert self.session.pot >= due

        def wind_up(self) -> None:
            """INV-S5."""
            if not hasattr(self, "total"):
                return
            for name in {"house", "market", "proposer"} - self.paused:
                self.stop_or_go_on(name)
            for trader in self.standing:
                if trader not in self.settled:
                    self.settle(self.standing.index(trader), True)
            self.wait(world.evm.now + 30 * 86_400)
            for number in list(self.challenges):
                proposer.expireChallenge(number)
                self.fall(number)
            for who in (0, 1):
                self.unstake(who)
            self.stop_or_go_on("house")
            self.wait(world.evm.now + 30 * 86_400)
            if self.proposal and not self.proposal.concluded:
                self.conclude()
            for who in (0, 1):
                self.unstake(who)
            assert not any(self.stakes.values())
            market.closeSession(self.session.id)
            self.expected[world.operator] += world.evm.event("SessionClosed")["residual"]
            assert self.session.pot == 0
            self.inv_s1_money_is_conserved()
            self.inv_s2_everybody_has_what_is_due()
            seen["wound up"] += 1

    return HostileSettlement


EXAMPLES = 3 * settings.default.max_examples // 2
REACHED = {
    "all matches rejected",
    "claim refused for an open challenge",
    "claimed from a batch",
    "concluded",
    "fraud proven",
    "lie challenged",
    "lie proposed",
    "lying challenger",
    "seller without energy",
    "settled by meter",
    "settled without readings",
    "stake held back",
    "stake taken back",
    "truth challenged",
    "truth proposed",
    "window held open by a pause",
    "wound up",
}


def test_settlement_under_hostile_actors(settling_deployed):
    seen = Counter()
    run_state_machine_as_test(
        lambda: make_machine(settling_deployed, seen)(),
        settings=settings(max_examples=EXAMPLES, stateful_step_count=40),
    )
    assert not REACHED - set(seen), f"no walk saw {sorted(REACHED - set(seen))}"
