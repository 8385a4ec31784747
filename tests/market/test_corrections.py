"""MarketCorrections: newer readings of settled bundles.

correct
├── session that was never opened, is open, or not closed → SessionNotClosed
├── another bundle → BundleMismatch; a bundle of an overlapping session left out → PositionOmitted
├── readings no longer count → ReadingsTooLate; at the second before they do
├── newest version can be challenged → ChallengeWindowOpen; was rejected → BatchNotUsable, what was paid stands
├── same payout, or brought a second time → NothingToCorrect
├── more → operator pays trader; less → trader pays operator; from missing, to missing; by anyone, all paused;
│   certificates and pot stay as they are
├── settled by a batch → gross payout, the fee stays with the proposer
├── debtor lacks it → owed; what falls due the other way is set off; trader that is its own operator → nothing moves
└── property: everybody has what settlement by the newest readings alone would have left it, whatever was settled and
    corrected before, in whatever order, over overlapping sessions, at negative prices, with debtors that had nothing;
    all corrections of a session are within what its operator was left at closing
collectOwed
├── nothing owed → NothingOwed
└── in parts, as money comes, by anyone
terms of a session
└── always leave a week for corrections: closed as late as can be, corrected afterwards
"""

import pytest
from eth_hash.auto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import READING, metering_domain, sign
from offchain.market.netting import MeteredWindow, Position, net
from offchain.market.settlement import FinalRates, outcome
from tests.market.settling import CHALLENGE_WINDOW, device_of, position, span_of
from tests.market.test_netting import BASE, Desk, open_at
from tests.market.test_proposer import CHALLENGE, FEE, MINIMUM
from tests.market.test_settlement import BUYS, DELIVERED, SELLS, TAKEN, matched, readings, settle
from tests.market.world import MARKET_OPERATOR, SOLAR
from tests.utils.evm import CHAIN_ID, reverts

__all__ = ["matched"]
DAY = 86_400
RECORD, CORRECTION = 30 * DAY, 7 * DAY
SHORT = [(0, 500), (0, 100), (0, 250), (0, 250), *[(0, 0)] * 4]
MISSING = [None] * 8
FULL_PAYOUT, SHORT_PAYOUT = 285_011, 285_011 - 118_000
"""By test_settlement; 400 Wh short at 250,000 and 50,000 a kWh, 400 Wh less of brown energy at 5,000."""


def correct(world, session, trader, bundle, evidence) -> int:
    arguments = session.id, trader.connection, [position(session, bundle)], [evidence[trader]]
    return world.corrections.correct(*arguments, sender=world.outsider.address)


@pytest.fixture
def closed(settling, matched):
    """All delivered, settled by meter and closed; seller and buyer."""
    seller, buyer = settling.traders[:2]
    evidence = settling.anchor(matched, {seller: DELIVERED, buyer: TAKEN})
    settle(settling, matched, seller, SELLS, evidence[seller])
    settle(settling, matched, buyer, BUYS, evidence[buyer])
    settling.market.closeSession(matched.id)
    return matched


def balances(world, *people) -> list[int]:
    return [world.house.balanceOf(person.address) for person in people]


def empty(world, person) -> int:
    """Withdraws all that somebody has."""
    amount = world.house.balanceOf(person.address)
    world.house.withdraw(world.outsider.address, amount, sender=person.address)
    return amount


def fund(world, person, amount: int) -> None:
    world.house.deposit(person.address, amount, sender=world.admin.address)


# ---------------------------------------------------------------------- when


def test_correct_waits_until_the_session_is_closed(settling, matched):
    seller, buyer = settling.traders[:2]
    evidence = settling.anchor(matched, {seller: DELIVERED, buyer: TAKEN})
    for stranger in (matched.id, matched.id + 1):
        with reverts("SessionNotClosed", stranger):
            settling.corrections.correct(stranger, seller.connection, [position(matched, SELLS)], [evidence[seller]])
    settle(settling, matched, seller, SELLS, evidence[seller])
    evidence = settling.anchor(matched, {seller: SHORT, buyer: TAKEN})
    with reverts("SessionNotClosed", matched.id):
        correct(settling, matched, seller, SELLS, evidence)
    settle(settling, matched, buyer, BUYS, evidence[buyer])
    with reverts("SessionNotClosed", matched.id):
        correct(settling, matched, seller, SELLS, evidence)
    settling.market.closeSession(matched.id)
    assert correct(settling, matched, seller, SELLS, evidence) == SHORT_PAYOUT - FULL_PAYOUT


