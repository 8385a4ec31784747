"""
A session scripted with Brownie
└── two traders, one period: open, submit, clear, finalise, claim → price, spare escrow back, the rest in the pot
"""

import pytest
from brownie import chain

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.orders import orders
from offchain.market.terms import SessionTerms, SessionTimes
from tests.utils import system
from tests.utils.plain import event
from tests.utils.reverts import reverts

TERMS = SessionTerms(
    base_price=0,
    price_step=10_000,
    tick_count=32,
    min_quantity_wh=100,
    isps_per_period=4,
    period_count=1,
    gate_lead_seconds=3_600,
    acceptance_seconds=1_800,
    readings_due_seconds=86_400,
    settlement_seconds=86_400,
    fee_rate=1_000,
    rejection_fee_rate=0,
    guarantee_rate=50_000,
    shortage_price=300_000,
    shortage_penalty_rate=0,
    surplus_price=0,
    green_reward_rate=0,
    brown_penalty_rate=0,
    surplus_budget=0,
    reward_budget=0,
)
FUNDS = 10**6
BUYS = orders([(0, 0, 30, 1_000)]).tobytes()
"""A kWh, at most 300,000 uToken."""
SELLS = orders([(0, 1, 10, 1_000)]).tobytes()
"""A kWh, at least 100,000 uToken."""
BUYER, SELLER = system.id_of("buyer's connection"), system.id_of("seller's connection")


@pytest.fixture
def market(core, actors):
    """Market and sessions over the core; two prosumers with a connection and funds each."""
    admin = actors.admin
    producers = system.deploy(admin, "ProducerRegistry", core.authority, core.participants, core.grid)
    market = system.deploy(admin, "EnergyMarket", core.authority, core.participants, core.grid, producers, core.house)
    sessions = system.deploy(admin, "MarketSessions", core.authority, core.participants, core.grid, market)
    core.house.setModule(market, True, {"from": admin})
    market.setModule(sessions, True, {"from": admin})
    core.participants.registerOrganisation(
        actors.outsider, system.Role.MARKET_OPERATOR, system.identity("operator"), {"from": actors.registrar}
    )
    area = system.id_of("area")
    core.grid.declareCongestionPoint(area, 100_000, {"from": actors.dso})
    for account, connection in ((actors.prosumer, BUYER), (actors.other_prosumer, SELLER)):
        core.grid.registerConnection(connection, area, account, 5_000, 5_000, {"from": actors.dso})
        system.fund(core, actors, account, FUNDS)
    return market, sessions


def test_session_by_brownie_matches_two_traders(core, actors, market):
    market, sessions = market
    buyer, seller, operator = actors.prosumer, actors.other_prosumer, actors.outsider
    first_isp = system.start_of_isp() + 12
    opened = sessions.open(TERMS.as_tuple(), first_isp, {"from": operator})
    session_id = event(opened, "SessionOpened")["sessionId"]
    market.submit(session_id, BUYER, b"", BUYS, {"from": buyer})
    market.submit(session_id, SELLER, b"", SELLS, {"from": seller})
    # Worst-case cost or guarantee, and the fee.
    assert core.house.balanceOf(buyer) == FUNDS - 301_000
    assert core.house.balanceOf(seller) == FUNDS - 51_000

    times = SessionTimes.of(TERMS, first_isp)
    assert times.delivery_start == first_isp * SECONDS_PER_ISP
    system.next_block_at(times.accept_by + 1)
    chain.mine()
    market.clear(session_id, 0, 1, 2**256 - 1, {"from": buyer})
    market.finalise(session_id, {"from": seller})
    bought, sold, prices = market.fillsOf(session_id, BUYS)
    assert (list(bought), list(sold)) == ([1_000, 0], [0, 0])
    assert 100_000 <= prices[0] <= 300_000

    market.claim(session_id, BUYER, BUYS, {"from": operator})
    market.claim(session_id, SELLER, SELLS, {"from": operator})
    assert core.house.balanceOf(buyer) == FUNDS - prices[0] - 1_000
    assert core.house.balanceOf(seller) == FUNDS - 51_000
    assert core.house.lockOf(market.potLockId(session_id)) == prices[0] + 1_000 + 51_000
    with reverts("AlreadyClaimed", session_id, BUYER, unchanged=[market, core.house]):
        market.claim(session_id, BUYER, BUYS, {"from": buyer})
