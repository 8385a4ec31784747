"""The flexibility day as a machine, dispatch to corrections, in any order; invariants FS1 to FS5 of SPEC.md."""

from collections import Counter
from random import Random

import brownie
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.reference.settlement import largest_reward
from tests.utils import clock, flexworld
from tests.utils.flexibility import curve
from tests.utils.flexworld import ORDERED, SETTLE_BY, issued
from tests.utils.plain import event, plain

QUIET = {"suppress_health_check": list(HealthCheck), "database": None, "deadline": None}
OWN = flexworld.HOMES[:5]
POSITIONS = tuple(ORDERED)
DAY_OF_METER = ("meterId", "dayFirstIsp", "ispCount")
REFUSED = brownie.exceptions.VirtualMachineError

WH = (1, 300, 777, 1_000)
DELIVERED_WH = (-50, 0, 290, 700, 1_000, 1_200, None)


def unpack(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[i : i + 4]) for i in range(0, len(packed), 4)]


def machine(world, forgotten=(), leak=0):
    """A machine over an open world.

    ``forgotten`` accounts are left out of the sum and ``leak`` is added to what must be covered, so that the invariants
    can be shown to fail.
    """
    brownie.chain.snapshot()
    house, dispatch, actors = world.core.house, world.dispatch, world.actors
    accounts = [
        *(home.account for home in world.homes.values()),
        *(actors.dso, actors.aggregator, world.other_aggregator, actors.meter_operator, actors.outsider),
    ]
    locks = [
        *(world.agreements.bondLockId(home.agreement_id) for home in world.homes.values()),
        *(world.market.escrowLockId(n) for n in (world.order_id, world.rival_order_id)),
        *(world.market.bondLockId(n) for n in (world.order_id, world.rival_order_id)),
        dispatch.groupLockId(world.order_id),
        dispatch.groupLockId(world.rival_order_id),
        world.metering.bondLockId(actors.meter_operator),
    ]

    standbys = (world.standby, world.second_standby, world.dear_standby)
    by_agreement = {home.agreement_id: home for home in standbys}
    reached = Counter()

    class SettlementMachine(RuleBasedStateMachine):
        def __init__(self):
            brownie.chain.revert()
            super().__init__()
            self.orders = {}
            """Issued orders by id, with the home, what was taken over, whether settled and the pot left."""
            self.metered = None
            self.finalised = False
            self.first_block = len(brownie.chain) - 1
            self.reached = reached
            world.list_standby(*standbys)

        @initialize(first=st.permutations(POSITIONS), amounts=st.permutations([300, 777, 999, 1_000, 40]))
        def dispatch_some(self, first, amounts):
            """Never a day without orders."""
            for name, position, amount in zip(OWN[:3], first, amounts, strict=False):
                home = world.homes[name]
                self.add(issued(world.dispatch_parts(world.part(home, {position: amount, 75: 300}))), home)

        @rule(data=st.data())
        def step(self, data):
            self.do(lambda options: data.draw(st.sampled_from(options)))

        def do(self, choose):
            """Somebody does one of the things that can be done now; ``choose`` picks one of some options."""
            possible = ["others_act"]
            if self.metered is None:
                early = self.now < world.request.dispatch_by
                possible += 6 * ["dispatch_home"] if early else ["meter"]
                possible += (1 if early else 5) * ["reassign"] if self.open_orders() else ["meter"]
                possible += 2 * ["cancel"] if self.open_orders() and self.now < world.start(70) else []
            elif not self.finalised:
                possible += ["settle", "settle_missing"] if self.open_orders() else ["finalise"]
                possible += ["finalise", "meter"]
            else:
                possible += ["correct", "correct", "meter"] if self.orders else []
            getattr(self, choose(possible))(choose)

        # -------------------------------------------------------------- before delivery

        @property
        def now(self) -> int:
            return brownie.chain[-1].timestamp

        def dispatch_home(self, choose):
            home = world.homes[choose(OWN)]
            wanted = {choose(POSITIONS): choose(WH), POSITIONS[-1]: choose(WH)}
            try:
                self.add(issued(world.dispatch_parts(world.part(home, wanted))), home)
            except REFUSED as refused:
                known = ("AlreadyOrdered", "MoreThanOrdered", "WeeklyLimitReached")
                assert refused.revert_msg.startswith(known), refused

        def cancel(self, choose):
            order_id = choose(self.open_orders())
            if self.orders[order_id]["order"].fields["replaces"] or self.orders[order_id]["taken"]:
                return
            world.cancel(self.orders.pop(order_id)["order"])
            reached["cancelled"] += 1

        def reassign(self, choose):
            """By an outsider, on a reading that is not too old and leaves time for notice."""
            possible = [
                (order_id, position)
                for order_id in self.open_orders()
                for position in POSITIONS[:2]
                if unpack(self.orders[order_id]["order"].quantities)[position]
                and self.now < world.start(position + 1) + flexworld.READING_AGE
            ]
            if not possible:
                return
            # What is over first: time that has passed does not come back.
            order_id, position = choose(possible[:3]) if choose((True, False)) else min(possible, key=lambda o: o[1])
            record = self.orders[order_id]
            delivered = choose([-9, 0, 0, 33, 950])
            taken = curve(record["taken"]) if record["taken"] else b""
            try:
                tx = world.reassign(record["order"], record["home"], position, delivered, *standbys, takenWh=taken)
            except REFUSED as refused:
                known = ("NoShortfall", "NothingLeftToReassign", "NoStandbyLeft")
                assert refused.revert_msg.startswith(known), refused
                return
            total = unpack(plain(event(tx, "Reassigned")["totalTakenWh"]))
            record["taken"] = {p: q for p, q in enumerate(total) if q}
            (replacement,) = issued(tx)
            self.add([replacement], by_agreement[replacement.fields["agreementId"]])
            reached["reassigned"] += 1

        # -------------------------------------------------------------- hostile and idle

        def others_act(self, choose):
            """An outsider plays a module; a prosumer and the aggregator take money out."""
            function = choose(["recordSettlement", "recordPot", "finaliseGroup", "withdraw"])
            if function != "withdraw":
                arguments = {"recordSettlement": (1, 1, 1, 1, 1), "recordPot": (1, 1), "finaliseGroup": (1,)}
                with brownie.reverts(f"NotModule: {str(actors.outsider).lower()}"):
                    getattr(dispatch, function)(*arguments[function], {"from": actors.outsider})
                return
            for account, share in ((world.homes[choose(OWN)].account, 1), (actors.aggregator, 2)):
                if balance := world.free(account) // share:
                    house.withdraw(account, balance, {"from": account})

        # -------------------------------------------------------------- settlement

        def meter(self, choose):
            """A first or a corrected version of the day, sometimes without a home."""
            days = {name: {p: choose(DELIVERED_WH) for p in POSITIONS} for name in OWN}
            without = [choose(OWN)] if choose((True, False)) else []
            self.metered = world.finish_day(days, without=without)

        def settle(self, choose):
            """Up to three open orders that are in the batch, in any order."""
            for order_id in {choose(self.open_orders()) for _ in range(3)}:
                record = self.orders[order_id]
                if record["home"].name in self.metered.days:
                    self.settled(
                        order_id,
                        lambda r=record: world.settle(
                            r["order"], r["home"], self.metered, takenWh=curve(r["taken"]) if r["taken"] else b""
                        ),
                    )

        def settle_missing(self, choose):
            order_id = choose(self.open_orders())
            record = self.orders[order_id]
            due = world.settlement.missingFrom(*(record["order"].fields[key] for key in DAY_OF_METER))
            if self.now < due:
                clock.move_to(due)
            taken = curve(record["taken"]) if record["taken"] else b""
            self.settled(order_id, lambda: world.settle_missing(record["order"], taken))

        def settled(self, order_id, send):
            record = self.orders[order_id]
            replaces = record["order"].fields["replaces"]
            if replaces and not self.orders[replaces]["settled"]:
                with brownie.reverts(f"SettleReplacedFirst: {replaces}"):
                    send()
                return
            verdict = event(send(), "ProsumerSettled")["verdict"]
            reached["replacement settled"] += replaces != 0
            reached["bonus"] += verdict["bonus"] > 0
            record["settled"] = True
            if record["taken"]:
                record["pot"] = verdict["penalty"]
            if replaces:
                self.orders[replaces]["pot"] -= verdict["bonus"]

        def finalise(self, choose):
            if self.open_orders() and self.now < world.end + SETTLE_BY:
                with brownie.reverts(f"SettlementOpen: {world.order_id}, {world.end + SETTLE_BY}"):
                    world.finalise()
                return
            world.finalise()
            self.finalised = True

        def correct(self, choose):
            order_id = choose(sorted(self.orders))
            record = self.orders[order_id]
            if record["home"].name not in self.metered.days:
                return
            taken = curve(record["taken"]) if record["taken"] else b""
            try:
                world.correct(record["order"], record["home"], self.metered, takenWh=taken)
                reached["corrected"] += 1
            except REFUSED as refused:
                assert refused.revert_msg.startswith(("NotNewer", "CorrectionClosed")), refused

        # -------------------------------------------------------------- helpers

        def add(self, orders, home):
            for order in orders:
                self.orders[order.id] = {"order": order, "home": home, "taken": {}, "settled": False, "pot": 0}

        def open_orders(self) -> list[int]:
            return [order_id for order_id, record in self.orders.items() if not record["settled"]]

        # -------------------------------------------------------------- invariants

        @invariant()
        def inv_time(self):
            """No block goes by the machine's clock, which runs on while that is busy."""
            clock.assert_steady(self.first_block)
            self.first_block = len(brownie.chain) - 1

        @invariant()
        def inv_fs1_every_utoken_is_accounted_for(self):
            free = sum(world.free(account) for account in accounts if account not in forgotten)
            assert free + sum(map(house.lockOf, locks)) == house.totalHeld()
            assert house.totalHeld() == world.core.token.balanceOf(house)

        @invariant()
        def inv_fs2_lock_covers_what_open_orders_can_earn_and_pots(self):
            if self.finalised:
                return
            due = leak
            for record in self.orders.values():
                if record["settled"]:
                    due += record["pot"]
                    continue
                taken = [record["taken"].get(p, 0) for p in range(96)]
                due += largest_reward(unpack(record["order"].quantities), taken, record["order"].fields)
            assert world.group_lock() >= due

        @invariant()
        def inv_fs3_group_counts_its_orders(self):
            group = plain(dispatch.group(world.order_id))
            assert group["issued"] == len(self.orders)
            assert group["creditedWh"] + group["missingWh"] <= sum(ORDERED.values())
            if not self.finalised:
                assert group["settled"] == len(self.orders) - len(self.open_orders())

        @invariant()
        def inv_fs4_no_isp_is_ordered_beyond_the_flex_order(self):
            sums = unpack(plain(dispatch.dispatchedWh(world.order_id)))
            originals = [0] * 96
            for record in self.orders.values():
                if record["order"].fields["replaces"] == 0:
                    originals = [a + b for a, b in zip(originals, unpack(record["order"].quantities), strict=True)]
            assert (sums or [0] * 96) == originals
            assert all(q <= ORDERED.get(p, 0) for p, q in enumerate(originals))

        def teardown(self):
            """FS5: whatever happened, everything but bonds can leave, and nobody's lock is left behind."""
            last = world.end + SETTLE_BY
            if self.now < last:
                clock.move_to(last)
            for order_id in (world.order_id, world.rival_order_id):
                if world.market.flexOrder(order_id)["status"] == 1:
                    world.finalise(order_id)
                assert world.group_lock(order_id) == 0
                assert house.lockOf(world.market.escrowLockId(order_id)) == 0
                assert house.lockOf(world.market.bondLockId(order_id)) == 0
            for account in accounts:
                if balance := world.free(account):
                    house.withdraw(account, balance, {"from": account})
            assert house.totalHeld() == sum(map(house.lockOf, locks))

    return SettlementMachine


