"""
Bilateral trades: what both signed, once, in time
register → escrow of both, event, firm money (test_pool.py); replay, expiry, another chain or contract, wrong signer,
    changed terms, outsiders, same connection, no quantity, green without a green producer, too little money, paused,
    more trades than a report can bring
cancel → both signed, in time, returns all; never again registered
positionOf → all trades, each once, none of others
ERC-1271 → a contract wallet joins, trades and is paid
"""

from dataclasses import replace

import pytest
from eth_hash.auto import keccak

from offchain.chain.signatures import (
    APPROVAL,
    ENROLMENT,
    JOINING,
    TRADE,
    participants_domain,
    pool_domain,
    sign,
    trades_domain,
)
from offchain.domain.curves import pack_quantities
from offchain.domain.units import cost_up
from offchain.market.pool import MAX_TRADES, Trade, trade_amounts
from offchain.market.terms import EnergyType
from tests.market.pooling import DEPOSIT, TERMS, periods
from tests.market.world import FAR_FUTURE, FUNDS, SOLAR
from tests.utils.evm import CHAIN_ID, reverts

QUANTITIES = (1_000, 0, 2_001, 0)
NONE, REGISTERED, CANCELLED = range(3)


@pytest.fixture
def pool(pooling):
    pool = pooling.open_pool()
    for trader in pooling.traders[:2]:
        pool.join(trader)
    return pool


@pytest.fixture
def parties(pooling):
    return pooling.traders[:2]


@pytest.fixture
def trade(pool, parties):
    return pool.trade(*parties, QUANTITIES, 150_555)


def test_register_locks_the_escrow_of_both_and_tells_everything(pooling, pool, parties, trade):
    seller, buyer = parties
    pool.register(trade)
    event = pooling.evm.event("TradeRegistered")
    assert (event["tradeId"], event["sellerConnectionId"], event["buyerConnectionId"]) == (
        pool.id_of(trade),
        seller.connection,
        buyer.connection,
    )
    assert Trade.of(event["trade"]) == trade
    amounts = trade_amounts(TERMS, trade)
    assert (amounts.seller_escrow, amounts.buyer_escrow) == (900_300, cost_up(3_001, 150_555))
    assert pooling.house.balanceOf(seller.address) == FUNDS - DEPOSIT - amounts.seller_escrow
    assert pooling.house.balanceOf(buyer.address) == FUNDS - DEPOSIT - amounts.buyer_escrow
    assert pool.pot == TERMS.budget + 2 * DEPOSIT + amounts.seller_escrow + amounts.buyer_escrow
    assert pooling.trades.idOf(trade.as_tuple()) == pool.id_of(trade)
    assert pooling.trades.stateOf(pool.id_of(trade)) == REGISTERED
    assert [pooling.trades.countOf(pool.id, t.connection) for t in parties] == [1, 1]


def test_register_refuses_a_replay(pool, trade):
    pool.register(trade)
    with reverts("TradeInState", pool.id_of(trade), REGISTERED):
        pool.register(trade)
    pool.register(replace(trade, salt=99))  # both want it twice


def test_register_refuses_more_trades_than_a_report_can_bring(pooling, pool, parties):
    """Otherwise two members could lock the operator's money for good with trades that no transaction can bring."""
    third = pooling.traders[2]
    pool.join(third)
    trades = [pool.register(pool.trade(*parties, (1, 0, 0, 0))) for _ in range(MAX_TRADES)]
    seller, buyer = parties
    for pair, full in (((third, buyer), buyer), ((seller, third), seller)):
        with reverts("TooManyTrades", full.connection, MAX_TRADES):
            pool.register(pool.trade(*pair, (1, 0, 0, 0)))
    assert pooling.trades.countOf(pool.id, third.connection) == 0
    pool.cancel(trades[0])
    pool.register(pool.trade(*parties, (1, 0, 0, 0), salt=MAX_TRADES))
    pool.end_reports()
    for party in parties:
        pool.settle_unreported(party)


