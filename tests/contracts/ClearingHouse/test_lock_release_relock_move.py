"""
lock
├── caller is no module → reverts NotModule
├── paused → reverts EnforcedPause
├── more than the free balance → reverts InsufficientBalance
└── else → free balance to lock, emits Locked (zero included)
release
├── caller is no module → reverts NotModule
├── more than the lock → reverts InsufficientLock
└── else → lock to the free balance of anybody, emits Released; also when paused and by another module
relock
├── caller is no module → reverts NotModule
├── more than the lock → reverts InsufficientLock
└── else → one lock to another, emits Relocked; also when paused; the same lock twice changes nothing
move
├── caller is no module → reverts NotModule
├── more than the free balance → reverts InsufficientBalance
└── else → one free balance to another, emits Moved; also when paused; the same account twice changes nothing
"""

import pytest

from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts

BALANCE = 1_000
LOCKED = 400
LOCK, OTHER_LOCK = system.id_of("lock"), system.id_of("other lock")


@pytest.fixture
def holder(core, actors):
    """A prosumer with 1,000 in the house, 400 of it locked."""
    system.fund(core, actors, actors.prosumer, BALANCE)
    core.house.lock(LOCK, actors.prosumer, LOCKED, {"from": actors.module})
    return actors.prosumer


@pytest.mark.parametrize("caller", ["outsider", "admin", "prosumer"])
def test_ledger_reverts_when_caller_is_no_module(house, holder, actors, caller):
    sender = getattr(actors, caller)
    for function, arguments in (
        (house.lock, (LOCK, holder, 1)),
        (house.release, (LOCK, holder, 1)),
        (house.relock, (LOCK, OTHER_LOCK, 1)),
        (house.move, (holder, actors.outsider, 1)),
    ):
        with reverts("NotModule", sender, unchanged=house):
            function(*arguments, {"from": sender})


def test_lock_reverts_when_paused(house, holder, actors):
    house.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=house):
        house.lock(LOCK, holder, 1, {"from": actors.module})


def test_lock_reverts_when_more_than_balance(house, holder, actors):
    with reverts("InsufficientBalance", holder, 600, 601, unchanged=house):
        house.lock(LOCK, holder, 601, {"from": actors.module})


def test_lock_takes_free_balance_when_all_of_it(house, holder, actors):
    tx = house.lock(LOCK, holder, 600, {"from": actors.module})
    assert (house.balanceOf(holder), house.lockOf(LOCK), house.totalHeld()) == (0, BALANCE, BALANCE)
    assert event(tx, "Locked") == {
        "lockId": LOCK,
        "account": holder,
        "module": actors.module,
        "amount": 600,
    }


def test_lock_changes_nothing_when_amount_is_zero(house, holder, actors):
    tx = house.lock(OTHER_LOCK, actors.outsider, 0, {"from": actors.module})
    assert house.lockOf(OTHER_LOCK) == 0
    assert event(tx, "Locked")["amount"] == 0


def test_release_reverts_when_more_than_lock(house, holder, actors):
    with reverts("InsufficientLock", LOCK, LOCKED, LOCKED + 1, unchanged=house):
        house.release(LOCK, holder, LOCKED + 1, {"from": actors.module})


def test_release_pays_another_account_when_told_so(house, holder, actors):
    tx = house.release(LOCK, actors.aggregator, 150, {"from": actors.module})
    assert (house.lockOf(LOCK), house.balanceOf(actors.aggregator), house.balanceOf(holder)) == (
        250,
        150,
        600,
    )
    assert house.totalHeld() == BALANCE
    assert event(tx, "Released") == {
        "lockId": LOCK,
        "account": actors.aggregator,
        "module": actors.module,
        "amount": 150,
    }


def test_release_works_when_paused_and_by_another_module(house, holder, actors):
    house.setModule(actors.outsider, True, {"from": actors.admin})
    house.pause({"from": actors.guardian})
    house.release(LOCK, holder, LOCKED, {"from": actors.outsider})
    assert (house.lockOf(LOCK), house.balanceOf(holder)) == (0, BALANCE)


def test_relock_reverts_when_more_than_lock(house, holder, actors):
    with reverts("InsufficientLock", LOCK, LOCKED, LOCKED + 1, unchanged=house):
        house.relock(LOCK, OTHER_LOCK, LOCKED + 1, {"from": actors.module})


def test_relock_moves_lock_when_paused(house, holder, actors):
    house.pause({"from": actors.guardian})
    tx = house.relock(LOCK, OTHER_LOCK, 150, {"from": actors.module})
    assert (house.lockOf(LOCK), house.lockOf(OTHER_LOCK), house.totalHeld()) == (250, 150, BALANCE)
    assert event(tx, "Relocked") == {
        "fromLockId": LOCK,
        "toLockId": OTHER_LOCK,
        "module": actors.module,
        "amount": 150,
    }


def test_relock_changes_nothing_when_same_lock(house, holder, actors):
    house.relock(LOCK, LOCK, LOCKED, {"from": actors.module})
    assert house.lockOf(LOCK) == LOCKED


def test_move_reverts_when_more_than_balance(house, holder, actors):
    with reverts("InsufficientBalance", holder, 600, 601, unchanged=house):
        house.move(holder, actors.outsider, 601, {"from": actors.module})


def test_move_pays_another_account_when_paused(house, holder, actors):
    house.pause({"from": actors.guardian})
    tx = house.move(holder, actors.outsider, 600, {"from": actors.module})
    assert (house.balanceOf(holder), house.balanceOf(actors.outsider), house.totalHeld()) == (0, 600, BALANCE)
    assert event(tx, "Moved") == {
        "from": holder,
        "to": actors.outsider,
        "module": actors.module,
        "amount": 600,
    }


def test_move_changes_nothing_when_same_account(house, holder, actors):
    house.move(holder, holder, 600, {"from": actors.module})
    assert house.balanceOf(holder) == 600
