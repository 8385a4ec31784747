"""
EnergyToken
├── constructed → whole issue with the treasury, 6 decimals
└── nobody can issue or burn → no such function
LocalCurrency
├── constructed → no supply, 2 decimals
└── mint
    ├── caller is not the admin → reverts AccessManagedUnauthorized
    └── else → issues, emits Transfer from zero
"""

from brownie import ZERO_ADDRESS

from tests.utils.plain import event
from tests.utils.reverts import reverts
from tests.utils.system import TOKEN_ISSUE


def test_constructor_issues_everything_to_treasury(token, actors):
    assert token.totalSupply() == token.balanceOf(actors.treasury) == TOKEN_ISSUE
    assert token.decimals() == 6
    assert (token.name(), token.symbol()) == ("Gridpact Energy Token", "GET")


def test_token_has_no_way_to_issue_or_burn(token):
    functions = [item for item in token.abi if item["type"] == "function"]
    changing = {item["name"] for item in functions if item["stateMutability"] == "nonpayable"}
    assert changing == {"approve", "transfer", "transferFrom", "permit"}


def test_mint_reverts_when_caller_is_not_admin(currency, actors):
    for caller in (actors.guardian, actors.treasury):
        with reverts("AccessManagedUnauthorized", caller, unchanged=currency):
            currency.mint(caller, 1, {"from": caller})


def test_mint_issues_when_admin_calls(currency, actors):
    assert (currency.totalSupply(), currency.decimals()) == (0, 2)
    tx = currency.mint(actors.prosumer, 1_250, {"from": actors.admin})
    assert currency.totalSupply() == currency.balanceOf(actors.prosumer) == 1_250
    assert event(tx, "Transfer") == {"from": ZERO_ADDRESS, "to": actors.prosumer, "value": 1_250}
