"""
depositWithPermit
├── paused → reverts EnforcedPause
├── permit of somebody else, no allowance → reverts ERC20InsufficientAllowance
├── permit valid → deposits for the caller
├── permit already used by another → deposits, the allowance suffices
└── permit worthless, allowance suffices → deposits
"""

import pytest
from brownie import chain

from offchain.chain.signatures import SigningDomain, TypedStruct, sign
from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts

AMOUNT = 5_000_000
PERMIT = TypedStruct("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")


@pytest.fixture
def holder(token, actors):
    token.transfer(actors.prosumer, AMOUNT, {"from": actors.treasury})
    return actors.prosumer


def permit(token, house, owner, signer):
    """Deadline, v, r, s of a permit for the clearing house."""
    message = {
        "owner": str(owner),
        "spender": house.address,
        "value": AMOUNT,
        "nonce": token.nonces(owner),
        "deadline": system.FAR_FUTURE,
    }
    domain = SigningDomain("Gridpact Energy Token", "1", chain.id, token.address)
    signature = sign(PERMIT.digest(domain, message), system.secret_of(signer))
    return system.FAR_FUTURE, signature[64], signature[:32], signature[32:64]


def test_depositWithPermit_reverts_when_paused(house, token, holder, actors):
    house.pause({"from": actors.guardian})
    with reverts("EnforcedPause", unchanged=[house, token]):
        house.depositWithPermit(AMOUNT, *permit(token, house, holder, holder), {"from": holder})


def test_depositWithPermit_reverts_when_another_signed(house, token, holder, actors):
    with reverts("ERC20InsufficientAllowance", house, 0, AMOUNT, unchanged=[house, token]):
        house.depositWithPermit(AMOUNT, *permit(token, house, holder, actors.outsider), {"from": holder})


def test_depositWithPermit_credits_caller_when_permit_is_valid(house, token, holder):
    tx = house.depositWithPermit(AMOUNT, *permit(token, house, holder, holder), {"from": holder})
    assert house.balanceOf(holder) == house.totalHeld() == token.balanceOf(house) == AMOUNT
    assert token.balanceOf(holder) == token.allowance(holder, house) == 0
    assert event(tx, "Deposited") == {"account": holder, "from": holder, "amount": AMOUNT}


def test_depositWithPermit_credits_caller_when_permit_was_used_first(house, token, holder, actors):
    signed = permit(token, house, holder, holder)
    token.permit(holder, house, AMOUNT, *signed, {"from": actors.outsider})
    house.depositWithPermit(AMOUNT, *signed, {"from": holder})
    assert house.balanceOf(holder) == AMOUNT


def test_depositWithPermit_credits_caller_when_allowance_suffices_without_permit(house, token, holder):
    token.approve(house, AMOUNT, {"from": holder})
    house.depositWithPermit(AMOUNT, 0, 27, bytes(32), bytes(32), {"from": holder})
    assert house.balanceOf(holder) == AMOUNT
