"""SettlementProposer: stake, draw, batches, challenges; proposers and challengers that lie."""

from collections import Counter
from dataclasses import dataclass

import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from offchain.chain.merkle import MerkleTree
from tests.market.settling import PROPOSER_SETTINGS, position
from tests.market.world import BUY, SELL, Trader, bundle_of, price_tick
from tests.utils.evm import reverts

AGE_CAP, TURN, CHALLENGE, ANSWER, MINIMUM, PENALTY, BOND, FEE = PROPOSER_SETTINGS
DAY = 86_400
AT = price_tick(120_000)
SELLS, BUYS = bundle_of((0, SELL, AT, 1_000)), bundle_of((0, BUY, AT, 1_000))
NO_OUTCOME = dict.fromkeys(
    (
        *("boughtWh", "soldWh", "injectedGreenWh", "injectedBrownWh", "coveredWh", "shortageWh", "surplusWh"),
        *("guarantee", "receipts", "charges", "surplusPayment", "greenReward", "payout"),
    ),
    0,
)
READINGS = [(0, 500), (0, 500), *[(0, 0)] * 6]


@dataclass
class Batch:
    """Outcomes of a session under one root."""

    outcomes: list[dict]
    tree: MerkleTree

    def proof(self, position: int) -> list[bytes]:
        return list(self.tree.proofs())[position]


@pytest.fixture
def session(settling):
    """Two stakers took part in the draw; the first trader sold to the second."""
    for trader in settling.traders[2:4]:
        settling.proposer.stake(MINIMUM, sender=trader.address)
    settling.evm.now += 10 * DAY
    session = settling.open()
    session.submit(settling.traders[0], SELLS)
    session.submit(settling.traders[1], BUYS)
    return session


def secret_of(trader: Trader) -> bytes:
    return keccak(b"secret of " + trader.name.encode())


def commit(world, session, trader: Trader) -> None:
    commitment = keccak(encode(["uint64", "address", "bytes32"], [session.id, trader.address, secret_of(trader)]))
    world.proposer.commit(session.id, commitment, sender=trader.address)


def reveal(world, session, trader: Trader) -> None:
    world.proposer.reveal(session.id, trader.address, secret_of(trader))


def draw(world, session, *revealing: Trader) -> None:
    """Both stakers commit, some reveal; the auction runs."""
    for trader in world.traders[2:4]:
        commit(world, session, trader)
    session.close_gate()
    for trader in revealing:
        reveal(world, session, trader)
    session.run_auction()


def meter(world, session) -> dict:
    evidence = world.anchor(session, dict.fromkeys(world.traders[:2], READINGS))
    world.evm.now = max(world.evm.now, session.times.readings_due)
    return evidence


def batch_of(world, session, evidence, **lies) -> Batch:
    """True outcomes of both traders, but for what the seller's is said to be."""
    outcomes = []
    for trader, bundle in zip(world.traders[:2], (SELLS, BUYS), strict=True):
        found, injected = world.settlement.outcomeOf(
            session.id, trader.connection, [position(session, bundle)], [evidence[trader]]
        )
        outcomes.append(
            {"connectionId": trader.connection, "bundle": bundle, "outcome": found, "injectedWh": list(injected)}
        )
    outcomes[0]["outcome"] = outcomes[0]["outcome"] | lies
    return Batch(outcomes, MerkleTree([world.proposer.leafOf(session.id, outcome) for outcome in outcomes]))


def propose(world, session, batch: Batch, sender: Trader) -> None:
    world.proposer.propose(session.id, batch.tree.root, 2, keccak(b"data"), sender=sender.address)


def propose_another_bundle(world, session, evidence) -> Batch:
    """Whoever was drawn proposes an outcome of a bundle that does not stand."""
    outcomes = batch_of(world, session, evidence).outcomes
    outcomes[0]["bundle"] = bundle_of((0, SELL, AT, 2_000))
    batch = Batch(outcomes, MerkleTree([world.proposer.leafOf(session.id, outcome) for outcome in outcomes]))
    propose(world, session, batch, proposer_of(world, session))
    return batch


def proposer_of(world, session) -> Trader:
    address = world.proposer.proposerOf(session.id)
    return next(t for t in world.traders if t.address == address)