def test_correct_ends_when_readings_no_longer_count(settling, closed):
    seller = settling.traders[0]
    evidence = settling.anchor(closed, {seller: SHORT})
    until = closed.times.delivery_end + RECORD
    settling.evm.now = until
    with reverts("ReadingsTooLate", closed.id, until, until):
        correct(settling, closed, seller, SELLS, evidence)
    settling.evm.now = until - 1
    assert correct(settling, closed, seller, SELLS, evidence) < 0


def test_terms_leave_a_week_for_corrections(settling):
    """Nobody settles before the deadline that the terms can set at most; a correction still has its week."""
    seller, buyer = settling.traders[:2]
    settling.set_producer_class(seller, SOLAR)
    session = settling.open(readings_due_seconds=20 * DAY, settlement_seconds=3 * DAY)
    session.submit(seller, SELLS)
    session.submit(buyer, BUYS)
    session.run_auction()
    settling.evm.now = session.times.settle_by
    for trader, bundle in ((seller, SELLS), (buyer, BUYS)):
        settling.settlement.settleMissing(session.id, trader.connection, [position(session, bundle)])
    settling.market.closeSession(session.id)
    assert session.times.delivery_end + RECORD - settling.evm.now == CORRECTION
    assert settling.sessions.correctionSeconds() == CORRECTION
    evidence = settling.anchor(session, {seller: DELIVERED})
    assert correct(settling, session, seller, SELLS, evidence) == FULL_PAYOUT - 105_011


def test_correct_waits_for_the_challenge_window_of_the_newest_version(settling, closed):
    seller = settling.traders[0]
    evidence = settling.anchor(closed, {seller: SHORT})
    usable = settling.evm.now
    settling.evm.now -= 1
    with reverts("ChallengeWindowOpen", usable, usable - 1):
        correct(settling, closed, seller, SELLS, evidence)


def test_correct_leaves_what_was_paid_when_the_newest_version_was_rejected(settling, closed):
    seller = settling.traders[0]
    evidence = settling.anchor(closed, {seller: SHORT})
    settling.evm.now -= CHALLENGE_WINDOW
    reject(settling, closed, evidence[seller])
    settling.evm.now += CHALLENGE_WINDOW
    with reverts("BatchNotUsable", settling.meter_operator.address, closed.first_isp, 2, 2):
        correct(settling, closed, seller, SELLS, evidence)
    assert settling.corrections.paidOf(closed.id, seller.connection) == FULL_PAYOUT
    evidence = settling.anchor(closed, {seller: SHORT})
    assert correct(settling, closed, seller, SELLS, evidence) == SHORT_PAYOUT - FULL_PAYOUT


def reject(world, session, proven) -> None:
    """Somebody has a signed reading that says something else than the day."""
    meter_id = proven["day"]["meterId"]
    message = {"meterId": meter_id, "isp": session.first_isp, "importWh": 77, "exportWh": 0}
    digest = READING.digest(metering_domain(CHAIN_ID, world.metering.address), message)
    reading = message | {"signature": sign(digest, device_of(world.traders[0]).key)}
    arguments = world.meter_operator.address, proven["day"], proven["proof"], reading
    world.metering.challengeContradiction(*arguments, sender=world.outsider.address)


# ---------------------------------------------------------------------- what is brought


def test_correct_refuses_another_bundle_and_other_readings(settling, closed):
    seller, buyer = settling.traders[:2]
    evidence = settling.anchor(closed, {seller: SHORT, buyer: TAKEN})
    before = balances(settling, seller, buyer, settling.operator)
    with reverts("BundleMismatch", closed.id, seller.connection, closed.bundle(seller)["hash"]):
        correct(settling, closed, seller, BUYS, evidence)
    with reverts("MeterOfOtherConnection", evidence[buyer]["day"]["meterId"], seller.connection):
        correct(settling, closed, seller, SELLS, {seller: evidence[buyer]})
    stranger = settling.traders[2]
    with reverts("BundleMismatch", closed.id, stranger.connection, bytes(25)):
        arguments = closed.id, stranger.connection, [], [evidence[seller]]
        settling.corrections.correct(*arguments)
    assert balances(settling, seller, buyer, settling.operator) == before


def test_correct_does_not_take_an_older_version(settling, closed):
    """A trader that liked the first version better cannot bring it back."""
    seller = settling.traders[0]
    newest = settling.anchor(closed, {seller: SHORT})
    correct(settling, closed, seller, SELLS, newest)
    with settling.evm.rolled_back():
        first = settling.anchor(closed, {seller: DELIVERED})
    with pytest.raises(Exception, match="LeafNotAnchored"):
        correct(settling, closed, seller, SELLS, first)