@pytest.mark.parametrize("late", [0, 1])
def test_register_ends_with_the_second_that_the_parties_named(pooling, pool, trade, late):
    trade = replace(trade, valid_until=pooling.evm.now + 7)
    pooling.evm.now += 7 + late
    if late:
        with reverts("TradeExpired", trade.valid_until, pooling.evm.now):
            pool.register(trade)
    else:
        pool.register(trade)


@pytest.mark.parametrize("late", [0, 1])
def test_register_ends_with_the_second_of_trading_after_delivery(pooling, pool, trade, late):
    assert TERMS.delivery_end < TERMS.trade_by
    pooling.evm.now = TERMS.trade_by + late
    if late:
        with reverts("TradingOver", pool.id, TERMS.trade_by, TERMS.trade_by + 1):
            pool.register(trade)
    else:
        pool.register(trade)


@pytest.mark.parametrize("wrong", [0, 1])
def test_register_refuses_when_one_party_did_not_sign(pooling, pool, parties, trade, wrong):
    outsider = pooling.outsider
    signatures = [pool.sign_trade(trade, outsider if i == wrong else party) for i, party in enumerate(parties)]
    with reverts("TradeSignatureInvalid", pool.id_of(trade), parties[wrong].address):
        pooling.trades.register(trade.as_tuple(), *signatures)
    assert pool.pot == TERMS.budget + 2 * DEPOSIT


@pytest.mark.parametrize(
    "changed",
    [
        {"price": 150_556},
        {"salt": 5},
        {"valid_until": 2**40},
        {"quantities_wh": (1_000, 0, 2_000, 0)},
    ],
)
def test_register_refuses_when_something_else_was_signed(pooling, pool, parties, trade, changed):
    signatures = [pool.sign_trade(trade, party) for party in parties]
    other = replace(trade, **changed)
    with reverts("TradeSignatureInvalid", pool.id_of(other), parties[0].address):
        pooling.trades.register(other.as_tuple(), *signatures)


@pytest.mark.parametrize(("chain_id", "contract"), [(CHAIN_ID + 1, None), (CHAIN_ID, "0x" + "22" * 20)])
def test_register_refuses_what_was_signed_for_another_chain_or_contract(
    pooling, pool, parties, trade, chain_id, contract
):
    domain = trades_domain(chain_id, contract or pooling.trades.address)
    signatures = [sign(TRADE.digest(domain, trade.as_message()), party.key) for party in parties]
    with reverts("TradeSignatureInvalid", pool.id_of(trade), parties[0].address):
        pooling.trades.register(trade.as_tuple(), *signatures)


def test_register_refuses_what_is_no_trade_of_members(pooling, pool, parties, trade):
    seller, buyer = parties
    with reverts("SameConnection", seller.connection):
        pool.register(replace(trade, buyer_connection_id=seller.connection))
    with reverts("NothingTraded"):
        pool.register(replace(trade, quantities_wh=(0, 0, 0, 0)))
    with reverts("QuantitiesLength", 12, 16):
        pool.register(replace(trade, quantities_wh=(1, 2, 3)))
    stranger = pooling.traders[2]
    with reverts("NotMember", pool.id, stranger.connection):
        pool.register(replace(trade, buyer_connection_id=stranger.connection))
    with reverts("PoolUnknown", 9):
        pool.register(replace(trade, pool_id=9))
    with reverts("NotGreenSeller", seller.connection):
        pool.register(replace(trade, energy_type=EnergyType.GREEN))
    pooling.set_producer_class(seller, SOLAR)
    pool.register(replace(trade, energy_type=EnergyType.GREEN))
    pooling.participants.setStatus(buyer.address, 2, b"\0" * 32, sender=pooling.registrar.address)
    with reverts("MissingRole", buyer.address, 4, 2):
        pool.register(trade)
    pooling.participants.setStatus(buyer.address, 1, b"\0" * 32, sender=pooling.registrar.address)
    pooling.participants.setStatus(seller.address, 2, b"\0" * 32, sender=pooling.registrar.address)
    with reverts("MissingRole", seller.address, 4, 2):
        pool.register(trade)
    pooling.trades.pause(sender=pooling.admin.address)
    with reverts("EnforcedPause"):
        pool.register(trade)