@pytest.fixture(scope="module")
def world(core, actors):
    return flexworld.open_world(core, actors)


@pytest.fixture
def fresh(world, fn_isolation):
    return world


def test_settlement_conserves_money_and_covers_every_order(fresh):
    run_state_machine_as_test(machine(fresh), settings=settings(max_examples=12, stateful_step_count=25, **QUIET))


@pytest.mark.parametrize("seed", [1, 8, 10, 12, 26])
def test_settlement_conserves_money_on_long_random_days(fresh, seed):
    """Hypothesis prefers short runs; these walk through the whole day, and all but the first settle a replacement."""
    choose = Random(seed).choice
    day = machine(fresh)()
    day.dispatch_some(POSITIONS, [300, 777, 999])
    for _ in range(22):
        day.do(choose)
        day.inv_time()
        day.inv_fs1_every_utoken_is_accounted_for()
        day.inv_fs2_lock_covers_what_open_orders_can_earn_and_pots()
        day.inv_fs3_group_counts_its_orders()
        day.inv_fs4_no_isp_is_ordered_beyond_the_flex_order()
    day.teardown()
    assert seed == 1 or day.reached["replacement settled"]


@pytest.mark.long
def test_settlement_conserves_money_and_covers_every_order_in_long_runs(fresh):
    run_state_machine_as_test(machine(fresh), settings=settings(max_examples=60, stateful_step_count=30, **QUIET))


