"""
postBond
├── caller is no meter operator → reverts MissingRole
├── more than the free balance → reverts InsufficientBalance
├── more than uint128 → reverts SafeCastOverflowedUintDowncast
└── else → bond and lock rise, free balance falls, emits BondPosted; works while paused
withdrawBond
├── a batch can still be challenged → reverts BondInUse until the very end of the window
├── more than the bond → reverts BondTooLow
└── else → bond and lock fall, free balance rises, emits BondWithdrawn
    ├── operator suspended, or ledger paused → the same
    └── a correction extends the time
bondLockId
└── hash of ledger and operator; one per operator
"""

import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from tests.utils import clock
from tests.utils.metering import CHALLENGE_WINDOW, MINIMUM_BOND
from tests.utils.plain import event, plain
from tests.utils.reverts import reverts
from tests.utils.system import Role, Status


@pytest.fixture
def money(ledger, house):
    """Bond, lock and free balance: all that posting and withdrawing may change."""
    return lambda account: (
        ledger.bondOf(account),
        house.lockOf(ledger.bondLockId(account)),
        house.balanceOf(account),
    )


def test_postBond_reverts_when_caller_is_no_meter_operator(ledger, house, actors):
    with reverts("MissingRole", actors.prosumer, Role.METER_OPERATOR, Status.ACTIVE, unchanged=[ledger, house]):
        ledger.postBond(1, {"from": actors.prosumer})


def test_postBond_reverts_when_free_balance_does_not_suffice(ledger, house, operator):
    with reverts("InsufficientBalance", operator, MINIMUM_BOND, MINIMUM_BOND + 1, unchanged=[ledger, house]):
        ledger.postBond(MINIMUM_BOND + 1, {"from": operator})


def test_postBond_reverts_when_amount_exceeds_uint128(ledger, house, operator):
    with reverts("SafeCastOverflowedUintDowncast", 128, 2**128, unchanged=[ledger, house]):
        ledger.postBond(2**128, {"from": operator})


def test_postBond_locks_amount_and_emits_event(ledger, operator, actors, money):
    transaction = ledger.postBond(MINIMUM_BOND // 2, {"from": operator})
    posted = MINIMUM_BOND + MINIMUM_BOND // 2
    assert money(operator) == (posted, posted, MINIMUM_BOND // 2)
    assert money(actors.other_meter_operator) == (0, 0, 2 * MINIMUM_BOND)
    assert event(transaction, "BondPosted") == {"operator": operator, "amount": MINIMUM_BOND // 2}
    assert event(transaction, "Locked")["lockId"] == plain(ledger.bondLockId(operator))


def test_postBond_locks_amount_when_ledger_is_paused(ledger, operator, actors):
    ledger.pause({"from": actors.guardian})
    ledger.postBond(1, {"from": operator})
    assert ledger.bondOf(operator) == MINIMUM_BOND + 1


@pytest.mark.parametrize("seconds_left", [CHALLENGE_WINDOW - 1, 1])
def test_withdrawBond_reverts_when_a_batch_can_be_challenged(site, ledger, house, operator, seconds_left):
    site.anchor([site.day()], operator)
    until = site.window_end(operator)
    clock.at(until - seconds_left)
    with reverts("BondInUse", operator, until, unchanged=[ledger, house]):
        site.ledger.withdrawBond(1, {"from": operator})


def test_withdrawBond_returns_it_when_the_window_ends_this_second(site, operator, money):
    site.anchor([site.day()], operator)
    clock.at(site.window_end(operator))
    transaction = site.ledger.withdrawBond(MINIMUM_BOND, {"from": operator})
    assert money(operator) == (0, 0, 2 * MINIMUM_BOND)
    assert event(transaction, "BondWithdrawn") == {"operator": operator, "amount": MINIMUM_BOND}


def test_withdrawBond_reverts_when_a_correction_can_be_challenged(site, ledger, house, operator):
    site.anchor([site.day()], operator)
    first_until = site.window_end(operator)
    clock.at(first_until - 1)
    site.anchor([site.day(1)], operator)
    until = site.window_end(operator)
    assert until == first_until - 1 + CHALLENGE_WINDOW
    clock.at(first_until)
    with reverts("BondInUse", operator, until, unchanged=[ledger, house]):
        site.ledger.withdrawBond(1, {"from": operator})


def test_withdrawBond_reverts_when_amount_exceeds_it(ledger, house, operator):
    with reverts("BondTooLow", operator, MINIMUM_BOND, 2**256 - 1, unchanged=[ledger, house]):
        ledger.withdrawBond(2**256 - 1, {"from": operator})
    with reverts("BondTooLow", operator, MINIMUM_BOND, MINIMUM_BOND + 1, unchanged=[ledger, house]):
        ledger.withdrawBond(MINIMUM_BOND + 1, {"from": operator})


def test_withdrawBond_reverts_when_caller_never_posted(ledger, house, actors):
    with reverts("BondTooLow", actors.outsider, 0, 1, unchanged=[ledger, house]):
        ledger.withdrawBond(1, {"from": actors.outsider})


def test_withdrawBond_returns_it_when_operator_is_suspended_and_ledger_paused(
    ledger, participants, operator, actors, money
):
    participants.setStatus(operator, Status.REVOKED, bytes(32), {"from": actors.registrar})
    ledger.pause({"from": actors.guardian})
    ledger.withdrawBond(MINIMUM_BOND, {"from": operator})
    assert money(operator) == (0, 0, 2 * MINIMUM_BOND)


def test_bondLockId_is_the_hash_of_ledger_and_operator(ledger, operator):
    expected = keccak(encode(["address", "address"], [ledger.address, operator.address]))
    assert plain(ledger.bondLockId(operator)) == expected