def test_register_refuses_when_a_party_cannot_cover_it(pooling, pool, parties, trade):
    seller, buyer = parties
    free = pooling.house.balanceOf(seller.address)
    pooling.house.withdraw(seller.address, free - 900_299, sender=seller.address)
    with reverts("InsufficientBalance", seller.address, 900_299, 900_300):
        pool.register(trade)
    assert pooling.trades.stateOf(pool.id_of(trade)) == NONE
    assert pooling.house.balanceOf(buyer.address) == FUNDS - DEPOSIT


# -------------------------------------------------------------------------------- cancel


def test_cancel_returns_all_and_the_trade_cannot_come_back(pooling, pool, parties, trade):
    pool.register(trade)
    pooling.trades.pause(sender=pooling.admin.address)
    pool.cancel(trade)
    assert pooling.evm.event("TradeCancelled") == {"tradeId": pool.id_of(trade), "poolId": pool.id}
    assert [pooling.house.balanceOf(t.address) for t in parties] == [FUNDS - DEPOSIT] * 2
    assert [pooling.trades.countOf(pool.id, t.connection) for t in parties] == [0, 0]
    pooling.trades.unpause(sender=pooling.admin.address)
    with reverts("TradeInState", pool.id_of(trade), CANCELLED):
        pool.register(trade)
    with reverts("TradeInState", pool.id_of(trade), CANCELLED):
        pool.cancel(trade)


@pytest.mark.parametrize("wrong", [0, 1])
def test_cancel_needs_both(pooling, pool, parties, trade, wrong):
    pool.register(trade)
    signatures = [pool.sign_cancellation(trade, parties[1 - wrong])] * 2
    with reverts("TradeSignatureInvalid", pool.id_of(trade), parties[wrong].address):
        pooling.trades.cancel(trade.as_tuple(), *signatures)
    with reverts("TradeSignatureInvalid", pool.id_of(trade), parties[0].address):  # signed the trade, not its end
        pooling.trades.cancel(trade.as_tuple(), *(pool.sign_trade(trade, party) for party in parties))


@pytest.mark.parametrize("late", [0, 1])
def test_cancel_ends_with_the_second_of_trading(pooling, pool, trade, late):
    pool.register(trade)
    pooling.evm.now = TERMS.trade_by + late
    if late:
        with reverts("TradingOver", pool.id, TERMS.trade_by, TERMS.trade_by + 1):
            pool.cancel(trade)
    else:
        pool.cancel(trade)


def test_cancel_refuses_a_trade_that_was_never_registered(pool, trade):
    with reverts("TradeInState", pool.id_of(trade), NONE):
        pool.cancel(trade)


# -------------------------------------------------------------------------------- positions


