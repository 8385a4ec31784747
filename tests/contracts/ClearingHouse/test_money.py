"""
Money.costDown, costUp, shareDown
├── any amounts → equal to offchain.domain.units to the last digit
├── costUp - costDown → 0 or 1 uToken
└── product beyond 256 bits → reverts with Panic (arithmetic overflow)
"""

import brownie
import pytest
from brownie.test import given
from hypothesis import example
from hypothesis import strategies as st

from offchain.domain.units import cost_down, cost_up, share_down
from tests.utils import system

AMOUNTS = st.integers(0, 2**120)


@pytest.fixture(scope="module")
def money(actors, core):
    return system.deploy(actors.admin, "MoneyHarness")


@given(energy_wh=AMOUNTS, price=AMOUNTS)
@example(energy_wh=1_500, price=333)
@example(energy_wh=0, price=2**120)
@example(energy_wh=1, price=1)
def test_cost_equals_python_to_the_last_digit(money, energy_wh, price):
    down, up = money.costDown(energy_wh, price), money.costUp(energy_wh, price)
    assert (down, up) == (cost_down(energy_wh, price), cost_up(energy_wh, price))
    assert up - down == (energy_wh * price % 1_000 != 0)


@given(amount=AMOUNTS, bps=st.integers(0, 100_000))
@example(amount=9_999, bps=1)
def test_shareDown_equals_python_to_the_last_digit(money, amount, bps):
    assert money.shareDown(amount, bps) == share_down(amount, bps)


def test_cost_of_worked_example(money):
    assert (money.costDown(1_500, 333), money.costUp(1_500, 333)) == (499, 500)


@pytest.mark.parametrize("function", ["costDown", "costUp", "shareDown"])
def test_money_reverts_when_product_overflows(money, function):
    with brownie.reverts("Integer overflow"):
        getattr(money, function)(2**255, 2)


def test_costUp_reverts_when_rounding_overflows(money):
    with brownie.reverts("Integer overflow"):
        money.costUp(2**256 - 1, 1)
