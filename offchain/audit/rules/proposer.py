"""Settlement proposer: stakes with their age, and the draw of who proposes a session.

Every weight is recomputed from the stake and its age, every secret held against its commitment, and the turn of
whoever proposed against the seed of the revealed secrets.
"""

from collections.abc import Mapping
from typing import NamedTuple

from eth_abi import encode
from eth_hash.auto import keccak

from offchain.audit.model import NOBODY, Candidate, Stake
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event
from offchain.market.replay import SessionRecord

SUBJECT = "settlement proposers"
MAX_TURNS = 3
MAX_CANDIDATES = 64
SECONDS_PER_DAY = 86_400
WEIGHT_UNIT = 1_000
"""uToken that weigh one for each day."""


class Settings(NamedTuple):
    """``SettlementProposer.settings``: seconds and uToken."""

    age_cap_seconds: int
    turn_seconds: int
    challenge_seconds: int
    answer_seconds: int
    minimum_stake: int
    reveal_penalty: int
    challenge_bond: int
    claim_fee: int


def settings_of(replay: Replay) -> Settings:
    return Settings(*replay.setting("SettlementProposer", "settings"))


def paused_seconds(replay: Replay, now: int) -> int:
    """By how much the clock of windows and bound stakes is behind block time: it stands still while nobody can lock."""
    return replay.model.paused_seconds("ClearingHouse", now)


def stake_lock(replay: Replay, staker: str) -> bytes:
    return replay.lock("SettlementProposer", "stakeLockId", staker)


# -------------------------------------------------------------------------------- stakes


def staked(replay: Replay, event: Event) -> None:
    args, now = event.args, event.timestamp
    staker, amount = args["staker"], args["amount"]
    where = at(event, staker)
    stake = replay.model.stakes[staker]
    total = stake.amount + amount
    replay.checks.equal(SUBJECT, "stake after adding to it", where, total, args["total"])
    minimum = settings_of(replay).minimum_stake
    replay.rule(SUBJECT, "smallest stake", where, total >= minimum, f"at least {minimum}", total)
    # What is added has no age: the average of all counts.
    age = (now - stake.since) * stake.amount // total if stake.amount else 0
    stake.amount, stake.since = args["total"], now - age
    replay.pay(staker, stake_lock(replay, staker), amount)


def unstaked(replay: Replay, event: Event) -> None:
    args, now = event.args, event.timestamp
    staker, amount = args["staker"], args["amount"]
    where = at(event, staker)
    stake = replay.model.stakes[staker]
    left = stake.amount - amount
    replay.checks.equal(SUBJECT, "stake after taking from it", where, left, args["left"])
    minimum = settings_of(replay).minimum_stake
    replay.rule(SUBJECT, "smallest stake", where, left == 0 or left >= minimum, f"0 or at least {minimum}", left)
    bound = stake.bound_until + paused_seconds(replay, now)
    replay.rule(SUBJECT, "time of unstaking", where, now >= bound, f"from {bound}", now)
    replay.checks.equal(SUBJECT, "proposals that still need a stake", where, 0, stake.open_proposals)
    stake.amount = args["left"]
    replay.pay(stake_lock(replay, staker), staker, amount)


# -------------------------------------------------------------------------------- draw


def secret_committed(replay: Replay, event: Event) -> None:
    session, stake, where = _session(replay, event), *_stake(replay, event)
    args, now, settings = event.args, event.timestamp, settings_of(replay)
    gate = session.times.gate_closure
    replay.rule(SUBJECT, "time of a commitment", where, now <= gate, f"until {gate}", now)
    held = stake.amount >= settings.minimum_stake
    replay.rule(SUBJECT, "smallest stake", where, held, f"at least {settings.minimum_stake}", stake.amount)
    candidates = replay.model.draws[session.id]
    replay.rule(SUBJECT, "committed twice", where, args["staker"] not in candidates, "one commitment", "another")
    count = len(candidates)
    replay.rule(SUBJECT, "candidates of a draw", where, count < MAX_CANDIDATES, f"at most {MAX_CANDIDATES}", count + 1)
    age = min(now - stake.since, settings.age_cap_seconds)
    weight = stake.amount // WEIGHT_UNIT * age // SECONDS_PER_DAY
    replay.checks.equal(SUBJECT, "weight in a draw", where, weight, args["weight"])
    candidates[args["staker"]] = Candidate(args["weight"], args["commitment"])
    turn = settings.turn_seconds + settings.challenge_seconds + settings.answer_seconds
    bound = session.times.readings_due + MAX_TURNS * turn - paused_seconds(replay, now)
    stake.bound_until = max(stake.bound_until, bound)


