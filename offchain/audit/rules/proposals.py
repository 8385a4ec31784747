"""Batches of outcomes: who may propose, what stands under the root, challenges, claims and what they pay.

A root is rebuilt from the published data where the store holds them, and from the claims when all were made. Every
claimed outcome is recomputed from orders and meters, whether or not it was ever challenged.
"""

from offchain.audit.model import NOBODY, Challenge, Proposal
from offchain.audit.replay import Replay, at
from offchain.audit.rules.energy_market import (
    applied,
    check_outcome,
    metered_of,
    outcome_by_meters,
    pot_of,
    window_of_session,
)
from offchain.audit.rules.proposer import MAX_TURNS, Settings, drawn, paused_seconds, settings_of, stake_lock
from offchain.chain.events import Event
from offchain.chain.leaves import outcome_leaf
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.market.batches import BATCH_DOCUMENT, OutcomeBatch, ProposedOutcome
from offchain.market.replay import SessionRecord
from offchain.market.settlement import Outcome

SUBJECT = "settlement proposals"


def batch_proposed(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, now, settings = event.args, event.timestamp, settings_of(replay)
    proposals, proposer = replay.model.proposals.setdefault(session.id, []), args["proposer"]
    replay.checks.equal(SUBJECT, "number of a proposal", where, len(proposals) + 1, args["number"])
    standing = any(not proposal.fallen_at for proposal in proposals)
    replay.rule(SUBJECT, "proposed twice", where, not standing, "no proposal that stands", "one")
    replay.rule(SUBJECT, "root of a proposal", where, args["root"] != bytes(32), "a root", "none")
    begins, turn = turn_at(session, proposals, settings, now)
    replay.rule(SUBJECT, "time of a proposal", where, now >= begins, f"from {begins}", now)
    expected = drawn(replay.model.draws[session.id], turn)
    replay.rule(SUBJECT, "whose turn it was", where, expected in (proposer, NOBODY), expected, proposer)
    last_answer, counting = now + settings.challenge_seconds + settings.answer_seconds, _readings_until(replay, session)
    replay.rule(SUBJECT, "last answer", where, last_answer <= counting, f"until {counting}", last_answer)
    stake = replay.model.stakes[proposer]
    stake.open_proposals += 1
    minimum = settings.minimum_stake * stake.open_proposals
    replay.rule(SUBJECT, "stake of a proposer", where, stake.amount >= minimum, f"at least {minimum}", stake.amount)
    until = now - paused_seconds(replay, now) + settings.challenge_seconds
    proposal = Proposal(args["number"], proposer, now, args["root"], args["leafCount"], args["dataHash"], turn, until)
    proposals.append(proposal)
    batch = _batch(replay, proposal, where)
    if batch is not None:
        found = (batch.session_id, batch.root, len(batch))
        replay.checks.equal(
            SUBJECT, "root of a proposal", where, found, (session.id, proposal.root, proposal.leaf_count)
        )


def turn_at(session: SessionRecord, proposals: list[Proposal], settings: Settings, now: int) -> tuple[int, int]:
    """When the turns began, and which one runs; :data:`MAX_TURNS` when it is anybody's."""
    fallen = [proposal for proposal in proposals if proposal.fallen_at]
    begins, first = session.times.readings_due, 0
    if fallen:
        begins, first = fallen[-1].fallen_at, fallen[-1].turn + (0 if fallen[-1].voided else 1)
    return begins, min(MAX_TURNS, first + max(now - begins, 0) // settings.turn_seconds)


def outcome_challenged(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, now, settings = event.args, event.timestamp, settings_of(replay)
    proposal = _standing(replay, session, where)
    number, challenger = args["challengeId"], args["challenger"]
    replay.checks.equal(SUBJECT, "number of a challenge", where, len(replay.model.challenges) + 1, number)
    until = proposal.challenge_until + paused_seconds(replay, now)
    replay.rule(SUBJECT, "time of a challenge", where, now < until, f"before {until}", now)
    replay.pay(challenger, _bond_lock(replay, number), settings.challenge_bond)
    proposal.open_challenges += 1
    answer_by = now + settings.answer_seconds
    replay.model.challenges[number] = Challenge(
        session.id, proposal.number, challenger, args["connectionId"], answer_by
    )


def challenge_rejected(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    challenge, proposal = _challenged(replay, event, where)
    settings = settings_of(replay)
    replay.checks.equal(SUBJECT, "bond of a challenge", where, settings.challenge_bond, event.args["bond"])
    replay.rule(SUBJECT, "challenge of a void batch", where, not proposal.fallen_at, "a standing batch", "a void one")
    wrong = _is_wrong(replay, session, proposal, challenge, event.timestamp, where)
    replay.rule(SUBJECT, "challenged outcome", where, wrong is not True, "the proposed outcome", "another")
    proposal.open_challenges -= 1
    replay.pay(_bond_lock(replay, event.args["challengeId"]), proposal.proposer, settings.challenge_bond)


def fraud_proven(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, now = event.args, event.timestamp
    challenge, proposal = _challenged(replay, event, where)
    replay.checks.equal(SUBJECT, "proposer of a fraud", where, proposal.proposer, args["proposer"])
    replay.checks.equal(SUBJECT, "challenger of a fraud", where, challenge.challenger, args["challenger"])
    replay.rule(SUBJECT, "fraud of a void batch", where, not proposal.fallen_at, "a standing batch", "a void one")
    if now < challenge.answer_by:
        wrong = _is_wrong(replay, session, proposal, challenge, now, where)
        replay.rule(SUBJECT, "fraud of a proposer", where, wrong is not False, "a false outcome", "a true one")
    stake = replay.model.stakes[proposal.proposer]
    lost = stake.amount // max(stake.open_proposals, 1)
    replay.checks.equal(SUBJECT, "stake that was lost", where, lost, args["stake"])
    replay.pay(stake_lock(replay, proposal.proposer), challenge.challenger, lost)
    replay.pay(_bond_lock(replay, args["challengeId"]), challenge.challenger, settings_of(replay).challenge_bond)
    stake.amount -= lost
    _fall(replay, proposal, now)


def proposal_voided(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, now = event.args, event.timestamp
    proposal = _standing(replay, session, where)
    replay.checks.equal(SUBJECT, "number of a proposal", where, proposal.number, args["number"])
    replay.checks.equal(SUBJECT, "proposer of a void proposal", where, proposal.proposer, args["proposer"])
    challenges = [
        challenge
        for challenge in replay.model.challenges.values()
        if challenge.open and (challenge.session_id, challenge.proposal_number) == (session.id, proposal.number)
    ]
    excused = any(
        _anchored_again(replay, session, challenge.connection_id, proposal.proposed_at)
        or _readings_until(replay, session) < challenge.answer_by <= now
        for challenge in challenges
    )
    replay.rule(SUBJECT, "void proposal", where, excused, "newer readings, or an answer due too late", "neither")
    proposal.voided = True
    _fall(replay, proposal, now)


def proposal_concluded(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    now, proposal = event.timestamp, _standing(replay, session, where)
    replay.checks.equal(SUBJECT, "number of a proposal", where, proposal.number, event.args["number"])
    replay.rule(SUBJECT, "proposal concluded twice", where, not proposal.concluded, "one conclusion", "another")
    until = proposal.challenge_until + paused_seconds(replay, now)
    replay.rule(SUBJECT, "time of a conclusion", where, now >= until, f"from {until}", now)
    replay.checks.equal(SUBJECT, "open challenges at a conclusion", where, 0, proposal.open_challenges)
    proposal.concluded = True
    replay.model.stakes[proposal.proposer].open_proposals -= 1


def challenge_voided(replay: Replay, event: Event) -> None:
    _, where = _session(replay, event)
    challenge, proposal = _challenged(replay, event, where)
    replay.rule(SUBJECT, "challenge of a batch", where, bool(proposal.fallen_at), "a void batch", "a standing one")
    bond = settings_of(replay).challenge_bond
    replay.pay(_bond_lock(replay, event.args["challengeId"]), challenge.challenger, bond)


def outcome_claimed(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event)
    args, settings = event.args, settings_of(replay)
    connection_id = args["connectionId"]
    record = replay.find(session.bundles, connection_id, "bundle")
    proposal = _standing(replay, session, where)
    replay.checks.equal(SUBJECT, "trader of a claim", where, record.trader, args["trader"])
    replay.rule(SUBJECT, "settled twice", where, record.outcome is None, "one settlement", "another")
    replay.rule(
        SUBJECT, "claim of a batch", where, proposal.concluded, "a concluded proposal", "one that can still fall"
    )
    found = Outcome(*args["outcome"].values())
    metered = metered_of(replay, session, connection_id, proposal.proposed_at, where)
    payout = check_outcome(replay, session, connection_id, metered, found, where)
    fee = min(settings.claim_fee, payout)
    replay.checks.equal(SUBJECT, "fee of a claim", where, fee, args["fee"])
    pot = pot_of(replay, session.id)
    replay.pay(pot, record.trader, payout - fee)
    replay.pay(pot, proposal.proposer, fee)
    injected = replay.money.injected_found.get((session.id, connection_id)) or [0] * session.terms.product_count
    claimed = outcome_leaf(session.id, connection_id, record.bundle, list(args["outcome"].values()), injected)
    _check_leaf(replay, session, proposal, connection_id, claimed, where)


def _check_leaf(
    replay: Replay, session: SessionRecord, proposal: Proposal, connection_id: bytes, leaf: bytes, where: str
) -> None:
    """A claimed outcome is under the root: by the published data, and by all claims once they are there."""
    proposal.claimed[connection_id] = leaf
    batch = _batch(replay, proposal, where)
    if batch is not None:
        proposed = batch.outcomes.get(connection_id)
        expected = None if proposed is None else proposed.leaf(session.id)
        replay.checks.equal(SUBJECT, "claimed outcome in the batch", where, expected, leaf)
    elif len(proposal.claimed) == proposal.leaf_count:
        root = MerkleTree(list(proposal.claimed.values())).root
        replay.checks.equal(SUBJECT, "root over all claims", where, proposal.root, root)


# -------------------------------------------------------------------------------- inside


def _session(replay: Replay, event: Event) -> tuple[SessionRecord, str]:
    session_id = event.args["sessionId"]
    session = replay.find(replay.model.sessions, session_id, "session")
    connection_id = event.args.get("connectionId")
    thing = f"session {session_id}" + (f", connection 0x{connection_id.hex()}" if connection_id else "")
    return session, at(event, thing)


def _fall(replay: Replay, proposal: Proposal, now: int) -> None:
    replay.model.stakes[proposal.proposer].open_proposals -= 1
    proposal.fallen_at, proposal.open_challenges = now, 0


def _readings_until(replay: Replay, session: SessionRecord) -> int:
    """Until when readings of a session count at least [UTC s]."""
    return session.times.delivery_end + replay.setting("MarketSessions", "recordSeconds")


def _anchored_again(replay: Replay, session: SessionRecord, connection_id: bytes, since: int) -> bool:
    """Whether a day of the window of a bundle was anchored anew since a moment [UTC s]."""
    isps, _ = window_of_session(replay, session, connection_id)
    operators = {meter.operator for meter in replay.model.meters.values() if meter.connection_id == connection_id}
    return any(
        operator in operators
        and first_isp < isps.stop
        and isps.start < first_isp + versions[-1].isp_count
        and len(versions) > 1
        and versions[-1].anchored_at >= since
        for (operator, first_isp), versions in replay.model.batches.items()
    )


def _standing(replay: Replay, session: SessionRecord, where: str) -> Proposal:
    proposal = replay.find(replay.model.proposals, session.id, "proposal of session")[-1]
    replay.rule(SUBJECT, "proposal", where, not proposal.fallen_at, "one that stands", "one that fell")
    return proposal


def _challenged(replay: Replay, event: Event, where: str) -> tuple[Challenge, Proposal]:
    """Challenge that an event closes, and the proposal that it is about."""
    challenge = replay.find(replay.model.challenges, event.args["challengeId"], "challenge")
    replay.rule(SUBJECT, "challenge closed twice", where, challenge.open, "an open challenge", "a closed one")
    replay.checks.equal(SUBJECT, "session of a challenge", where, challenge.session_id, event.args["sessionId"])
    challenge.open = False
    return challenge, replay.model.proposals[challenge.session_id][challenge.proposal_number - 1]


def _bond_lock(replay: Replay, challenge_id: int) -> bytes:
    return replay.lock("SettlementProposer", "challengeLockId", challenge_id)


def _batch(replay: Replay, proposal: Proposal, where: str) -> OutcomeBatch | None:
    """Published data of a proposal; ``None`` when the store does not hold them."""
    content = replay.archive.document(BATCH_DOCUMENT, proposal.data_hash)
    if content is None:
        return None
    try:
        return OutcomeBatch.of(content)
    except DomainError as error:
        replay.checks.fail(SUBJECT, "data of a proposal", where, "a batch of outcomes", error)
        return None


def _is_wrong(
    replay: Replay, session: SessionRecord, proposal: Proposal, challenge: Challenge, as_of: int, where: str
) -> bool | None:
    """Whether the challenged outcome is another than the meters say; ``None`` when the data do not tell."""
    batch = _batch(replay, proposal, where)
    proposed: ProposedOutcome | None = batch and batch.outcomes.get(challenge.connection_id)
    metered = metered_of(replay, session, challenge.connection_id, as_of, where)
    if proposed is None or metered is None or session.rates is None:
        return None
    record = session.bundles.get(challenge.connection_id)
    if record is None or record.bundle != proposed.bundle:
        return True
    found, injected_wh = outcome_by_meters(replay, session, challenge.connection_id, metered)
    return (found, tuple(injected_wh)) != (proposed.outcome, proposed.injected_wh)


HANDLERS = {
    ("SettlementProposer", "BatchProposed"): batch_proposed,
    ("SettlementProposer", "OutcomeChallenged"): outcome_challenged,
    ("SettlementProposer", "ChallengeRejected"): challenge_rejected,
    ("SettlementProposer", "FraudProven"): fraud_proven,
    ("SettlementProposer", "ProposalVoided"): proposal_voided,
    ("SettlementProposer", "ProposalConcluded"): proposal_concluded,
    ("SettlementProposer", "ChallengeVoided"): challenge_voided,
    ("SettlementProposer", "OutcomeClaimed"): applied(outcome_claimed),
}
