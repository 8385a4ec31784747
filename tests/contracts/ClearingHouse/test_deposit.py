"""
deposit
├── paused → reverts EnforcedPause
├── zero amount → reverts ZeroAmount
├── allowance does not suffice → reverts ERC20InsufficientAllowance
├── token takes the whole amount as fee → reverts ZeroAmount
├── the balance would reach 2^255 → reverts, and 2^255 - 1 does not
├── token calls back into deposit or withdraw → reverts ReentrancyGuardReentrantCall
└── else → credits what arrived to the account, raises totalHeld, emits Deposited
    ├── repeated → adds up
    ├── tokens sent without deposit → not credited
    ├── token with 2, 6, 18 decimals, or without return value → the same
    └── token with a fee on transfer → credits the amount less the fee
"""

import brownie
import pytest

from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts

AMOUNT = 1_000_001


@pytest.fixture
def payer(token, house, actors):
    token.approve(house, AMOUNT, {"from": actors.treasury})
    return actors.treasury


@pytest.fixture
def hostile_house(actors, authority):
    """A clearing house over a token that misbehaves, and a prosumer with tokens and an allowance."""

    def deploy(*, decimals=6, fee_bps=0, silent=False):
        hostile = system.deploy(actors.admin, "HostileToken", decimals, fee_bps, silent)
        house = system.deploy_house(actors.admin, authority, hostile)
        hostile.mint(actors.prosumer, AMOUNT, {"from": actors.admin})
        hostile.approve(house, AMOUNT, {"from": actors.prosumer})
        return hostile, house

    return deploy


def test_deposit_reverts_when_paused(house, token, payer, actors):
    house.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=[house, token]):
        house.deposit(actors.prosumer, AMOUNT, {"from": payer})


def test_deposit_reverts_when_amount_is_zero(house, token, payer, actors):
    with reverts("ZeroAmount", unchanged=[house, token]):
        house.deposit(actors.prosumer, 0, {"from": payer})


def test_deposit_reverts_when_allowance_does_not_suffice(house, token, payer, actors):
    with reverts("ERC20InsufficientAllowance", house, AMOUNT, AMOUNT + 1, unchanged=[house, token]):
        house.deposit(actors.prosumer, AMOUNT + 1, {"from": payer})


def test_deposit_reverts_when_token_takes_everything_as_fee(actors, hostile_house):
    hostile, house = hostile_house(fee_bps=10_000)
    with reverts("ZeroAmount", unchanged=[house, hostile]):
        house.deposit(actors.prosumer, AMOUNT, {"from": actors.prosumer})


def test_deposit_reverts_when_balance_would_not_fit(actors, hostile_house):
    """The highest bit of an account says that it is open."""
    hostile, house = hostile_house()
    hostile.mint(actors.prosumer, 2**255 - AMOUNT, {"from": actors.admin})
    hostile.approve(house, 2**255, {"from": actors.prosumer})
    with brownie.reverts("Integer overflow"):
        house.deposit(actors.prosumer, 2**255, {"from": actors.prosumer})
    house.deposit(actors.prosumer, 2**255 - 1, {"from": actors.prosumer})
    assert house.balanceOf(actors.prosumer) == house.totalHeld() == 2**255 - 1
    with brownie.reverts("Integer overflow"):
        house.deposit(actors.prosumer, 1, {"from": actors.prosumer})


@pytest.mark.parametrize("entry", ["deposit", "withdraw"])
def test_deposit_reverts_when_token_calls_back(actors, hostile_house, entry):
    hostile, house = hostile_house()
    hostile.setCallback(house, getattr(house, entry).encode_input(actors.prosumer, 1), {"from": actors.admin})
    with reverts("ReentrancyGuardReentrantCall", unchanged=[house, hostile]):
        house.deposit(actors.prosumer, AMOUNT, {"from": actors.prosumer})


def test_deposit_credits_account_when_another_pays(house, token, payer, actors):
    tx = house.deposit(actors.prosumer, AMOUNT, {"from": payer})
    assert house.balanceOf(actors.prosumer) == AMOUNT
    assert house.balanceOf(payer) == 0
    assert house.totalHeld() == token.balanceOf(house) == AMOUNT
    assert event(tx, "Deposited") == {"account": actors.prosumer, "from": payer, "amount": AMOUNT}


def test_deposit_adds_up_when_repeated(house, core, actors):
    system.fund(core, actors, actors.prosumer, 5)
    system.fund(core, actors, actors.prosumer, 7)
    assert house.balanceOf(actors.prosumer) == house.totalHeld() == 12


def test_deposit_credits_nothing_when_tokens_were_sent_without_it(house, token, payer, actors):
    token.transfer(house, 77, {"from": payer})
    house.deposit(actors.prosumer, AMOUNT, {"from": payer})
    assert house.totalHeld() == house.balanceOf(actors.prosumer) == AMOUNT
    assert token.balanceOf(house) == AMOUNT + 77


@pytest.mark.parametrize(("decimals", "silent"), [(2, False), (6, True), (18, False), (18, True)])
def test_deposit_credits_amount_when_token_is_unusual(actors, hostile_house, decimals, silent):
    hostile, house = hostile_house(decimals=decimals, silent=silent)
    house.deposit(actors.prosumer, AMOUNT, {"from": actors.prosumer})
    assert house.balanceOf(actors.prosumer) == house.totalHeld() == hostile.balanceOf(house) == AMOUNT


def test_deposit_credits_what_arrived_when_token_takes_fee(actors, hostile_house):
    hostile, house = hostile_house(fee_bps=30)
    tx = house.deposit(actors.prosumer, AMOUNT, {"from": actors.prosumer})
    arrived = AMOUNT - AMOUNT * 30 // 10_000
    assert house.balanceOf(actors.prosumer) == house.totalHeld() == hostile.balanceOf(house) == arrived
    assert event(tx, "Deposited")["amount"] == arrived
