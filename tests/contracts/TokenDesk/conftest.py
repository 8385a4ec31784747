"""A desk with stock, and accounts with payment tokens."""

from types import SimpleNamespace

import pytest

from tests.utils import system

STOCK = 2 * system.PURCHASE_LIMIT
FUNDS = 10**30


@pytest.fixture
def desk_of(actors, core):
    """A stocked desk over a payment token that misbehaves as told; its customers have funds."""

    def deploy(*, decimals=2, fee_bps=0, silent=False):
        payment = system.deploy(actors.admin, "HostileToken", decimals, fee_bps, silent)
        desk = system.deploy_desk(actors.admin, core.authority, core.participants, core.house, payment)
        system.govern(core.authority, desk, actors)
        core.token.approve(desk, STOCK, {"from": actors.treasury})
        desk.stock(STOCK, {"from": actors.treasury})
        for account in (actors.prosumer, actors.outsider):
            payment.mint(account, FUNDS, {"from": actors.admin})
            payment.approve(desk, 2**256 - 1, {"from": account})
            core.token.approve(desk, 2**256 - 1, {"from": account})
        return SimpleNamespace(desk=desk, payment=payment, token=core.token, house=core.house)

    return deploy


@pytest.fixture
def stocked(desk_of):
    """The desk with a well-behaved payment token of two decimals."""
    return desk_of()
