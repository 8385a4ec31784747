"""A session settled in one batch, by commands: a proposer lies and loses its stake; the next one tells the truth."""

from dataclasses import replace

import pytest

from offchain.audit import audit
from offchain.audit.source import read_chain
from offchain.chain.indexer import read_events
from offchain.chain.signers import signer
from offchain.market import proposing
from offchain.market.batches import OutcomeBatch
from offchain.market.operating import clear_session, finalise_session, open_session
from offchain.market.orders import orders
from offchain.market.replay import replay_sessions
from offchain.market.terms import EnergyType, SessionTimes
from tests.e2e.operated import AT_150, MARKET_DAY_ISPS, Operated, anchor_day

STAKE = 100_000_000


@pytest.fixture(scope="module")
def operated(enrolled_day, tmp_path_factory):
    return Operated(enrolled_day, tmp_path_factory.mktemp("batches"))


def account(world, prosumer):
    """A prosumer that sends transactions itself."""
    found = signer(prosumer.wallet.secret)
    world.chain.request("anvil_setBalance", found.address, hex(10**20))
    return found


def test_session_is_settled_by_a_batch_after_a_lie_was_found(operated):
    world, times, terms = operated.world, operated.times, operated.terms
    suite, relayer = world.suite, world.cast.relayer
    seller, buyer, *stakers = world.cast.prosumers[:4]
    store = world.config.out / "store.db"
    accounts = [account(world, staker) for staker in stakers]
    operated.fund({staker.address: STAKE for staker in stakers})
    staked = operated.json("stake", STAKE, key=accounts[0])
    assert staked == {"stake_utoken": STAKE}
    proposing.stake(suite, accounts[1], STAKE)

    session_id = open_session(suite, world.cast.market_operator, terms, operated.first_isp)
    product = terms.product(EnergyType.BROWN, 0)
    books = {p: orders([(product, side, AT_150, 1_000)]) for p, side in ((seller, 1), (buyer, 0))}
    operated.trade(session_id, terms, operated.first_isp, books)

    def told():
        events = read_events(world.chain, suite)
        return events, replay_sessions(events)

    def take_part():
        events, sessions = told()
        return proposing.take_part(suite, accounts[1], sessions[session_id], events)

    assert operated.json("draw", session_id, key=accounts[0])["done"] == "committed to a secret"
    assert take_part() == "committed to a secret"
    assert take_part() is None
    world.clock.advance_to(times.accept_by + 1)
    assert operated.json("draw", session_id, key=accounts[0])["done"] == "revealed the secret"
    assert take_part() == "revealed the secret"
    clear_session(suite, relayer, told()[1][session_id])
    finalise_session(suite, relayer, session_id)
    consumed, produced = [(300, 0)] * 4, [(0, 200)] * 4
    nothing = [(0, 0)] * (MARKET_DAY_ISPS - 4)
    anchor_day(world, operated.first_isp, {seller: produced + nothing, buyer: consumed + nothing})
    world.clock.advance_to(times.readings_due + 1)

    # Whoever is drawn pays the seller one micro-token too much.
    computed = proposing.session_outcomes(suite, world.store, told()[1], session_id)
    assert computed.outcomes[seller.connection_id].outcome.shortage_wh == 200
    first, *rest = computed.outcomes.values()
    lie = replace(first, outcome=replace(first.outcome, payout=first.outcome.payout + 1))
    false = OutcomeBatch(session_id, [lie, *rest])
    drawn = suite.call("SettlementProposer", "proposerOf", (session_id,))
    by_address = {a.address: a for a in accounts}
    proposing.propose(suite, world.store, by_address[drawn], false)
    data = operated.folder / "false.json"
    data.write_bytes(false.content)
    operated.fund({buyer.address: 20_000_000})
    challenger = account(world, buyer)
    files = ("--data", data, "--store", store)
    challenged = operated.json("challenge", session_id, *files, key=challenger)
    assert challenged["differences"] == ["0x" + first.connection_id.hex()]
    second = proposing.challenge(suite, challenger, false, rest[0].connection_id)
    early = operated.run("expire", second, key=relayer)
    assert (early.returncode, "AnswerStillDue" in early.stderr) == (4, True)
    answered = operated.json("answer", challenged["challenge"], *files, key=relayer)
    assert answered["result"] == "fraud proven"
    assert suite.call("SettlementProposer", "stakeOf", (drawn,))["amount"] == 0

    free = suite.call("ClearingHouse", "balanceOf", (challenger.address,))
    assert operated.json("expire", second, key=relayer)["result"] == "challenge void, the bond is back"
    bond = suite.call("ClearingHouse", "balanceOf", (challenger.address,)) - free
    *_, challenge_bond, _ = suite.call("SettlementProposer", "settings", ())
    assert bond == challenge_bond > 0

    # The next one tells the truth.
    honest = next(a for a in accounts if a.address != drawn)
    data = operated.folder / "true.json"
    files = ("--data", data, "--store", store)
    proposed = operated.json("propose", session_id, *files, key=honest)
    assert (proposed["outcomes"], proposed["left"]) == (2, 0)
    assert operated.json("challenge", session_id, *files, key=challenger)["differences"] == []
    early = operated.run("claim", session_id, "--data", data, key=relayer)
    assert early.returncode != 0
    assert "ChallengeWindowOpen" in early.stderr
    world.clock.advance_to(world.clock.now() + 86_400)
    claimed = operated.json("claim", session_id, "--data", data, key=relayer)
    assert len(claimed["claims"]) == 2
    assert operated.json("run", session_id, key=relayer)["state"] == "closed"
    stale = operated.run("claim", session_id, "--data", operated.folder / "false.json", key=relayer)
    assert "not the data of proposal 2" in stale.stderr

    report = audit(read_chain(suite), world.store)
    assert report.mismatches == []
    assert report.checked["settlement proposals"] > 0


def test_stake_is_taken_back_when_its_proposal_can_no_longer_fall(operated):
    """The session settled by meter: nobody claimed, so nobody has concluded the proposal yet."""
    world, terms, suite, relayer = operated.world, operated.terms, operated.world.suite, operated.world.cast.relayer
    staker = account(world, world.cast.prosumers[4])
    operated.fund({staker.address: STAKE})
    operated.json("stake", STAKE, key=staker)
    first_isp = world.clock.now() // 900 + 96
    session_id = open_session(suite, world.cast.market_operator, terms, first_isp)
    times = SessionTimes.of(terms, first_isp)
    world.clock.advance_to(times.accept_by + 1)
    clear_session(suite, relayer, replay_sessions(read_events(world.chain, suite))[session_id])
    finalise_session(suite, relayer, session_id)
    world.clock.advance_to(times.readings_due + 1)
    suite.send(staker, "SettlementProposer", "propose", (session_id, bytes(31) + b"\1", 1, bytes(32)))
    early = operated.run("unstake", STAKE, key=staker)
    assert (early.returncode, "ProposalsOpen" in early.stderr) == (4, True)
    world.clock.advance_to(suite.call("SettlementProposer", "proposalOf", (session_id,))["challengeUntil"])
    assert operated.json("unstake", STAKE, key=staker) == {"stake_utoken": 0, "concluded": [session_id]}


def test_propose_names_a_session_that_was_never_opened(operated):
    done = operated.run("challenge", 99, "--data", operated.folder / "no", "--store", "no.db")
    assert done.stderr.startswith("error: there is no session 99")