def test_correct_refuses_when_nothing_changed_and_a_second_time(settling, closed):
    seller = settling.traders[0]
    evidence = settling.anchor(closed, {seller: DELIVERED})
    with reverts("NothingToCorrect", closed.id, seller.connection, FULL_PAYOUT):
        correct(settling, closed, seller, SELLS, evidence)
    evidence = settling.anchor(closed, {seller: SHORT})
    correct(settling, closed, seller, SELLS, evidence)
    before = balances(settling, seller, settling.operator)
    with reverts("NothingToCorrect", closed.id, seller.connection, SHORT_PAYOUT):
        correct(settling, closed, seller, SELLS, evidence)
    assert balances(settling, seller, settling.operator) == before


# ---------------------------------------------------------------------- who pays


def test_correct_down_and_up_between_trader_and_operator(settling, closed):
    seller, buyer, operator = *settling.traders[:2], settling.operator
    start = balances(settling, seller, operator, buyer)
    certified = settling.certificates.injectedWh(closed.id, 0, 0)
    difference = SHORT_PAYOUT - FULL_PAYOUT
    evidence = settling.anchor(closed, {seller: SHORT})
    assert correct(settling, closed, seller, SELLS, evidence) == difference
    event = settling.evm.event("TraderCorrected")
    newest, _ = settling.settlement.outcomeOf(
        closed.id, seller.connection, [position(closed, SELLS)], [evidence[seller]]
    )
    assert event == {
        "sessionId": closed.id,
        "connectionId": seller.connection,
        "trader": seller.address,
        "outcome": newest,
        "difference": difference,
    }
    assert newest["payout"] == settling.corrections.paidOf(closed.id, seller.connection) == SHORT_PAYOUT
    assert balances(settling, seller, operator, buyer) == [start[0] + difference, start[1] - difference, start[2]]
    evidence = settling.anchor(closed, {seller: DELIVERED})
    assert correct(settling, closed, seller, SELLS, evidence) == -difference
    assert balances(settling, seller, operator, buyer) == start
    assert settling.certificates.injectedWh(closed.id, 0, 0) == certified
    assert closed.pot == 0


def test_correct_from_missing_to_metered_and_back(settling, matched):
    seller, buyer = settling.traders[:2]
    settling.evm.now = matched.times.settle_by
    for trader, bundle in ((seller, SELLS), (buyer, BUYS)):
        settling.settlement.settleMissing(matched.id, trader.connection, [position(matched, bundle)])
    settling.market.closeSession(matched.id)
    assert settling.corrections.paidOf(matched.id, seller.connection) == 105_011
    evidence = settling.anchor(matched, {seller: DELIVERED})
    assert correct(settling, matched, seller, SELLS, evidence) == FULL_PAYOUT - 105_011
    evidence = settling.anchor(matched, {seller: MISSING})
    assert correct(settling, matched, seller, SELLS, evidence) == 105_011 - FULL_PAYOUT


def test_correct_works_while_everything_is_paused(settling, closed):
    seller = settling.traders[0]
    evidence = settling.anchor(closed, {seller: SHORT})
    for contract in (settling.house, settling.market, settling.sessions, settling.proposer, settling.metering):
        contract.pause(sender=settling.admin.address)
    assert correct(settling, closed, seller, SELLS, evidence) == SHORT_PAYOUT - FULL_PAYOUT


def test_correct_of_a_batch_leaves_the_fee_with_the_proposer(settling, matched):
    seller, proposer = settling.traders[0], settling.traders[4]
    settling.proposer.stake(MINIMUM, sender=proposer.address)
    buyer = settling.traders[1]
    evidence = settling.anchor(matched, {seller: DELIVERED, buyer: TAKEN})
    settling.evm.now = matched.times.readings_due + 3 * 3_600
    leaves = []
    for trader, bundle in ((seller, SELLS), (buyer, BUYS)):
        found, injected = settling.settlement.outcomeOf(
            matched.id, trader.connection, [position(matched, bundle)], [evidence[trader]]
        )
        leaves.append(
            {"connectionId": trader.connection, "bundle": bundle, "outcome": found, "injectedWh": list(injected)}
        )
    tree = MerkleTree([settling.proposer.leafOf(matched.id, leaf) for leaf in leaves])
    settling.proposer.propose(matched.id, tree.root, 2, keccak(b"data"), sender=proposer.address)
    settling.evm.now += CHALLENGE
    before = balances(settling, seller)[0]
    for leaf, proof in zip(leaves, tree.proofs(), strict=True):
        settling.proposer.claim(matched.id, leaf, proof)
    assert balances(settling, seller)[0] - before == FULL_PAYOUT - FEE
    assert settling.proposer.paidOf(matched.id, seller.connection) == FULL_PAYOUT
    assert settling.settlement.paidOf(matched.id, seller.connection) == 0
    settling.market.closeSession(matched.id)
    paid = balances(settling, proposer)[0]
    evidence = settling.anchor(matched, {seller: SHORT})
    assert correct(settling, matched, seller, SELLS, evidence) == SHORT_PAYOUT - FULL_PAYOUT
    assert balances(settling, seller)[0] - before == SHORT_PAYOUT - FEE
    assert balances(settling, proposer)[0] == paid


