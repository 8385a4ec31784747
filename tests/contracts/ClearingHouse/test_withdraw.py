"""
withdraw
├── zero amount → reverts ZeroAmount
├── more than the free balance → reverts InsufficientBalance
│   └── what is locked is not free → reverts InsufficientBalance
├── token calls back into withdraw or deposit → reverts ReentrancyGuardReentrantCall
└── else → pays out, lowers balance and totalHeld, emits Withdrawn
    ├── to another account
    ├── paused, by an account without any role → the same
    └── token without return value → the same
"""

import pytest

from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts

BALANCE = 900


@pytest.fixture
def holder(core, actors):
    system.fund(core, actors, actors.prosumer, BALANCE)
    return actors.prosumer


def test_withdraw_reverts_when_amount_is_zero(house, token, holder):
    with reverts("ZeroAmount", unchanged=[house, token]):
        house.withdraw(holder, 0, {"from": holder})


def test_withdraw_reverts_when_more_than_balance(house, token, holder):
    with reverts("InsufficientBalance", holder, BALANCE, BALANCE + 1, unchanged=[house, token]):
        house.withdraw(holder, BALANCE + 1, {"from": holder})


def test_withdraw_reverts_when_amount_is_locked(house, token, holder, actors):
    house.lock(system.id_of("lock"), holder, 1, {"from": actors.module})
    with reverts("InsufficientBalance", holder, BALANCE - 1, BALANCE, unchanged=[house, token]):
        house.withdraw(holder, BALANCE, {"from": holder})


@pytest.mark.parametrize("entry", ["withdraw", "deposit"])
def test_withdraw_reverts_when_token_calls_back(actors, authority, entry):
    hostile = system.deploy(actors.admin, "HostileToken", 6, 0, False)
    house = system.deploy_house(actors.admin, authority, hostile)
    hostile.mint(actors.prosumer, BALANCE, {"from": actors.admin})
    hostile.approve(house, BALANCE, {"from": actors.prosumer})
    house.deposit(actors.prosumer, BALANCE, {"from": actors.prosumer})
    hostile.setCallback(house, getattr(house, entry).encode_input(actors.prosumer, 1), {"from": actors.admin})
    with reverts("ReentrancyGuardReentrantCall", unchanged=[house, hostile]):
        house.withdraw(actors.prosumer, BALANCE, {"from": actors.prosumer})


def test_withdraw_pays_out_when_to_another_account(house, token, holder, actors):
    tx = house.withdraw(actors.outsider, 300, {"from": holder})
    assert token.balanceOf(actors.outsider) == 300
    assert house.balanceOf(holder) == house.totalHeld() == token.balanceOf(house) == BALANCE - 300
    assert event(tx, "Withdrawn") == {"account": holder, "to": actors.outsider, "amount": 300}


def test_withdraw_pays_everything_out_when_paused_and_without_role(house, core, token, actors):
    system.fund(core, actors, actors.outsider, BALANCE)
    house.pause({"from": actors.guardian})
    house.withdraw(actors.outsider, BALANCE, {"from": actors.outsider})
    assert token.balanceOf(actors.outsider) == BALANCE
    assert house.totalHeld() == house.balanceOf(actors.outsider) == 0


def test_withdraw_pays_out_when_token_returns_nothing(actors, authority):
    silent = system.deploy(actors.admin, "HostileToken", 6, 0, True)
    house = system.deploy_house(actors.admin, authority, silent)
    silent.mint(actors.prosumer, BALANCE, {"from": actors.admin})
    silent.approve(house, BALANCE, {"from": actors.prosumer})
    house.deposit(actors.prosumer, BALANCE, {"from": actors.prosumer})
    house.withdraw(actors.prosumer, BALANCE, {"from": actors.prosumer})
    assert silent.balanceOf(actors.prosumer) == BALANCE
