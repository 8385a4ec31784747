"""
sell
├── zero tokens → reverts ZeroTokens
├── reserve below the payment → reverts ReserveExhausted
├── seller has too few tokens → reverts ERC20InsufficientBalance
├── payment token calls back into sell or buy → reverts ReentrancyGuardReentrantCall
└── else → pays rounded down, takes the tokens into stock, lowers netBought, emits TokensSold
    ├── more than the seller bought → netBought is zero, not below
    ├── paused, by an account without any role → the same
    └── less than one unit's worth → pays zero
stock
├── zero tokens → reverts ZeroTokens
└── else → takes the tokens unpaid, emits Stocked
setPurchaseLimit
├── caller is not the admin → reverts AccessManagedUnauthorized
└── else → new limit, emits PurchaseLimitSet
quote, reserve
├── any tokens → up and down differ by at most one payment unit
└── any purchases and sales → reserve covers what was sold at par
"""

import pytest
from brownie.test import given
from hypothesis import settings
from hypothesis import strategies as st

from tests.contracts.TokenDesk.conftest import FUNDS, STOCK
from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import PURCHASE_LIMIT, Status

REASON = b"R" * 32


@pytest.fixture
def bought(stocked, actors):
    """The prosumer has bought 1,000,001 uToken for 101 cents."""
    stocked.desk.buy(1_000_001, actors.prosumer, {"from": actors.prosumer})
    return stocked


@pytest.fixture
def unchanged(stocked):
    return [stocked.desk, stocked.payment, stocked.token]


def test_sell_reverts_when_zero_tokens(bought, actors, unchanged):
    with reverts("ZeroTokens", unchanged=unchanged):
        bought.desk.sell(0, {"from": actors.prosumer})


def test_sell_reverts_when_reserve_is_exhausted(bought, actors, unchanged):
    """Tokens that never were bought here are not backed."""
    bought.token.approve(bought.desk, STOCK, {"from": actors.treasury})
    with reverts("ReserveExhausted", 101, 102, unchanged=unchanged):
        bought.desk.sell(1_020_000, {"from": actors.treasury})


def test_sell_reverts_when_seller_has_too_few_tokens(bought, actors, unchanged):
    with reverts("ERC20InsufficientBalance", actors.prosumer, 1_000_001, 1_000_002, unchanged=unchanged):
        bought.desk.sell(1_000_002, {"from": actors.prosumer})


@pytest.mark.parametrize("entry", ["sell", "buy", "buyAndDeposit"])
def test_sell_reverts_when_payment_token_calls_back(bought, actors, unchanged, entry):
    arguments = (1,) if entry == "sell" else (1, actors.prosumer)
    call = getattr(bought.desk, entry).encode_input(*arguments)
    bought.payment.setCallback(bought.desk, call, {"from": actors.admin})
    with reverts("ReentrancyGuardReentrantCall", unchanged=unchanged):
        bought.desk.sell(1, {"from": actors.prosumer})


def test_sell_pays_rounded_down_when_part_is_sold(bought, actors):
    tx = bought.desk.sell(999_999, {"from": actors.prosumer})
    assert bought.payment.balanceOf(bought.desk) == 2
    assert bought.payment.balanceOf(actors.prosumer) == FUNDS - 2
    assert bought.token.balanceOf(bought.desk) == STOCK - 2
    assert bought.desk.netBought(actors.prosumer) == 2
    assert tx.return_value == 99
    assert event(tx, "TokensSold") == {"seller": actors.prosumer, "tokens": 999_999, "payment": 99}


def test_sell_lowers_netBought_to_zero_when_more_was_sold_than_bought(bought, actors):
    bought.desk.buy(500_000, actors.other_prosumer, {"from": actors.outsider})
    bought.token.transfer(actors.prosumer, 500_000, {"from": actors.other_prosumer})
    bought.desk.sell(1_500_001, {"from": actors.prosumer})
    assert bought.desk.netBought(actors.prosumer) == 0
    assert bought.desk.netBought(actors.other_prosumer) == 500_000