def secret_revealed(replay: Replay, event: Event) -> None:
    session, where = _session(replay, event), at(event, f"session {event.args['sessionId']}")
    staker, secret, now = event.args["staker"], event.args["secret"], event.timestamp
    candidate = replay.find(replay.model.draws[session.id], staker, "candidate")
    gate, start = session.times.gate_closure, session.times.delivery_start
    replay.rule(SUBJECT, "time of a secret", where, gate < now < start, f"between {gate} and {start}", now)
    _require_unanswered(replay, candidate, where)
    committed = keccak(encode(["uint64", "address", "bytes32"], [session.id, staker, secret]))
    replay.checks.equal(SUBJECT, f"secret of {staker}", where, candidate.commitment, committed)
    candidate.secret = secret


def silence_punished(replay: Replay, event: Event) -> None:
    session, stake, where = _session(replay, event), *_stake(replay, event)
    staker, now = event.args["staker"], event.timestamp
    candidate = replay.find(replay.model.draws[session.id], staker, "candidate")
    start = session.times.delivery_start
    replay.rule(SUBJECT, "time of a penalty", where, now >= start, f"from {start}", now)
    _require_unanswered(replay, candidate, where)
    penalty = min(settings_of(replay).reveal_penalty, stake.amount)
    replay.checks.equal(SUBJECT, "penalty of silence", where, penalty, event.args["penalty"])
    candidate.punished = True
    stake.amount -= event.args["penalty"]
    replay.pay(stake_lock(replay, staker), session.operator, penalty)


def drawn(candidates: Mapping[str, Candidate], turn: int) -> str:
    """Whose turn it is; :data:`NOBODY` when it is anybody's.

    Each turn draws from those that revealed and had none yet, in proportion to their weights.
    """
    seed = 0
    left = [[staker, candidate.weight] for staker, candidate in candidates.items() if candidate.secret is not None]
    for staker, candidate in candidates.items():
        if candidate.secret is not None:
            seed ^= int.from_bytes(keccak(encode(["address", "bytes32"], [staker, candidate.secret])))
    for number in range(min(turn + 1, MAX_TURNS)):
        total = sum(weight for _, weight in left)
        if turn == MAX_TURNS or not total:
            return NOBODY
        point = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed.to_bytes(32), number]))) % total
        for entry in left:
            if point < entry[1]:
                break
            point -= entry[1]
        if number == turn:
            return entry[0]
        entry[1] = 0
    return NOBODY


def _session(replay: Replay, event: Event) -> SessionRecord:
    return replay.find(replay.model.sessions, event.args["sessionId"], "session")


def _stake(replay: Replay, event: Event) -> tuple[Stake, str]:
    staker = event.args["staker"]
    return replay.model.stakes[staker], at(event, f"session {event.args['sessionId']}, {staker}")


def _require_unanswered(replay: Replay, candidate: Candidate, where: str) -> None:
    answered = candidate.secret is not None or candidate.punished
    replay.rule(SUBJECT, "commitment answered twice", where, not answered, "an open commitment", "an answered one")


HANDLERS = {
    ("SettlementProposer", "Staked"): staked,
    ("SettlementProposer", "Unstaked"): unstaked,
    ("SettlementProposer", "SecretCommitted"): secret_committed,
    ("SettlementProposer", "SecretRevealed"): secret_revealed,
    ("SettlementProposer", "SilencePunished"): silence_punished,
}