def test_report_needs_all_trades_each_once(pooling, pool, parties, trade):
    """Whoever reports cannot leave out what a member sold, nor count twice what it bought."""
    seller, buyer = parties
    both = sorted([pool.register(trade), pool.register(replace(trade, salt=7))], key=pool.id_of)
    other = pool.register(replace(trade, seller_connection_id=buyer.connection, buyer_connection_id=seller.connection))
    pool.cancel(other)
    evidence = pool.anchor({seller: periods(0, 0, 0, 0)})[seller]
    with reverts("TradesMissing", seller.connection, 1, 2):
        pool.report(seller, evidence, trades=both[:1])
    with reverts("TradesUnordered", pool.id_of(both[0])):
        pool.report(seller, evidence, trades=both[:1] * 2)
    with reverts("TradesUnordered", pool.id_of(both[0])):
        pool.report(seller, evidence, trades=both[::-1])
    cancelled = sorted([both[0], other], key=pool.id_of)
    with reverts("TradeInState", pool.id_of(other), CANCELLED):
        pool.report(seller, evidence, trades=cancelled)
    forged = sorted([both[0], replace(trade, salt=8)], key=pool.id_of)
    with reverts("TradeInState", pool.id_of(replace(trade, salt=8)), NONE):
        pool.report(seller, evidence, trades=forged)
    assert pool.book(pool.report(seller, evidence, trades=both)) == [(0, 0, 0, 2_000), (2, 0, 0, 4_002)]


def test_report_refuses_trades_of_others(pooling, pool, parties, trade):
    seller, _ = parties
    third, fourth = pooling.traders[2:4]
    for trader in (third, fourth):
        pool.join(trader)
    pool.register(trade)
    foreign = pool.register(pool.trade(third, fourth, QUANTITIES))
    elsewhere = pooling.open_pool()
    for trader in (seller, third):
        elsewhere.join(trader)
    abroad = elsewhere.register(elsewhere.trade(seller, third, QUANTITIES))
    evidence = pool.anchor({seller: periods(0, 0, 0, 0)})[seller]
    for wrong in (foreign, abroad):
        with reverts("TradeOfOthers", pool.id_of(wrong)):
            pool.report(seller, evidence, trades=[wrong])


# -------------------------------------------------------------------------------- contract wallets


def test_contract_wallet_joins_trades_and_is_paid(pooling, pool, parties):
    keeper, (seller, _) = pooling.outsider, parties
    wallet = pooling.evm.deploy("ContractWallet", keeper.address, sender=pooling.admin.address).address
    connection, area = keccak(b"connection of a wallet"), pooling.area
    message = {"account": wallet, "identityCommitment": keccak(b"w"), "nonce": 0, "deadline": FAR_FUTURE}
    domain = participants_domain(CHAIN_ID, pooling.participants.address)
    pooling.participants.registerProsumer(
        *(wallet, keccak(b"w"), FAR_FUTURE, pooling.registrar.address),
        sign(APPROVAL.digest(domain, message), pooling.registrar.key),
        sign(ENROLMENT.digest(domain, message), keeper.key),
    )
    pooling.grid.registerConnection(connection, area, wallet, 5_000, 5_000, sender=pooling.dso.address)
    pooling.house.deposit(wallet, 10**9, sender=pooling.admin.address)

    joining = {"connectionId": connection, "deposit": 0, "buyTick": 0, "sellTick": 0, "deadline": FAR_FUTURE}
    digest = JOINING.digest(pool_domain(CHAIN_ID, pooling.pool_relay.address), {"poolId": pool.id} | joining)
    pooling.pool_relay.joinSigned(pool.id, [joining | {"signature": sign(digest, keeper.key)}])
    trade = replace(pool.trade(seller, seller, (1_000, 0, 0, 0)), buyer_connection_id=connection)
    pooling.trades.register(trade.as_tuple(), pool.sign_trade(trade, seller), pool.sign_trade(trade, keeper))
    pool.end_reports()
    pooling.reports.settleUnreported(pool.id, connection, [trade.as_tuple()])
    assert pooling.house.balanceOf(wallet) == 10**9 - 150_000
    with reverts("TradeSignatureInvalid", pool.id_of(replace(trade, salt=1)), wallet):
        pooling.evm.now = TERMS.join_by
        later = replace(trade, salt=1)
        pooling.trades.register(later.as_tuple(), pool.sign_trade(later, seller), pool.sign_trade(later, seller))


def test_quantities_are_packed_as_the_contracts_read_them(trade):
    assert trade.quantities == pack_quantities(QUANTITIES)