@pytest.fixture
def proposed(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    batch, proposer = batch_of(settling, session, evidence), proposer_of(settling, session)
    propose(settling, session, batch, proposer)
    return batch, proposer, evidence


# ---------------------------------------------------------------------- stake and draw


def test_stake_averages_the_age_of_what_is_added(settling):
    trader = settling.traders[2]
    settling.proposer.stake(MINIMUM, sender=trader.address)
    settling.evm.now += 10 * DAY
    settling.proposer.stake(3 * MINIMUM, sender=trader.address)
    assert settling.evm.now - settling.proposer.stakeOf(trader.address)["since"] == 10 * DAY // 4


def test_stake_refuses_less_than_the_minimum(settling):
    trader = settling.traders[2]
    with reverts("StakeTooLow", trader.address, MINIMUM - 1, MINIMUM):
        settling.proposer.stake(MINIMUM - 1, sender=trader.address)


def test_stake_refuses_while_paused_and_unstake_does_not(settling):
    trader = settling.traders[2]
    settling.proposer.stake(MINIMUM, sender=trader.address)
    settling.proposer.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        settling.proposer.stake(MINIMUM, sender=trader.address)
    settling.proposer.unstake(MINIMUM, sender=trader.address)


def test_unstake_returns_what_no_session_needs(settling, session):
    trader = settling.traders[2]
    with reverts("StakeTooLow", trader.address, MINIMUM - 1, MINIMUM):
        settling.proposer.unstake(1, sender=trader.address)
    with reverts("StakeTooLow", trader.address, MINIMUM, MINIMUM + 1):
        settling.proposer.unstake(MINIMUM + 1, sender=trader.address)
    before = settling.house.balanceOf(trader.address)
    settling.proposer.unstake(MINIMUM, sender=trader.address)
    assert settling.house.balanceOf(trader.address) - before == MINIMUM


def test_unstake_waits_for_the_session_that_it_takes_part_in(settling, session):
    trader = settling.traders[2]
    commit(settling, session, trader)
    until = session.times.readings_due + 3 * (TURN + CHALLENGE + ANSWER)
    with reverts("StakeBound", trader.address, until, settling.evm.now):
        settling.proposer.unstake(MINIMUM, sender=trader.address)
    settling.evm.now = until
    settling.proposer.unstake(MINIMUM, sender=trader.address)


def test_commit_weighs_stake_by_age_up_to_the_cap(settling, session):
    trader = settling.traders[2]
    commit(settling, session, trader)
    assert settling.evm.event("SecretCommitted")["weight"] == MINIMUM // 1_000 * 10
    settling.evm.now += 100 * DAY
    later = settling.open()
    commit(settling, later, trader)
    assert settling.evm.event("SecretCommitted")["weight"] == MINIMUM // 1_000 * AGE_CAP // DAY


def test_commit_closes_with_the_gate(settling, session):
    gate = session.times.gate_closure
    settling.evm.now = gate
    commit(settling, session, settling.traders[2])
    with reverts("AlreadyCommitted", session.id, settling.traders[2].address):
        commit(settling, session, settling.traders[2])
    settling.evm.now = gate + 1
    with reverts("CommitClosed", session.id, gate, gate + 1):
        commit(settling, session, settling.traders[3])


@pytest.mark.parametrize("commitment", [bytes(32), b"\xff" * 32])
def test_commit_refuses_what_no_secret_leads_to(settling, session, commitment):
    with reverts("CommitmentInvalid", commitment):
        settling.proposer.commit(session.id, commitment, sender=settling.traders[2].address)


def test_commit_needs_a_stake(settling, session):
    outsider = settling.traders[4]
    with reverts("StakeTooLow", outsider.address, 0, MINIMUM):
        commit(settling, session, outsider)


def test_commit_refuses_an_unknown_session_and_while_paused(settling, session):
    trader = settling.traders[2]
    with reverts("SessionUnknown", session.id + 1):
        settling.proposer.commit(session.id + 1, b"\x01" * 32, sender=trader.address)
    settling.proposer.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        commit(settling, session, trader)


def test_commit_takes_64_candidates_and_no_more(settling, session):
    stakers = [Trader(f"staker {number}") for number in range(65)]
    for staker in stakers:
        settling.house.deposit(staker.address, MINIMUM, sender=settling.admin.address)
        settling.proposer.stake(MINIMUM, sender=staker.address)
    for staker in stakers[:64]:
        commit(settling, session, staker)
    with reverts("TooManyCandidates", session.id, 64):
        commit(settling, session, stakers[64])


def test_reveal_opens_after_the_gate_and_closes_with_delivery(settling, session):
    trader, gate, start = settling.traders[2], session.times.gate_closure, session.times.delivery_start
    commit(settling, session, trader)
    for now in (gate, start):
        settling.evm.now = now
        with reverts("RevealNotOpen", session.id, gate, start, now):
            reveal(settling, session, trader)
    settling.evm.now = start - 1
    reveal(settling, session, trader)
    with reverts("SecretMismatch", session.id, trader.address):
        reveal(settling, session, trader)


def test_reveal_refuses_another_secret(settling, session):
    trader = settling.traders[2]
    commit(settling, session, trader)
    session.close_gate()
    with reverts("SecretMismatch", session.id, trader.address):
        settling.proposer.reveal(session.id, trader.address, b"\x01" * 32)


def test_punish_silence_takes_the_penalty_once(settling, session):
    silent, start = settling.traders[3], session.times.delivery_start
    draw(settling, session, settling.traders[2])
    with reverts("RevealNotOpen", session.id, session.times.gate_closure, start, settling.evm.now):
        settling.proposer.punishSilence(session.id, silent.address)
    settling.evm.now = start
    before = settling.house.balanceOf(settling.operator.address)
    settling.proposer.punishSilence(session.id, silent.address)
    assert settling.house.balanceOf(settling.operator.address) - before == PENALTY
    assert settling.proposer.stakeOf(silent.address)["amount"] == MINIMUM - PENALTY
    for staker in (silent, settling.traders[2], settling.outsider):  # punished, revealed, not a candidate
        with reverts("NothingToPunish", session.id, staker.address):
            settling.proposer.punishSilence(session.id, staker.address)


def test_draw_does_not_depend_on_the_order_of_reveals(settling, session):
    drawn = []
    for order in (settling.traders[2:4], settling.traders[3:1:-1]):
        with settling.evm.rolled_back():
            draw(settling, session, *order)
            settling.evm.now = session.times.readings_due
            drawn.append(settling.proposer.proposerOf(session.id))
    assert drawn[0] == drawn[1]


def test_draw_is_in_proportion_to_weight(settling):
    """One staker has three times the weight of the other: of 200 sessions it is drawn first in about 150."""
    light, heavy = settling.traders[2:4]
    settling.proposer.stake(MINIMUM, sender=light.address)
    settling.proposer.stake(3 * MINIMUM, sender=heavy.address)
    settling.evm.now += 10 * DAY
    drawn = Counter()
    for _ in range(200):
        with settling.evm.rolled_back():
            settling.evm.now += 60 * (sum(drawn.values()) + 1)
            session = settling.open()
            for trader in (light, heavy):
                secret = keccak(secret_of(trader) + bytes([sum(drawn.values())]))
                commitment = keccak(encode(["uint64", "address", "bytes32"], [session.id, trader.address, secret]))
                settling.proposer.commit(session.id, commitment, sender=trader.address)
            session.close_gate()
            for trader in (light, heavy):
                secret = keccak(secret_of(trader) + bytes([sum(drawn.values())]))
                settling.proposer.reveal(session.id, trader.address, secret)
            settling.evm.now = session.times.readings_due
            address = settling.proposer.proposerOf(session.id)
        drawn[address] += 1
    assert 130 <= drawn[heavy.address] <= 170
    assert drawn[heavy.address] + drawn[light.address] == 200


def test_who_did_not_reveal_is_never_drawn(settling, session):
    draw(settling, session, settling.traders[2])
    settling.evm.now = session.times.readings_due
    assert settling.proposer.proposerOf(session.id) == settling.traders[2].address
    settling.evm.now += TURN
    assert int(settling.proposer.proposerOf(session.id), 16) == 0


# ---------------------------------------------------------------------- proposals


def test_silence_passes_the_turn_and_in_the_end_to_anyone(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    batch = batch_of(settling, session, evidence)
    settling.evm.now = session.times.readings_due
    first = proposer_of(settling, session)
    settling.evm.now += TURN
    second = proposer_of(settling, session)
    assert {first.address, second.address} == {t.address for t in settling.traders[2:4]}
    with reverts("NotYourTurn", session.id, first.address, second.address):
        propose(settling, session, batch, first)
    settling.evm.now += TURN
    with reverts("StakeTooLow", settling.traders[4].address, 0, MINIMUM):
        propose(settling, session, batch, settling.traders[4])
    settling.proposer.stake(MINIMUM, sender=settling.traders[4].address)
    propose(settling, session, batch, settling.traders[4])


def test_propose_waits_until_readings_are_due(settling, session):
    draw(settling, session, *settling.traders[2:4])
    due = session.times.readings_due
    settling.evm.now = due - 1
    with reverts("ReadingsStillDue", session.id, due, due - 1):
        settling.proposer.propose(session.id, b"\x01" * 32, 1, b"\x02" * 32)


def test_propose_refuses_nothing_and_a_second_batch(settling, session, proposed):
    batch, proposer, _ = proposed
    with reverts("EmptyProposal"):
        settling.proposer.propose(session.id, bytes(32), 1, bytes(32), sender=proposer.address)
    with reverts("EmptyProposal"):
        settling.proposer.propose(session.id, b"\x01" * 32, 0, bytes(32), sender=proposer.address)
    with reverts("AlreadyProposed", session.id, proposer.address):
        propose(settling, session, batch, proposer)


def test_propose_refuses_while_paused_and_settlement_by_meter_goes_on(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence, seller = meter(settling, session), settling.traders[0]
    batch, proposer = batch_of(settling, session, evidence), proposer_of(settling, session)
    settling.proposer.pause(sender=settling.admin.address)
    with reverts("EnforcedPause"):
        propose(settling, session, batch, proposer)
    settling.settlement.settle(session.id, seller.connection, [position(session, SELLS)], [evidence[seller]])


def test_claim_pays_what_settlement_by_meter_would(settling, session, proposed):
    batch, proposer, _ = proposed
    settling.evm.now += CHALLENGE
    seller = settling.traders[0]
    before = settling.house.balanceOf(seller.address), settling.house.balanceOf(proposer.address)
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    payout = batch.outcomes[0]["outcome"]["payout"]
    escrow_back = 0  # nothing to spare in a seller's escrow when it is filled whole
    assert settling.house.balanceOf(seller.address) - before[0] == payout - FEE + escrow_back
    assert settling.house.balanceOf(proposer.address) - before[1] == FEE
    assert settling.certificates.injectedWh(session.id, 0, 0) == 1_000
    with reverts("AlreadySettled", session.id, seller.connection):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    settling.proposer.claim(session.id, batch.outcomes[1], batch.proof(1))
    settling.market.closeSession(session.id)
    assert session.pot == 0


def test_claim_waits_for_the_challenge_window(settling, session, proposed):
    batch, _, _ = proposed
    until = settling.evm.now + CHALLENGE
    settling.evm.now = until - 1
    with reverts("ChallengeWindowOpen", session.id, until, until - 1):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))


def test_window_stands_still_while_the_clearing_house_is_paused(settling, session, proposed):
    """Nobody can lock the bond of a challenge then: neither the window nor the time that the stake is bound runs."""
    batch, proposer, evidence = proposed
    until, stranger = settling.evm.now + CHALLENGE, settling.traders[4]
    bound = settling.proposer.stakeOf(proposer.address)["boundUntil"]
    settling.evm.now = until - 1
    settling.house.pause(sender=settling.admin.address)
    settling.evm.now += 3 * DAY
    with reverts("EnforcedPause"):
        challenge(settling, session, batch, stranger)
    moved = until + 3 * DAY
    with reverts("ChallengeWindowOpen", session.id, moved, moved - 1):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    settling.evm.now = bound + 3 * DAY
    pause = settling.evm.now - until + 1
    assert settling.proposer.clock() == until - 1
    with reverts("StakeBound", proposer.address, bound + pause, settling.evm.now):
        settling.proposer.unstake(MINIMUM, sender=proposer.address)
    settling.house.unpause(sender=settling.admin.address)
    number = challenge(settling, session, batch, stranger)
    settling.evm.now += 1
    with reverts("ChallengeWindowOver", session.id, until + pause, until + pause):
        challenge(settling, session, batch, stranger)
    answer(settling, session, number, batch, evidence, 0)
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    settling.evm.now = bound + pause
    settling.proposer.unstake(MINIMUM, sender=proposer.address)


def test_window_of_a_proposal_made_during_a_pause_begins_when_it_ends(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    batch, proposer = batch_of(settling, session, evidence), proposer_of(settling, session)
    settling.house.pause(sender=settling.admin.address)
    settling.evm.now += 60
    propose(settling, session, batch, proposer)
    settling.evm.now += 5 * CHALLENGE
    settling.house.unpause(sender=settling.admin.address)
    until = settling.evm.now + CHALLENGE
    with reverts("ChallengeWindowOpen", session.id, until, settling.evm.now):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    settling.evm.now = until
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))