# ---------------------------------------------------------------------- who cannot pay


def test_correct_records_what_the_trader_lacks_and_anyone_collects_it_as_money_comes(settling, closed):
    seller, operator = settling.traders[0], settling.operator
    empty(settling, seller)
    fund(settling, seller, 18_000)
    before = balances(settling, operator)[0]
    evidence = settling.anchor(closed, {seller: SHORT})
    correct(settling, closed, seller, SELLS, evidence)
    debt = {"debtor": seller.address, "creditor": operator.address, "amount": 100_000, "total": 100_000}
    assert settling.evm.event("Owed") == debt
    assert balances(settling, seller, operator) == [0, before + 18_000]
    with reverts("NothingOwed", operator.address, seller.address):
        settling.corrections.collectOwed(operator.address, seller.address)
    for amount, left in ((0, 100_000), (30_000, 70_000), (70_000, 0)):
        if amount:
            fund(settling, seller, amount)
        settling.corrections.collectOwed(seller.address, operator.address, sender=settling.outsider.address)
        told = {"debtor": seller.address, "creditor": operator.address, "amount": amount, "left": left}
        assert settling.evm.event("OwedCollected") == told
        assert settling.corrections.owed(seller.address, operator.address) == left
    assert balances(settling, seller, operator) == [0, before + 118_000]
    with reverts("NothingOwed", seller.address, operator.address):
        settling.corrections.collectOwed(seller.address, operator.address)


def test_correct_sets_off_what_is_owed_the_other_way(settling, closed):
    """Otherwise the operator would pay out what it is owed, and the trader walk away with it."""
    seller, operator = settling.traders[0], settling.operator
    empty(settling, seller)
    correct(settling, closed, seller, SELLS, settling.anchor(closed, {seller: SHORT}))
    before = balances(settling, operator)[0]
    correct(settling, closed, seller, SELLS, settling.anchor(closed, {seller: DELIVERED}))
    told = {"debtor": seller.address, "creditor": operator.address, "amount": 118_000, "left": 0}
    assert settling.evm.event("OwedSetOff") == told
    assert balances(settling, seller, operator) == [0, before]
    assert settling.corrections.owed(seller.address, operator.address) == 0


def test_correct_records_what_the_operator_lacks(settling, closed):
    seller, operator = settling.traders[0], settling.operator
    correct(settling, closed, seller, SELLS, settling.anchor(closed, {seller: SHORT}))
    empty(settling, operator)
    correct(settling, closed, seller, SELLS, settling.anchor(closed, {seller: DELIVERED}))
    assert settling.corrections.owed(operator.address, seller.address) == 118_000


def test_correct_moves_nothing_when_the_trader_is_the_operator(settling):
    seller, buyer = settling.traders[:2]
    settling.participants.registerOrganisation(
        seller.address, MARKET_OPERATOR, keccak(b"o"), sender=settling.registrar.address
    )
    settling.set_producer_class(seller, SOLAR)
    operator, settling.operator = settling.operator, seller
    try:
        session = settling.open()
    finally:
        settling.operator = operator
    session.submit(seller, SELLS)
    session.submit(buyer, BUYS)
    session.run_auction()
    evidence = settling.anchor(session, {seller: DELIVERED, buyer: TAKEN})
    settle(settling, session, seller, SELLS, evidence[seller])
    settle(settling, session, buyer, BUYS, evidence[buyer])
    settling.market.closeSession(session.id)
    empty(settling, seller)
    assert correct(settling, session, seller, SELLS, settling.anchor(session, {seller: SHORT})) < 0
    assert settling.corrections.owed(seller.address, seller.address) == 0
    assert settling.corrections.paidOf(session.id, seller.connection) == SHORT_PAYOUT


