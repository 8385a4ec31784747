"""
buy, buyAndDeposit
├── paused → reverts EnforcedPause
├── zero tokens → reverts ZeroTokens
├── receiver never registered, suspended or revoked → reverts NotParticipant
├── more than the stock → reverts StockExhausted
├── more than the limit, net of what the receiver sold → reverts PurchaseLimitExceeded
├── payment token takes a fee → reverts PaymentShort
├── payment token calls back into buy or sell → reverts ReentrancyGuardReentrantCall
├── clearing house paused (buyAndDeposit) → reverts EnforcedPause
└── else → takes the payment rounded up, emits TokensBought
    ├── buy → tokens to the receiver
    ├── buyAndDeposit → tokens to the receiver's balance in the clearing house
    └── payment token with 2, 6, 18 decimals, or without return value
"""

import pytest

from tests.contracts.TokenDesk.conftest import FUNDS, STOCK
from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import PURCHASE_LIMIT, Status

REASON = b"R" * 32
BUYING = pytest.mark.parametrize("function", ["buy", "buyAndDeposit"])


@pytest.fixture
def buy(stocked, actors, function):
    """Buys for the prosumer, who pays, but for what is passed."""

    def call(tokens, *, to=None, sender=None):
        to, sender = to or actors.prosumer, sender or actors.prosumer
        return getattr(stocked.desk, function)(tokens, to, {"from": sender})

    return call


@pytest.fixture
def unchanged(stocked):
    return [stocked.desk, stocked.payment, stocked.token, stocked.house]


@BUYING
def test_buy_reverts_when_paused(stocked, actors, buy, unchanged):
    stocked.desk.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=unchanged):
        buy(1)


@BUYING
def test_buy_reverts_when_zero_tokens(buy, unchanged):
    with reverts("ZeroTokens", unchanged=unchanged):
        buy(0)


@BUYING
def test_buy_reverts_when_receiver_never_registered(actors, buy, unchanged):
    with reverts("NotParticipant", actors.outsider, unchanged=unchanged):
        buy(1, to=actors.outsider)


@BUYING
@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED])
def test_buy_reverts_when_receiver_is_not_in_good_standing(participants, actors, buy, unchanged, status):
    participants.setStatus(actors.prosumer, status, REASON, {"from": actors.registrar})
    with reverts("NotParticipant", actors.prosumer, unchanged=unchanged):
        buy(1)


@BUYING
def test_buy_reverts_when_stock_is_exhausted(buy, unchanged):
    with reverts("StockExhausted", STOCK, STOCK + 1, unchanged=unchanged):
        buy(STOCK + 1)


@BUYING
def test_buy_reverts_when_limit_is_exceeded(actors, buy, unchanged):
    buy(PURCHASE_LIMIT - 5)
    with reverts("PurchaseLimitExceeded", actors.prosumer, PURCHASE_LIMIT + 1, PURCHASE_LIMIT, unchanged=unchanged):
        buy(6)
    buy(5)


def test_buy_is_within_limit_again_when_tokens_were_sold(stocked, actors):
    stocked.desk.buy(PURCHASE_LIMIT, actors.prosumer, {"from": actors.prosumer})
    stocked.desk.sell(100, {"from": actors.prosumer})
    stocked.desk.buy(100, actors.prosumer, {"from": actors.prosumer})
    assert stocked.desk.netBought(actors.prosumer) == PURCHASE_LIMIT


@pytest.mark.parametrize("function", ["buy", "buyAndDeposit"])
def test_buy_reverts_when_payment_token_takes_fee(desk_of, actors, function):
    hostile = desk_of(decimals=6, fee_bps=100)
    with reverts("PaymentShort", 990, 1_000, unchanged=[hostile.desk, hostile.payment, hostile.token]):
        getattr(hostile.desk, function)(1_000, actors.prosumer, {"from": actors.prosumer})


