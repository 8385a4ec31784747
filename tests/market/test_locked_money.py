"""Stakes and guarantees cannot be sold: what is locked leaves neither the clearing house nor through the desk.

And certificates of scheduled sessions: those that were issued outlive the word of their bundle, others are lost.
"""

from types import SimpleNamespace

import pytest
from eth_abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from offchain.chain.errors import ContractRevertedError
from tests.market.settling import PROPOSER_SETTINGS, position
from tests.market.test_sessions import FIRST, LANES, open_index, register
from tests.market.world import BUY, SELL, bundle_of, price_tick
from tests.utils.evm import reverts

MINIMUM = PROPOSER_SETTINGS[4]
AT = price_tick(120_000)
OFFER = bundle_of((0, SELL, AT, 1_000))
TOKENS = 10 * MINIMUM


@pytest.fixture(scope="module")
def trading(settling_deployed):
    """A desk, and a trader that owns nothing but what it bought there."""
    world = settling_deployed
    with world.evm.rolled_back():
        admin, trader = world.admin, world.traders[0]
        currency = world.evm.deploy("LocalCurrency", world.authority.address, sender=admin.address)
        desk = world.evm.deploy(
            *("TokenDesk", world.authority.address, world.participants.address, world.house.address),
            *(currency.address, 10**12),
            sender=admin.address,
        )
        world.token.approve(desk.address, 10**12, sender=admin.address)
        desk.stock(10**9, sender=admin.address)
        world.house.withdraw(world.dso.address, world.house.balanceOf(trader.address), sender=trader.address)
        for holder in (trader.address, desk.address):
            currency.mint(holder, 10**9, sender=admin.address)
        currency.approve(desk.address, 10**9, sender=trader.address)
        world.token.approve(desk.address, 2**255, sender=trader.address)
        desk.buyAndDeposit(TOKENS, trader.address, sender=trader.address)
        yield SimpleNamespace(world=world, trader=trader, desk=desk, currency=currency)


def holdings(trading, session=None) -> tuple[int, int, int]:
    """Tokens of the trader: in its wallet, free in the clearing house, locked."""
    world, address = trading.world, trading.trader.address
    locked = world.house.lockOf(world.proposer.stakeLockId(address))
    if session is not None:
        locked += session.pot - session.terms.surplus_budget - session.terms.reward_budget
    return world.token.balanceOf(address), world.house.balanceOf(address), locked


def assert_not_sellable(trading, free: int) -> None:
    """Of what the trader has, no more than is free can leave, by any function that gives tokens away."""
    world, address = trading.world, trading.trader.address
    with world.evm.rolled_back():
        with reverts("InsufficientBalance", address, free, free + 1):
            world.house.withdraw(address, free + 1, sender=address)
        if free:
            world.house.withdraw(address, free, sender=address)
        wallet = world.token.balanceOf(address)
        with reverts("ERC20InsufficientBalance", address, wallet, wallet + 1):
            trading.desk.sell(wallet + 1, sender=address)
        with reverts("ERC20InsufficientBalance", address, wallet, wallet + 1):
            world.token.transfer(world.dso.address, wallet + 1, sender=address)


def test_a_stake_cannot_be_sold_until_it_is_taken_back(trading):
    world, trader = trading.world, trading.trader
    with world.evm.rolled_back():
        world.proposer.stake(TOKENS - 5, sender=trader.address)
        assert_not_sellable(trading, free=5)
        with reverts("InsufficientBalance", trader.address, 5, 6):
            world.proposer.stake(6, sender=trader.address)
        session = world.open()
        secret = keccak(encode(["uint64", "address", "bytes32"], [session.id, trader.address, bytes(31) + b"\x01"]))
        world.proposer.commit(session.id, secret, sender=trader.address)
        until = world.proposer.stakeOf(trader.address)["boundUntil"]
        world.evm.now = until - 1
        with reverts("StakeBound", trader.address, until, until - 1):
            world.proposer.unstake(1, sender=trader.address)
        assert_not_sellable(trading, free=5)
        world.evm.now = until
        world.proposer.unstake(TOKENS - 5, sender=trader.address)
        world.house.withdraw(trader.address, TOKENS, sender=trader.address)
        trading.desk.sell(TOKENS, sender=trader.address)
        assert holdings(trading) == (0, 0, 0)


def test_a_guarantee_cannot_be_sold_until_its_session_is_settled(trading):
    world, trader = trading.world, trading.trader
    with world.evm.rolled_back():
        session = world.open()
        escrow = session.submit(trader, OFFER)["escrow"]
        session.submit(world.traders[1], bundle_of((0, BUY, AT, 1_000)))
        assert_not_sellable(trading, free=TOKENS - escrow)
        session.run_auction()
        with reverts("GateClosed", session.id, session.times.gate_closure, world.evm.now):
            session.submit(trader, b"", OFFER)
        assert session.claim(trader, OFFER)["released"] == 0
        assert_not_sellable(trading, free=TOKENS - escrow)
        evidence = world.anchor(session, {trader: [(0, 1_000), *[(0, 0)] * 7]})
        assert_not_sellable(trading, free=TOKENS - escrow)
        world.settlement.settle(session.id, trader.connection, [position(session, OFFER)], [evidence[trader]])
        free = world.house.balanceOf(trader.address)
        assert free > TOKENS
        world.house.withdraw(trader.address, free, sender=trader.address)
        trading.desk.sell(free, sender=trader.address)