# ---------------------------------------------------------------------- whatever the path


def expected_payout(desk, session, trader, metered) -> int:
    """By the twin, netted with what the trader holds in all sessions of the desk."""
    state = session.state()
    rates = FinalRates(state["surplusPrice"], state["greenRewardRate"])
    held = [s for s in desk.sessions if (s.id, trader) in desk.bundles]
    positions = [Position(s.id, span_of(s), desk.fills(s, trader)) for s in held]
    found = net(positions, MeteredWindow.of(BASE, metered)).sessions[session.id]
    return outcome(session.terms, rates, desk.fills(session, trader), found).payout


TICKS = st.sampled_from([0, 5, 10, 34, 60])
VERSION = st.lists(readings, min_size=2, max_size=2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_corrections_lead_where_the_newest_readings_alone_would_have(settling, data):
    with settling.evm.rolled_back():
        world, traders = settling, settling.traders[:2]
        for trader in traders:
            world.set_producer_class(trader, SOLAR)
        desk = Desk(world, open_at(world, BASE, 4, 2), open_at(world, BASE, 2, 4))
        for session in desk.sessions:
            order = st.tuples(
                st.integers(0, session.terms.product_count - 1), st.integers(0, 1), TICKS, st.integers(10, 2_000)
            )
            for trader in traders:
                desk.trade(session, trader, *data.draw(st.lists(order, min_size=1, max_size=4)))
        desk.run_auctions()
        versions = data.draw(st.lists(VERSION, min_size=2, max_size=3))
        people = [*traders, world.operator]
        first, *newer = versions
        residuals: dict[int, int] = {}
        bundles = list(desk.bundles)
        sessions = {session.id: session for session in desk.sessions}

        def anchor(version):
            return world.anchor(desk.sessions[0], dict(zip(traders, version, strict=True)))

        def settle_all(evidence) -> None:
            for session_id, trader in data.draw(st.permutations(bundles)):
                arguments = session_id, trader.connection, desk.positions(trader)
                if evidence is None:
                    world.evm.now = max(world.evm.now, sessions[session_id].times.settle_by)
                    world.settlement.settleMissing(*arguments)
                else:
                    world.settlement.settle(*arguments, [evidence[trader]])
            for session in desk.sessions:
                world.market.closeSession(session.id)
                residuals[session.id] = world.evm.event("SessionClosed")["residual"]

        def paid(session) -> int:
            return sum(world.corrections.paidOf(session.id, trader.connection) for trader in traders)

        with world.evm.rolled_back():
            settle_all(anchor(newer[-1]))
            straight = balances(world, *people)
        settle_all(None if data.draw(st.booleans()) else anchor(first))
        at_closing = {session.id: paid(session) for session in desk.sessions}
        taken = dict.fromkeys(people, 0)
        for number, version in enumerate(newer):
            evidence = anchor(version)
            last = number == len(newer) - 1
            for person in data.draw(st.sets(st.sampled_from(people))):
                if world.house.balanceOf(person.address):
                    taken[person] += empty(world, person)
            for session_id, trader in data.draw(st.permutations(bundles)):
                if not last and data.draw(st.booleans()):
                    continue
                metered = version[traders.index(trader)]
                due = expected_payout(desk, sessions[session_id], trader, metered)
                before = world.corrections.paidOf(session_id, trader.connection)
                arguments = session_id, trader.connection, desk.positions(trader), [evidence[trader]]
                if due == before:
                    with reverts("NothingToCorrect", session_id, trader.connection, before):
                        world.corrections.correct(*arguments)
                else:
                    assert world.corrections.correct(*arguments) == due - before
                assert world.corrections.paidOf(session_id, trader.connection) == due
                for one in traders:
                    pair = one.address, world.operator.address
                    both = world.corrections.owed(*pair), world.corrections.owed(*reversed(pair))
                    assert min(both) == 0
        for session in desk.sessions:
            # What the operator pays for a session in all is not more than it was left.
            assert paid(session) - at_closing[session.id] <= residuals[session.id]
        for person, amount in taken.items():
            if amount:
                fund(world, person, amount)
        for trader in traders:
            for pair in ((trader, world.operator), (world.operator, trader)):
                debtor, creditor = (person.address for person in pair)
                if world.corrections.owed(debtor, creditor):
                    world.corrections.collectOwed(debtor, creditor)
                assert world.corrections.owed(debtor, creditor) == 0
        assert balances(world, *people) == straight
