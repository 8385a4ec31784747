"""``gridpact market schedule``: sessions that their operator registers once and anybody opens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.connection import (
    DEFAULT_RPC,
    ChainIdOption,
    DeploymentOption,
    DevOption,
    KeystoreOption,
    RpcOption,
    choose_signer,
)
from offchain.cli.market_chain import hinted, minutes, open_suite, stamp
from offchain.cli.market_files import delivery_isp, read_session_terms
from offchain.cli.output import JsonOption, columns, result
from offchain.domain.errors import ChainError, DomainError

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.market.schedules import ScheduleRecord

app = typer.Typer(help="Series of equal sessions, registered once and opened by anybody.", no_args_is_help=True)

ScheduleArgument = Annotated[int, typer.Argument(help="Number of the schedule.", min=1)]


@app.command()
def register(
    terms: Annotated[Path, typer.Argument(help="TOML file with the terms of each session.")],
    delivery: Annotated[str, typer.Option(help="Start of the first delivery, ISO 8601 with a zone.")],
    every_isps: Annotated[
        int, typer.Option(help="Quarter hours from one delivery to the next; 96 are 24 hours.", min=1, max=2**16 - 1)
    ],
    sessions: Annotated[int, typer.Option(help="How many.", min=1, max=2**16 - 1)],
    open_lead_seconds: Annotated[
        int, typer.Option(help="Seconds before its gate from which on a session can be opened.", min=0, max=2**32 - 1)
    ],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Register a schedule as its market operator. Each opening locks the budgets of the terms."""
    from offchain.market.operating import register_schedule
    from offchain.market.terms import SessionTimes

    wanted, first_isp = read_session_terms(terms), delivery_isp(delivery)
    gate = SessionTimes.of(wanted, first_isp).gate_closure
    suite = open_suite(rpc, chain_id, deployment)
    if (now := suite.chain.block()["timestamp"]) > gate:
        raise DomainError(
            f"the gate of the first session, delivery {delivery}, closed at {stamp(gate)}",
            hint=f"it is {stamp(now)} on the chain; begin with a later --delivery",
        )
    signer = choose_signer(suite.chain, keystore, dev)
    with hinted():
        schedule_id = register_schedule(suite, signer, wanted, first_isp, every_isps, sessions, open_lead_seconds)
    text = f"schedule {schedule_id}: anybody can open the first of {sessions} sessions from "
    text += f"{stamp(gate - open_lead_seconds)} until {stamp(gate)}"
    result({"schedule": schedule_id}, text, as_json)


@app.command("open")
def open_(
    schedule: ScheduleArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Open every session of a schedule that its time allows, with the operator's budgets. Anyone may."""
    from offchain.market.operating import open_due

    suite = open_suite(rpc, chain_id, deployment)
    record, now = _find(suite, schedule), suite.chain.block()["timestamp"]
    _require_due(record, now)
    opened, refused = open_due(suite, choose_signer(suite.chain, keystore, dev), record, now)
    data = {
        "schedule": schedule,
        "opened": [
            {
                "session": session_id,
                "delivery": stamp(record.times(index).delivery_start),
                "gate_closure": stamp(record.times(index).gate_closure),
            }
            for index, session_id in opened.items()
        ],
        "refused": [
            {"delivery": stamp(record.times(index).delivery_start), "error": error.message}
            for index, error in refused.items()
        ],
    }
    lines = [
        f"session {row['session']}, delivery {row['delivery']}, is open until {row['gate_closure']}"
        for row in data["opened"]
    ]
    lines += [f"not opened: delivery {row['delivery']}" for row in data["refused"]]
    result(data, "\n".join(lines) or f"schedule {schedule}: somebody else has opened what was due", as_json)
    with hinted():
        for error in refused.values():
            raise error


@app.command()
def cancel(
    schedule: ScheduleArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have no further session of a schedule opened, for good, as its operator; open sessions go on."""
    from offchain.market.operating import cancel_schedule

    suite = open_suite(rpc, chain_id, deployment)
    record = _find(suite, schedule)
    _require_in_force(record)
    signer = choose_signer(suite.chain, keystore, dev)
    if signer.address != record.operator:
        raise DomainError(
            f"schedule {schedule} belongs to {record.operator}, not to {signer.address}",
            hint="sign with the operator's key",
        )
    left = len(record.remaining(suite.chain.block()["timestamp"]))
    cancel_schedule(suite, signer, schedule)
    text = f"schedule {schedule} is cancelled: {left} session{'' if left == 1 else 's'} will not be opened"
    result({"schedule": schedule, "not_opened": left}, text, as_json)


@app.command("list")
def list_(
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """All schedules, and when their next session can be opened."""
    suite = open_suite(rpc, chain_id, deployment)
    now = suite.chain.block()["timestamp"]
    rows = [_row(schedule, now) for schedule in _replay(suite).values()]
    result(rows, columns(rows) if rows else "no schedule was registered yet", as_json)


def _replay(suite: "Suite") -> dict[int, "ScheduleRecord"]:
    from offchain.chain.indexer import read_events
    from offchain.market.schedules import replay_schedules

    return replay_schedules(read_events(suite.chain, suite))


def _find(suite: "Suite", schedule_id: int) -> "ScheduleRecord":
    schedules = _replay(suite)
    if schedule_id not in schedules:
        raise DomainError(
            f"there is no schedule {schedule_id}",
            hint=f"{len(schedules)} were registered; `gridpact market schedule list`",
        )
    return schedules[schedule_id]


def _require_in_force(schedule: "ScheduleRecord") -> None:
    if schedule.cancelled:
        raise DomainError(
            f"schedule {schedule.id} was cancelled",
            hint="sessions that are open go on; the operator can register another schedule",
        )


def _require_due(schedule: "ScheduleRecord", now: int) -> None:
    """Refuse to open when there is nothing, or nothing yet: the contract would say the same of each session."""
    _require_in_force(schedule)
    remaining = schedule.remaining(now)
    if not remaining:
        raise DomainError(
            f"schedule {schedule.id} has no session left",
            hint=f"{len(schedule.opened)} of {schedule.session_count} were opened, the gates of the others have closed",
        )
    following = remaining[0]
    # Not wrong input: the same command works later.
    if now < schedule.opens_at(following):
        raise ChainError(
            f"the next session of schedule {schedule.id}, delivery {stamp(schedule.times(following).delivery_start)}, "
            f"can be opened from {stamp(schedule.opens_at(following))}",
            hint=f"it is {stamp(now)} on the chain",
        )


def _row(schedule: "ScheduleRecord", now: int) -> dict[str, Any]:
    terms, remaining = schedule.terms, schedule.remaining(now)
    following = remaining[0] if remaining else None
    return {
        "schedule": schedule.id,
        "state": _state(schedule, now),
        "operator": schedule.operator,
        "periods": terms.period_count,
        "period_minutes": minutes(terms.isps_per_period),
        "every_minutes": minutes(schedule.every_isps),
        "next_delivery": None if following is None else stamp(schedule.times(following).delivery_start),
        "opens_from": None if following is None else stamp(schedule.opens_at(following)),
        "opens_until": None if following is None else stamp(schedule.times(following).gate_closure),
        "opened": len(schedule.opened),
        "remaining": len(remaining),
    }


def _state(schedule: "ScheduleRecord", now: int) -> str:
    """Where a schedule stands, in words."""
    if schedule.cancelled:
        return "cancelled"
    if not schedule.remaining(now):
        return "ended"
    return "can be opened" if schedule.due(now) else "waiting"