def test_claim_works_during_a_pause_that_began_after_the_window(settling, session, proposed):
    batch, _, _ = proposed
    settling.evm.now += CHALLENGE
    settling.house.pause(sender=settling.admin.address)
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    settling.evm.now += DAY
    settling.proposer.claim(session.id, batch.outcomes[1], batch.proof(1))


def test_claim_refuses_what_was_not_proposed(settling, session, proposed):
    batch, _, _ = proposed
    settling.evm.now += CHALLENGE
    richer = batch.outcomes[0] | {"outcome": batch.outcomes[0]["outcome"] | {"payout": 1}}
    with reverts("OutcomeNotProposed", session.id, settling.proposer.leafOf(session.id, richer)):
        settling.proposer.claim(session.id, richer, batch.proof(0))


def test_settlement_by_meter_stays_open_beside_a_batch(settling, session, proposed):
    batch, _, evidence = proposed
    seller = settling.traders[0]
    settling.settlement.settle(session.id, seller.connection, [position(session, SELLS)], [evidence[seller]])
    settling.evm.now += CHALLENGE
    with reverts("AlreadySettled", session.id, seller.connection):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))


# ---------------------------------------------------------------------- challenges


def challenge(world, session, batch, by: Trader, position: int = 0) -> int:
    return world.proposer.challenge(session.id, batch.outcomes[position], batch.proof(position), sender=by.address)


