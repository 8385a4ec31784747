"""The clearing house in a few lines of Python: what each call must do, or with which error it must fail.

A method gives ``None`` when the call goes through and a :class:`Revert` when the contract must refuse.
"""

from collections import Counter
from collections.abc import Hashable

from tests.reference.revert import Revert


class ReferenceClearingHouse:
    """Free balances, locks and tokens held [uToken], by account and lock id."""

    def __init__(self):
        self.free = Counter()
        self.locked = Counter()
        self.held = 0
        self.tokens = 0
        self.paused = False

    def deposit(self, account: Hashable, amount: int) -> Revert | None:
        if self.paused:
            return Revert("EnforcedPause")
        if amount == 0:
            return Revert("ZeroAmount")
        self.free[account] += amount
        self.held += amount
        self.tokens += amount

    def donate(self, amount: int) -> None:
        """Tokens sent without a deposit."""
        self.tokens += amount

    def withdraw(self, account: Hashable, amount: int) -> Revert | None:
        if amount == 0:
            return Revert("ZeroAmount")
        if revert := self._debit(account, amount):
            return revert
        self.held -= amount
        self.tokens -= amount

    def lock(self, lock_id: Hashable, account: Hashable, amount: int) -> Revert | None:
        if self.paused:
            return Revert("EnforcedPause")
        if revert := self._debit(account, amount):
            return revert
        self.locked[lock_id] += amount

    def release(self, lock_id: Hashable, account: Hashable, amount: int) -> Revert | None:
        if revert := self._unlock(lock_id, amount):
            return revert
        self.free[account] += amount

    def relock(self, from_id: Hashable, to_id: Hashable, amount: int) -> Revert | None:
        if revert := self._unlock(from_id, amount):
            return revert
        self.locked[to_id] += amount

    def move(self, payer: Hashable, receiver: Hashable, amount: int) -> Revert | None:
        if revert := self._debit(payer, amount):
            return revert
        self.free[receiver] += amount

    def pause(self) -> Revert | None:
        if self.paused:
            return Revert("EnforcedPause")
        self.paused = True

    def unpause(self) -> Revert | None:
        if not self.paused:
            return Revert("ExpectedPause")
        self.paused = False

    def _debit(self, account: Hashable, amount: int) -> Revert | None:
        if self.free[account] < amount:
            return Revert("InsufficientBalance", account, self.free[account], amount)
        self.free[account] -= amount

    def _unlock(self, lock_id: Hashable, amount: int) -> Revert | None:
        if self.locked[lock_id] < amount:
            return Revert("InsufficientLock", lock_id, self.locked[lock_id], amount)
        self.locked[lock_id] -= amount