def test_fs1_fails_when_an_account_is_left_out(fresh):
    broken = machine(fresh, forgotten=[fresh.actors.dso])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=settings(max_examples=2, stateful_step_count=3, **QUIET))


def test_fs2_fails_when_more_is_due_than_was_locked(fresh):
    """The lock covers the open orders exactly: one uToken more is not there."""
    broken = machine(fresh, leak=1)()
    broken.dispatch_some(POSITIONS, [1, 1, 1])
    with pytest.raises(AssertionError):
        broken.inv_fs2_lock_covers_what_open_orders_can_earn_and_pots()


def test_time_fails_when_a_block_goes_by_another_clock(fresh):
    broken = machine(fresh)()
    brownie.web3.provider.make_request("anvil_setBlockTimestampInterval", [7])
    try:
        brownie.chain.mine()
        with pytest.raises(AssertionError, match="block 7 s after"):
            broken.inv_time()
    finally:
        clock.steady()


def test_fs3_and_fs4_fail_when_an_order_is_forgotten(fresh):
    broken = machine(fresh)()
    broken.add([fresh.issue(fresh.home, {72: 1_000})], fresh.home)
    broken.orders.clear()
    for check in (broken.inv_fs3_group_counts_its_orders, broken.inv_fs4_no_isp_is_ordered_beyond_the_flex_order):
        with pytest.raises(AssertionError):
            check()


def test_fs5_fails_when_money_is_left_in_a_lock(fresh):
    broken = machine(fresh)()
    fresh.core.house.lock(fresh.dispatch.groupLockId(9), fresh.actors.dso, 1, {"from": fresh.actors.module})
    with pytest.raises(AssertionError):
        broken.teardown()