def answer(world, session, number: int, batch, evidence, position_in_batch: int = 0) -> None:
    outcome, trader = batch.outcomes[position_in_batch], world.traders[position_in_batch]
    world.proposer.answer(number, outcome, [position(session, outcome["bundle"])], [evidence[trader]])


@pytest.fixture
def lie(settling, session):
    """A batch that pays the seller one micro-token too much."""
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    true = batch_of(settling, session, evidence)
    batch = batch_of(settling, session, evidence, payout=true.outcomes[0]["outcome"]["payout"] + 1)
    proposer = proposer_of(settling, session)
    propose(settling, session, batch, proposer)
    return batch, proposer, evidence


def test_a_lie_costs_the_proposer_its_stake(settling, session, lie):
    batch, liar, evidence = lie
    challenger = settling.traders[1]
    before = settling.house.balanceOf(challenger.address)
    number = challenge(settling, session, batch, challenger)
    assert settling.house.balanceOf(challenger.address) == before - BOND
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("FraudProven")["stake"] == MINIMUM
    assert settling.house.balanceOf(challenger.address) == before + MINIMUM
    assert settling.proposer.stakeOf(liar.address)["amount"] == 0
    # The next turn begins: the other candidate proposes the truth.
    other = proposer_of(settling, session)
    assert other is not liar
    propose(settling, session, batch_of(settling, session, evidence), other)