def test_only_modules_move_what_is_locked(trading):
    world, trader = trading.world, trading.trader
    with world.evm.rolled_back():
        world.proposer.stake(MINIMUM, sender=trader.address)
        lock = world.proposer.stakeLockId(trader.address)
        for call in (
            lambda: world.house.release(lock, trader.address, 1, sender=trader.address),
            lambda: world.house.relock(lock, keccak(b"mine"), 1, sender=trader.address),
            lambda: world.house.move(trader.address, world.dso.address, 1, sender=trader.address),
        ):
            with reverts("NotModule", trader.address):
                call()


STEPS = ("stake", "unstake", "offer", "cancel", "withdraw", "sell", "redeposit")


@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3 * MINIMUM)), max_size=12))
def test_whatever_is_tried_no_more_than_is_free_leaves(trading, steps):
    """Wallet, free balance, locks and what the desk paid for are all that the trader ever had."""
    world, trader, desk = trading.world, trading.trader, trading.desk
    with world.evm.rolled_back():
        session, offered, sold = world.open(), False, 0
        world.token.approve(world.house.address, 2**255, sender=trader.address)
        for step, amount in steps:
            locked_before = holdings(trading, session)[2]
            try:
                match step:
                    case "stake":
                        world.proposer.stake(amount, sender=trader.address)
                    case "unstake":
                        world.proposer.unstake(amount, sender=trader.address)
                    case "offer":
                        session.submit(trader, OFFER)
                        offered = True
                    case "cancel":
                        session.submit(trader, b"", OFFER)
                        offered = False
                    case "withdraw":
                        world.house.withdraw(trader.address, amount, sender=trader.address)
                    case "sell":
                        desk.sell(amount, sender=trader.address)
                        sold += amount
                    case "redeposit":
                        world.house.deposit(trader.address, amount, sender=trader.address)
            except ContractRevertedError:
                pass
            wallet, free, locked = holdings(trading, session)
            assert wallet + free + locked + sold == TOKENS
            if step not in ("unstake", "cancel"):
                assert locked >= locked_before
            assert (session.pot > session.terms.surplus_budget + session.terms.reward_budget) == offered
        assert_not_sellable(trading, free=holdings(trading)[1])


# -------------------------------------------------------------------------------- certificates of scheduled sessions


def bought(world) -> tuple:
    """First session of a schedule, in which the second trader bought of the first; settled."""
    schedule = register(world)
    session = open_index(world, schedule, 0)
    seller, buyer = world.traders[1:3]
    bundles = {seller: OFFER, buyer: bundle_of((0, BUY, AT, 1_000))}
    for trader, bundle in bundles.items():
        session.submit(trader, bundle)
    session.run_auction()
    return schedule, session, seller, buyer, bundles[buyer]


def settle_and_take_over(world, schedule: int, session, bundles: dict) -> None:
    """The session is settled and closed; a later one of the schedule takes the words of its bundles."""
    readings = {trader: [(500, 500), (500, 500), *[(0, 0)] * 6] for trader in bundles}
    evidence = world.anchor(session, readings)
    for trader, bundle in bundles.items():
        world.settlement.settle(session.id, trader.connection, [position(session, bundle)], [evidence[trader]])
    world.market.closeSession(session.id)
    later = open_index(world, schedule, LANES)
    for trader, bundle in bundles.items():
        later.submit(trader, bundle)


def test_certificates_that_were_issued_outlive_the_word_of_their_bundle(settling):
    schedule, session, seller, buyer, bids = bought(settling)
    settling.certificates.issue(session.id, buyer.connection, bids)
    settle_and_take_over(settling, schedule, session, {seller: OFFER, buyer: bids})
    certificate = settling.certificates.certificateId(session.id, 0)
    assert settling.certificates.balanceOf(buyer.address, certificate) == 1_000
    settling.certificates.redeem(certificate, 1_000, sender=buyer.address)
    guarantee = settling.certificates.guaranteeId(session.id, 0, 0)
    assert settling.certificates.balanceOf(buyer.address, guarantee) == 1_000


def test_certificates_that_were_not_issued_are_lost_with_the_word_of_their_bundle(settling):
    schedule, session, seller, buyer, bids = bought(settling)
    settle_and_take_over(settling, schedule, session, {seller: OFFER, buyer: bids})
    with reverts("BundleMismatch", session.id, buyer.connection, bytes(25)):
        settling.certificates.issue(session.id, buyer.connection, bids)
    # Not before a settlement period and the time that bundles stay on record, and only by an order of the buyer itself.
    assert settling.evm.now >= FIRST * 900 + 30 * 86_400
