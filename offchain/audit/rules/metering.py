"""Batches of readings, bonds of meter operators, and commitments."""

from offchain.audit.model import Batch, BatchStatus, Commitment, CommitmentKind, Role, day_end
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.domain.units import share_down

SUBJECT = "metering"


def day_anchored(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    operator, first = args["operator"], args["firstIsp"]
    where = at(event, f"{operator}, ISP {first}, version {args['version']}")
    versions = model.batches.setdefault((operator, first), [])
    replay.require_role(SUBJECT, operator, Role.METER_OPERATOR, where)
    replay.checks.equal(SUBJECT, "version of a batch", where, len(versions) + 1, args["version"])
    end = day_end(first, args["ispCount"])
    replay.rule(SUBJECT, "time of anchoring", where, event.timestamp >= end, f"from {end}", event.timestamp)
    bond, required = model.metering_bonds[operator], replay.setting("MeteringLedger", "minimumBond")
    replay.rule(SUBJECT, "bond of a meter operator", where, bond >= required, f"at least {required}", bond)
    versions.append(
        Batch(
            args["version"],
            event.timestamp,
            args["ispCount"],
            args["root"],
            args["leafCount"],
            args["dataHash"],
        )
    )


def intraday_anchored(replay: Replay, event: Event) -> None:
    args = event.args
    where = at(event, f"{args['operator']}, ISP {args['isp']}")
    replay.require_role(SUBJECT, args["operator"], Role.METER_OPERATOR, where)
    end = (args["isp"] + 1) * SECONDS_PER_ISP
    replay.rule(SUBJECT, "time of anchoring", where, event.timestamp >= end, f"from {end}", event.timestamp)
    replay.model.intraday.append((args["operator"], args["isp"], args["root"], args["leafCount"], args["dataHash"]))


def batch_rejected(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    operator, first = args["operator"], args["firstIsp"]
    where = at(event, f"{operator}, ISP {first}, version {args['version']}")
    batch = replay.find(model.batches, (operator, first), "batch")[-1]
    replay.checks.equal(SUBJECT, "version challenged", where, batch.version, args["version"])
    until = batch.anchored_at + replay.setting("MeteringLedger", "challengeWindow")
    replay.rule(
        SUBJECT,
        "challenge of a batch",
        where,
        batch.status is BatchStatus.ANCHORED and event.timestamp < until,
        f"a standing batch, before {until}",
        f"{batch.status.name.lower()} at {event.timestamp}",
    )
    penalty = min(replay.setting("MeteringLedger", "challengePenalty"), model.metering_bonds[operator])
    reward = share_down(penalty, replay.setting("MeteringLedger", "challengerShareBps"))
    replay.checks.equal(SUBJECT, "reward of a challenger", where, reward, args["reward"])
    replay.checks.equal(SUBJECT, "forfeited by a meter operator", where, penalty - reward, args["forfeited"])
    lock_id = replay.lock("MeteringLedger", "bondLockId", operator)
    replay.pay(lock_id, args["challenger"], reward)
    replay.pay(lock_id, replay.setting("MeteringLedger", "forfeitTo"), penalty - reward)
    model.metering_bonds[operator] -= args["reward"] + args["forfeited"]
    batch.status = BatchStatus.REJECTED


def bond_posted(replay: Replay, event: Event) -> None:
    operator, amount = event.args["operator"], event.args["amount"]
    replay.require_role(SUBJECT, operator, Role.METER_OPERATOR, at(event, operator))
    replay.pay(operator, replay.lock("MeteringLedger", "bondLockId", operator), amount)
    replay.model.metering_bonds[operator] += amount


def bond_withdrawn(replay: Replay, event: Event) -> None:
    operator, amount = event.args["operator"], event.args["amount"]
    where = at(event, operator)
    model = replay.model
    window = replay.setting("MeteringLedger", "challengeWindow")
    anchored = [v[-1].anchored_at for (who, _), v in model.batches.items() if who == operator and v]
    free_at = max(anchored, default=-window) + window
    replay.rule(SUBJECT, "bond withdrawn", where, event.timestamp >= free_at, f"from {free_at}", event.timestamp)
    bond = model.metering_bonds[operator]
    replay.rule(SUBJECT, "bond withdrawn", where, amount <= bond, f"at most {bond}", amount)
    replay.pay(replay.lock("MeteringLedger", "bondLockId", operator), operator, amount)
    model.metering_bonds[operator] -= amount


COMMITTERS = {
    Role.DSO,
    Role.TSO,
    Role.AGGREGATOR,
    Role.PROSUMER,
    Role.METER_OPERATOR,
    Role.MARKET_OPERATOR,
}


def committed(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    commitment_id, committer = args["commitmentId"], args["committer"]
    where = at(event, f"commitment {commitment_id}")
    replay.checks.equal(SUBJECT, "number of a commitment", where, len(model.commitments) + 1, commitment_id)
    replay.rule(
        SUBJECT,
        "role of a committer",
        where,
        any(model.has_role(committer, role) for role in COMMITTERS),
        "an active role that commits",
        f"{committer} {sorted(model.roles[committer])}",
    )
    replay.rule(
        SUBJECT,
        "time a commitment was made",
        where,
        args["madeAt"] <= event.timestamp,
        f"at most {event.timestamp}",
        args["madeAt"],
    )
    model.commitments[commitment_id] = Commitment(
        committer,
        CommitmentKind(args["kind"]),
        event.timestamp,
        args["scope"],
        args["method"],
        args["firstIsp"],
        args["ispCount"],
        args["root"],
        args["leafCount"],
        args["madeAt"],
        args["dataHash"],
    )


HANDLERS = {
    ("MeteringLedger", "DayAnchored"): day_anchored,
    ("MeteringLedger", "IntradayAnchored"): intraday_anchored,
    ("MeteringLedger", "BatchRejected"): batch_rejected,
    ("MeteringLedger", "BondPosted"): bond_posted,
    ("MeteringLedger", "BondWithdrawn"): bond_withdrawn,
    ("CommitmentRegistry", "Committed"): committed,
}