def test_a_lying_challenger_loses_its_bond(settling, session, proposed):
    batch, proposer, evidence = proposed
    before = settling.house.balanceOf(proposer.address)
    number = challenge(settling, session, batch, settling.traders[4])
    with reverts("ChallengesOpen", session.id, 1):
        settling.evm.now += CHALLENGE
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    answer(settling, session, number, batch, evidence, 0)
    assert settling.house.balanceOf(proposer.address) - before == BOND
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))
    with reverts("ChallengeUnknown", number):
        settling.proposer.expireChallenge(number)


def test_an_outcome_that_nobody_can_prove_falls(settling, session, proposed):
    batch, proposer, _ = proposed
    number = challenge(settling, session, batch, settling.traders[4])
    due = settling.evm.now + ANSWER
    settling.evm.now = due - 1
    with reverts("AnswerStillDue", number, due, due - 1):
        settling.proposer.expireChallenge(number)
    settling.evm.now = due
    settling.proposer.expireChallenge(number)
    assert settling.proposer.stakeOf(proposer.address)["amount"] == 0
    with reverts("NotProposed", session.id):
        settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))


def test_a_bundle_that_does_not_stand_is_a_lie(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    batch = propose_another_bundle(settling, session, evidence)
    number = challenge(settling, session, batch, settling.traders[4])
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("FraudProven")["challenger"] == settling.traders[4].address


def test_answer_is_about_the_challenged_outcome(settling, session, proposed):
    batch, _, evidence = proposed
    number = challenge(settling, session, batch, settling.traders[4])
    with reverts("AnswerMismatch", number):
        answer(settling, session, number, batch, evidence, 1)


def test_challenges_of_a_batch_that_fell_get_their_bond_back(settling, session, lie):
    batch, _, evidence = lie
    first = challenge(settling, session, batch, settling.traders[1])
    second = challenge(settling, session, batch, settling.traders[4], 1)
    answer(settling, session, first, batch, evidence, 0)
    before = settling.house.balanceOf(settling.traders[4].address)
    settling.proposer.expireChallenge(second)
    assert settling.evm.event("ChallengeVoided")["challengeId"] == second
    assert settling.house.balanceOf(settling.traders[4].address) - before == BOND


def test_challenge_closes_with_its_window(settling, session, proposed):
    batch, _, _ = proposed
    until = settling.evm.now + CHALLENGE
    settling.evm.now = until
    with reverts("ChallengeWindowOver", session.id, until, until):
        challenge(settling, session, batch, settling.traders[4])


def test_challenge_refuses_what_was_not_proposed(settling, session, proposed):
    batch, _, _ = proposed
    other = batch.outcomes[0] | {"injectedWh": [1]}
    with reverts("OutcomeNotProposed", session.id, settling.proposer.leafOf(session.id, other)):
        settling.proposer.challenge(session.id, other, batch.proof(0), sender=settling.traders[4].address)


# ---------------------------------------------------------------------- readings that change


def test_readings_anchored_again_void_a_challenged_proposal_without_a_loser(settling, session, proposed):
    batch, proposer, evidence = proposed
    challenger, house = settling.traders[4], settling.house
    before = house.balanceOf(challenger.address)
    first, second = (challenge(settling, session, batch, challenger, place) for place in (0, 1))
    meter(settling, session)
    settling.evm.now -= 1  # the new version can still be challenged itself: its readings are not usable
    answer(settling, session, first, batch, evidence, 0)
    voided = settling.evm.event("ProposalVoided")
    assert (voided["number"], voided["proposer"]) == (1, proposer.address)
    assert settling.evm.event("ChallengeVoided")["challengeId"] == first
    settling.proposer.expireChallenge(second)
    assert house.balanceOf(challenger.address) == before
    assert settling.proposer.stakeOf(proposer.address)["amount"] == MINIMUM
    # Its turn begins again.
    assert proposer_of(settling, session) is proposer
    settling.evm.now += 1
    propose(settling, session, batch, proposer)
    settling.evm.now += CHALLENGE
    settling.proposer.claim(session.id, batch.outcomes[0], batch.proof(0))


def test_correction_within_the_window_is_no_fraud(settling, session, proposed):
    batch, proposer, _ = proposed
    number = challenge(settling, session, batch, settling.traders[4])
    newer = settling.anchor(session, dict.fromkeys(settling.traders[:2], [(0, 100)] * 8))
    answer(settling, session, number, batch, newer, 0)
    assert settling.evm.event("ProposalVoided")["proposer"] == proposer.address


def test_readings_anchored_again_do_not_save_a_bundle_that_does_not_stand(settling, session):
    draw(settling, session, *settling.traders[2:4])
    evidence = meter(settling, session)
    batch = propose_another_bundle(settling, session, evidence)
    number = challenge(settling, session, batch, settling.traders[4])
    meter(settling, session)
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("FraudProven")["stake"] == MINIMUM


@pytest.mark.parametrize("versions", [1, 2])
def test_versions_from_before_the_proposal_do_not_save_a_lie(settling, session, versions):
    draw(settling, session, *settling.traders[2:4])
    for _ in range(versions):
        evidence = meter(settling, session)
    true = batch_of(settling, session, evidence)
    batch = batch_of(settling, session, evidence, payout=true.outcomes[0]["outcome"]["payout"] + 1)
    propose(settling, session, batch, proposer_of(settling, session))
    number = challenge(settling, session, batch, settling.traders[4])
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("FraudProven")["stake"] == MINIMUM


def test_first_readings_after_a_proposal_do_not_save_it(settling, session):
    """Whoever proposes before there are readings made its outcomes up."""
    draw(settling, session, *settling.traders[2:4])
    with settling.evm.rolled_back():
        batch = batch_of(settling, session, meter(settling, session))
    settling.evm.now = session.times.readings_due
    propose(settling, session, batch, proposer_of(settling, session))
    number = challenge(settling, session, batch, settling.traders[4])
    evidence = settling.anchor(session, dict.fromkeys(settling.traders[:2], [(0, 100)] * 8))
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("FraudProven")["stake"] == MINIMUM


def test_answer_refuses_to_call_outdated_what_another_meter_had_anchored_again(settling, session, proposed):
    batch, _, evidence = proposed
    number = challenge(settling, session, batch, settling.traders[4])
    other = settling.traders[1]
    meter(settling, session)
    arguments = number, batch.outcomes[0], [position(session, SELLS)], [evidence[other]]
    with reverts("MeterOfOtherConnection", evidence[other]["day"]["meterId"], settling.traders[0].connection):
        settling.proposer.answer(*arguments)


def test_days_outside_the_window_do_not_void_a_proposal(settling, session, proposed):
    batch, _, evidence = proposed
    number = challenge(settling, session, batch, settling.traders[4])
    with settling.evm.rolled_back():
        answer(settling, session, number, batch, evidence, 0)
        assert settling.evm.event("ChallengeRejected")
    seller, later = settling.traders[0], session.first_isp + 8
    for _ in range(2):
        settling.metering.anchorDay(
            *(later, 8, keccak(b"root"), 1, keccak(b"data")), sender=settling.meter_operator.address
        )
    outside = {"day": evidence[seller]["day"] | {"firstIsp": later}, "proof": []}
    outcome = batch.outcomes[0]
    settling.proposer.answer(number, outcome, [position(session, SELLS)], [evidence[seller], outside])
    assert settling.evm.event("ChallengeRejected")["challengeId"] == number


def test_propose_refuses_what_could_not_be_answered_in_time(settling, session):
    draw(settling, session)
    evidence = meter(settling, session)
    batch, anybody = batch_of(settling, session, evidence), settling.traders[2]
    until = settling.settlement.readingsUntil(session.id)
    assert until == session.times.delivery_end + 30 * DAY
    settling.evm.now = until - CHALLENGE - ANSWER + 1
    with reverts("ProposalTooLate", session.id, until, until + 1):
        propose(settling, session, batch, anybody)
    settling.evm.now -= 1
    propose(settling, session, batch, anybody)
    settling.evm.now += CHALLENGE - 1
    number = challenge(settling, session, batch, settling.traders[4])
    settling.evm.now = until - 2
    answer(settling, session, number, batch, evidence, 0)
    assert settling.evm.event("ChallengeRejected")["challengeId"] == number


def test_challenge_that_a_pause_put_off_too_long_has_no_loser(settling, session, proposed):
    batch, proposer, evidence = proposed
    challenger, until = settling.traders[4], settling.settlement.readingsUntil(session.id)
    before = settling.house.balanceOf(challenger.address)
    settling.house.pause(sender=settling.admin.address)
    settling.evm.now = until - ANSWER + 1
    settling.house.unpause(sender=settling.admin.address)
    number = challenge(settling, session, batch, challenger)
    settling.evm.now += ANSWER
    with reverts("ReadingsTooLate", session.id, until, until + 1):
        answer(settling, session, number, batch, evidence, 0)
    settling.proposer.expireChallenge(number)
    assert settling.evm.event("ProposalVoided")["proposer"] == proposer.address
    assert settling.proposer.stakeOf(proposer.address)["amount"] == MINIMUM
    assert settling.house.balanceOf(challenger.address) == before


# ---------------------------------------------------------------------- one stake, several proposals


@pytest.fixture
def two_lies(settling):
    """One staker lies in two sessions, with the stake for both."""
    liar = settling.traders[2]
    settling.proposer.stake(2 * MINIMUM + 1, sender=liar.address)
    sessions = [settling.open() for _ in range(2)]
    for session in sessions:
        session.submit(settling.traders[0], SELLS)
        session.submit(settling.traders[1], BUYS)
    for session in sessions:
        session.run_auction()
    settling.evm.now = sessions[0].times.readings_due
    outcomes = [
        {"connectionId": trader.connection, "bundle": bundle, "outcome": NO_OUTCOME, "injectedWh": []}
        for trader, bundle in zip(settling.traders[:2], (SELLS, BUYS), strict=True)
    ]
    batches = []
    for session in sessions:
        batches.append(Batch(outcomes, MerkleTree([settling.proposer.leafOf(session.id, o) for o in outcomes])))
        propose(settling, session, batches[-1], liar)
    return liar, list(zip(sessions, batches, strict=True))


def test_each_open_proposal_needs_the_minimum_of_its_own(settling, two_lies):
    liar, _ = two_lies
    third = settling.open()
    third.run_auction()
    settling.evm.now = third.times.readings_due
    with reverts("StakeTooLow", liar.address, 2 * MINIMUM + 1, 3 * MINIMUM):
        settling.proposer.propose(third.id, keccak(b"root"), 1, keccak(b"data"), sender=liar.address)


def test_every_fraud_of_one_stake_has_its_part_of_it(settling, two_lies):
    liar, lies = two_lies
    challenger = settling.traders[4]
    numbers = [challenge(settling, session, batch, challenger) for session, batch in lies]
    settling.evm.now += ANSWER
    lost = []
    for number in numbers:
        settling.proposer.expireChallenge(number)
        lost.append(settling.evm.event("FraudProven")["stake"])
    assert lost == [MINIMUM, MINIMUM + 1]
    assert settling.proposer.stakeOf(liar.address)["amount"] == 0


def test_stake_stays_until_its_proposals_are_concluded(settling, two_lies):
    liar, ((session, batch), (other, _)) = two_lies
    number = challenge(settling, session, batch, settling.traders[4])
    with reverts("ProposalsOpen", liar.address, 2):
        settling.proposer.unstake(2 * MINIMUM + 1, sender=liar.address)
    until = settling.evm.now + CHALLENGE
    settling.evm.now = until - 1
    with reverts("ChallengeWindowOpen", other.id, until, until - 1):
        settling.proposer.conclude(other.id)
    settling.evm.now = until + ANSWER
    with reverts("ChallengesOpen", session.id, 1):
        settling.proposer.conclude(session.id)
    settling.proposer.conclude(other.id)
    assert settling.evm.event("ProposalConcluded") == {"sessionId": other.id, "number": 1}
    with reverts("AlreadyConcluded", other.id):
        settling.proposer.conclude(other.id)
    # Whoever is slow to end a challenge loses nothing by it.
    with reverts("ProposalsOpen", liar.address, 1):
        settling.proposer.unstake(2 * MINIMUM + 1, sender=liar.address)
    settling.proposer.expireChallenge(number)
    assert settling.evm.event("FraudProven")["stake"] == 2 * MINIMUM + 1


def test_first_claim_concludes_a_proposal(settling, session, proposed):
    batch, proposer, _ = proposed
    settling.evm.now += CHALLENGE
    assert settling.proposer.stakeOf(proposer.address)["openProposals"] == 1
    for place in (0, 1):
        settling.proposer.claim(session.id, batch.outcomes[place], batch.proof(place))
    assert settling.proposer.stakeOf(proposer.address)["openProposals"] == 0
    assert settling.proposer.proposalOf(session.id)["concluded"]
