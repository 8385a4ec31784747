"""Clearing house against its reference; invariants CH1 to CH4 of SPEC.md."""

import brownie
import pytest
from brownie.exceptions import VirtualMachineError
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.reference.clearinghouse import ReferenceClearingHouse
from tests.reference.revert import Revert
from tests.utils import system
from tests.utils.reverts import error_text

ACCOUNTS = ("prosumer", "other_prosumer", "aggregator")
LOCKS = tuple(system.id_of(f"lock {n}") for n in range(3))
SUPPLY = 10**12
EXAMPLES = settings(max_examples=max(1, settings.default.max_examples // 4))
"""A step costs a transaction and nine calls: a quarter of what the profile says."""
UNSHRUNK = settings(phases=[Phase.generate], report_multiple_bugs=False, database=None)
"""For a broken reference, where the first failure will do."""

accounts = st.sampled_from(ACCOUNTS)
locks = st.sampled_from(LOCKS)
amounts = st.integers(0, 40)


def machine(house, token, actors, reference=ReferenceClearingHouse, summed=ACCOUNTS):
    """A machine over a clearing house, its token and a class of references.

    ``summed`` are the accounts that CH1 adds up, all of them unless CH1 is to fail.
    """
    treasury, module = {"from": actors.treasury}, {"from": actors.module}
    brownie.chain.snapshot()

    class ClearingHouseMachine(RuleBasedStateMachine):
        def __init__(self):
            brownie.chain.revert()
            super().__init__()
            self.reference = reference()

        def agree(self, predicted: Revert | None, function, *arguments):
            """Sends the call and expects what the reference predicted."""
            if predicted is None:
                function(*arguments)
                return
            with brownie.reverts(error_text(predicted.name, *map(self.shown, predicted.arguments))):
                function(*arguments)

        @staticmethod
        def shown(value):
            return getattr(actors, value) if value in ACCOUNTS else value

        @rule(account=accounts, amount=amounts)
        def deposit(self, account, amount):
            predicted = self.reference.deposit(account, amount)
            self.agree(predicted, house.deposit, getattr(actors, account), amount, treasury)

        @rule(amount=amounts)
        def donate(self, amount):
            self.reference.donate(amount)
            token.transfer(house, amount, treasury)

        @rule(account=accounts, amount=amounts)
        def withdraw(self, account, amount):
            predicted = self.reference.withdraw(account, amount)
            self.agree(predicted, house.withdraw, actors.outsider, amount, {"from": getattr(actors, account)})

        @rule(lock_id=locks, account=accounts, amount=amounts)
        def lock(self, lock_id, account, amount):
            predicted = self.reference.lock(lock_id, account, amount)
            self.agree(predicted, house.lock, lock_id, getattr(actors, account), amount, module)

        @rule(lock_id=locks, account=accounts, amount=amounts)
        def release(self, lock_id, account, amount):
            predicted = self.reference.release(lock_id, account, amount)
            self.agree(predicted, house.release, lock_id, getattr(actors, account), amount, module)

        @rule(from_id=locks, to_id=locks, amount=amounts)
        def relock(self, from_id, to_id, amount):
            predicted = self.reference.relock(from_id, to_id, amount)
            self.agree(predicted, house.relock, from_id, to_id, amount, module)

        @rule(payer=accounts, receiver=accounts, amount=amounts)
        def move(self, payer, receiver, amount):
            predicted = self.reference.move(payer, receiver, amount)
            self.agree(predicted, house.move, getattr(actors, payer), getattr(actors, receiver), amount, module)

        @rule()
        def pause(self):
            self.agree(self.reference.pause(), house.pause, {"from": actors.guardian})

        @rule()
        def unpause(self):
            self.agree(self.reference.unpause(), house.unpause, {"from": actors.admin})

        @rule(account=accounts, amount=amounts)
        def move_by_no_module(self, account, amount):
            caller = getattr(actors, account)
            self.agree(Revert("NotModule", caller), house.move, actors.aggregator, caller, amount, {"from": caller})

        @invariant()
        def inv_ch1_ch2_ch3(self):
            """One reading of the chain for all three: most of the time of a step is spent on it."""
            free = {name: house.balanceOf(getattr(actors, name)) for name in ACCOUNTS}
            locked = {lock_id: house.lockOf(lock_id) for lock_id in LOCKS}
            held, tokens = house.totalHeld(), token.balanceOf(house)

            assert sum(free[name] for name in summed) + sum(locked.values()) == held, "CH1"
            assert held <= tokens, "CH2"
            expected = self.reference
            assert free == {name: expected.free[name] for name in ACCOUNTS}, "CH3 free balances"
            assert locked == {lock_id: expected.locked[lock_id] for lock_id in LOCKS}, "CH3 locks"
            assert (held, tokens, house.paused()) == (expected.held, expected.tokens, expected.paused), "CH3"

        def teardown(self):
            """CH4: everything can leave, whatever happened before."""
            for lock_id in LOCKS:
                house.release(lock_id, actors.prosumer, house.lockOf(lock_id), module)
            for account in (getattr(actors, name) for name in ACCOUNTS):
                if balance := house.balanceOf(account):
                    house.withdraw(account, balance, {"from": account})
            assert house.totalHeld() == 0, "CH4"
            assert token.balanceOf(house) == self.reference.tokens - self.reference.held, "CH4"

    return ClearingHouseMachine


@pytest.fixture(scope="module")
def allowance(core, actors):
    core.token.approve(core.house, SUPPLY, {"from": actors.treasury})


def test_clearinghouse_conserves_money(house, token, actors, allowance):
    run_state_machine_as_test(machine(house, token, actors), settings=EXAMPLES)


class LocksWithoutDebit(ReferenceClearingHouse):
    def lock(self, lock_id, account, amount):
        self.free[account] += amount
        return super().lock(lock_id, account, amount)


class RelocksTheWrongWay(ReferenceClearingHouse):
    def relock(self, from_id, to_id, amount):
        return super().relock(to_id, from_id, amount)


class ReleasesOnlyUnpaused(ReferenceClearingHouse):
    def release(self, lock_id, account, amount):
        if self.paused:
            return Revert("EnforcedPause")
        return super().release(lock_id, account, amount)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (LocksWithoutDebit, "CH3 free balances|InsufficientBalance"),
        (RelocksTheWrongWay, "CH3 locks|InsufficientLock"),
        (ReleasesOnlyUnpaused, "did not revert|Unexpected revert string 'InsufficientLock"),
    ],
)
def test_ch3_fails_when_reference_is_broken(house, token, actors, allowance, broken, told):
    with pytest.raises((AssertionError, VirtualMachineError), match=told):
        run_state_machine_as_test(machine(house, token, actors, reference=broken), settings=UNSHRUNK)


def test_ch1_fails_when_an_account_is_left_out(house, token, actors, allowance):
    with pytest.raises(AssertionError, match="CH1"):
        run_state_machine_as_test(machine(house, token, actors, summed=ACCOUNTS[1:]), settings=UNSHRUNK)


def test_ch2_fails_when_token_takes_tokens_away(core, actors):
    token = system.deploy(actors.admin, "HostileToken", 6, 0, False)
    house = system.deploy_house(actors.admin, core.authority, token)
    token.mint(actors.treasury, 10, {"from": actors.admin})
    token.approve(house, 10, {"from": actors.treasury})
    house.deposit(actors.prosumer, 10, {"from": actors.treasury})
    token.burn(house, 1, {"from": actors.admin})
    broken = machine(house, token, actors)()
    with pytest.raises(AssertionError, match="CH2"):
        broken.inv_ch1_ch2_ch3()


def test_ch4_fails_when_reference_forgets_tokens_sent_without_deposit(house, token, actors, allowance):
    broken = machine(house, token, actors)()
    token.transfer(house, 5, {"from": actors.treasury})
    with pytest.raises(AssertionError, match="CH4"):
        broken.teardown()