@pytest.mark.parametrize("function", ["buy", "buyAndDeposit"])
@pytest.mark.parametrize("entry", ["buy", "buyAndDeposit", "sell"])
def test_buy_reverts_when_payment_token_calls_back(desk_of, actors, function, entry):
    hostile = desk_of()
    arguments = (1,) if entry == "sell" else (1, actors.prosumer)
    call = getattr(hostile.desk, entry).encode_input(*arguments)
    hostile.payment.setCallback(hostile.desk, call, {"from": actors.admin})
    with reverts("ReentrancyGuardReentrantCall", unchanged=[hostile.desk, hostile.payment, hostile.token]):
        getattr(hostile.desk, function)(1, actors.prosumer, {"from": actors.prosumer})


def test_buyAndDeposit_reverts_when_clearing_house_is_paused(stocked, actors, unchanged):
    stocked.house.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=unchanged):
        stocked.desk.buyAndDeposit(1, actors.prosumer, {"from": actors.prosumer})


def test_buy_hands_tokens_out_when_another_pays(stocked, actors):
    tx = stocked.desk.buy(10_001, actors.prosumer, {"from": actors.outsider})
    assert stocked.token.balanceOf(actors.prosumer) == 10_001
    assert stocked.token.balanceOf(stocked.desk) == STOCK - 10_001
    assert stocked.payment.balanceOf(stocked.desk) == FUNDS - stocked.payment.balanceOf(actors.outsider) == 2
    assert stocked.desk.netBought(actors.prosumer) == 10_001
    assert stocked.desk.netBought(actors.outsider) == 0
    assert tx.return_value == 2
    assert event(tx, "TokensBought") == {
        "buyer": actors.outsider,
        "to": actors.prosumer,
        "tokens": 10_001,
        "payment": 2,
    }


def test_buyAndDeposit_credits_ledger_when_another_pays(stocked, actors):
    tx = stocked.desk.buyAndDeposit(10_001, actors.prosumer, {"from": actors.outsider})
    assert stocked.house.balanceOf(actors.prosumer) == stocked.house.totalHeld() == 10_001
    assert stocked.token.balanceOf(stocked.house) == 10_001
    assert stocked.token.allowance(stocked.desk, stocked.house) == 0
    assert stocked.payment.balanceOf(stocked.desk) == tx.return_value == 2
    assert stocked.desk.netBought(actors.prosumer) == 10_001
    assert event(tx, "TokensBought") == {
        "buyer": actors.outsider,
        "to": actors.prosumer,
        "tokens": 10_001,
        "payment": 2,
    }
    assert event(tx, "Deposited") == {"account": actors.prosumer, "from": stocked.desk, "amount": 10_001}


@pytest.mark.parametrize(
    ("decimals", "silent", "payment"),
    [(2, False, 124), (2, True, 124), (6, False, 1_234_567), (18, False, 1_234_567 * 10**12)],
)
def test_buy_takes_par_rounded_up_when_payment_token_is_unusual(desk_of, actors, decimals, silent, payment):
    system_under_test = desk_of(decimals=decimals, silent=silent)
    system_under_test.desk.buy(1_234_567, actors.prosumer, {"from": actors.prosumer})
    assert system_under_test.payment.balanceOf(system_under_test.desk) == payment


def test_buy_works_when_paid_in_local_currency(core, actors):
    core.token.approve(core.desk, STOCK, {"from": actors.treasury})
    core.desk.stock(STOCK, {"from": actors.treasury})
    core.currency.mint(actors.prosumer, 500, {"from": actors.admin})
    core.currency.approve(core.desk, 500, {"from": actors.prosumer})
    core.desk.buyAndDeposit(5 * 10**6, actors.prosumer, {"from": actors.prosumer})
    assert core.currency.balanceOf(core.desk) == 500
    assert core.house.balanceOf(actors.prosumer) == 5 * 10**6
    assert core.desk.purchaseLimit() == system.PURCHASE_LIMIT