def test_sell_works_when_paused_and_seller_is_revoked(bought, participants, actors):
    bought.desk.pause({"from": actors.guardian})
    participants.setStatus(actors.prosumer, Status.REVOKED, REASON, {"from": actors.registrar})
    bought.desk.sell(1_000_001, {"from": actors.prosumer})
    assert bought.payment.balanceOf(actors.prosumer) == FUNDS - 1


def test_sell_works_when_seller_never_registered(bought, actors):
    bought.token.transfer(actors.outsider, 10_000, {"from": actors.prosumer})
    bought.desk.sell(10_000, {"from": actors.outsider})
    assert bought.payment.balanceOf(actors.outsider) == FUNDS + 1


def test_sell_pays_nothing_when_below_one_unit(bought, actors):
    tx = bought.desk.sell(9_999, {"from": actors.prosumer})
    assert tx.return_value == 0
    assert bought.payment.balanceOf(bought.desk) == 101


def test_stock_reverts_when_zero_tokens(stocked, actors, unchanged):
    with reverts("ZeroTokens", unchanged=unchanged):
        stocked.desk.stock(0, {"from": actors.treasury})


def test_stock_takes_tokens_unpaid_when_allowed(stocked, actors):
    stocked.token.approve(stocked.desk, 7, {"from": actors.treasury})
    tx = stocked.desk.stock(7, {"from": actors.treasury})
    assert stocked.token.balanceOf(stocked.desk) == STOCK + 7
    assert stocked.payment.balanceOf(stocked.desk) == 0
    assert event(tx, "Stocked") == {"from": actors.treasury, "tokens": 7}


def test_setPurchaseLimit_reverts_when_caller_is_not_admin(desk, actors):
    for caller in (actors.guardian, actors.outsider):
        with reverts("AccessManagedUnauthorized", caller, unchanged=desk):
            desk.setPurchaseLimit(1, {"from": caller})


def test_setPurchaseLimit_changes_limit_when_admin_calls(desk, actors):
    assert desk.purchaseLimit() == PURCHASE_LIMIT
    tx = desk.setPurchaseLimit(1, {"from": actors.admin})
    assert desk.purchaseLimit() == 1
    assert event(tx, "PurchaseLimitSet") == {"limitPerAccount": 1}


@given(tokens=st.integers(0, 2**128))
def test_quote_rounds_up_for_buyer_and_down_for_seller(desk, tokens):
    up, down = desk.quote(tokens)
    assert (up, down) == (-(-tokens * 100 // 10**6), tokens * 100 // 10**6)


@given(trades=st.lists(st.tuples(st.booleans(), st.integers(1, 30_000)), max_size=8))
@settings(max_examples=15)
def test_reserve_covers_what_was_sold_at_par(core, actors, trades):
    desk, account = core.desk, actors.prosumer
    core.token.approve(desk, 10**6, {"from": actors.treasury})
    desk.stock(10**6, {"from": actors.treasury})
    core.token.approve(desk, 10**6, {"from": account})
    core.currency.mint(account, 100, {"from": actors.admin})
    core.currency.approve(desk, 100, {"from": account})
    outstanding = 0
    for is_purchase, tokens in trades:
        if is_purchase:
            desk.buy(tokens, account, {"from": account})
            outstanding += tokens
        elif tokens <= outstanding:
            desk.sell(tokens, {"from": account})
            outstanding -= tokens
        assert core.currency.balanceOf(desk) * 10**6 >= outstanding * 100
        assert desk.netBought(account) == core.token.balanceOf(account) == outstanding


def test_constructor_takes_token_of_clearing_house(core):
    assert core.desk.energyToken() == core.token
    assert core.desk.paymentToken() == core.currency
    assert core.desk.clearingHouse() == core.house
