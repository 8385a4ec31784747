"""``gridpact market``: sessions of the energy market, opened, watched and settled."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli import market_batches, market_corrections, market_pool, market_rules, market_schedules
from offchain.cli.connection import (
    DEFAULT_RPC,
    ChainIdOption,
    DeploymentOption,
    DevOption,
    KeystoreOption,
    RpcOption,
    choose_signer,
)
from offchain.cli.market_chain import (
    all_sessions,
    hinted,
    known_session,
    minutes,
    open_suite,
    stamp,
)
from offchain.cli.market_files import delivery_isp, read_session_terms
from offchain.cli.output import JsonOption, columns, note, result

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from offchain.chain.contracts import Suite
    from offchain.market.replay import SessionRecord
    from offchain.store import Store

app = typer.Typer(help="Sessions of the energy market.", no_args_is_help=True)

app.add_typer(market_schedules.app, name="schedule")
app.add_typer(market_rules.app, name="rules")
app.add_typer(market_pool.app, name="pool")

SessionArgument = Annotated[int, typer.Argument(help="Number of the session.", min=1)]


@app.command("open")
def open_(
    terms: Annotated[Path, typer.Argument(help="TOML file with the terms of the session.")],
    delivery: Annotated[str, typer.Option(help="Start of delivery, ISO 8601 with a zone, at a quarter hour.")],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Open a session as its market operator."""
    from offchain.market.operating import open_session
    from offchain.market.terms import SessionTimes

    wanted, first_isp = read_session_terms(terms), delivery_isp(delivery)
    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    with hinted():
        session_id = open_session(suite, signer, wanted, first_isp)
    gate = stamp(SessionTimes.of(wanted, first_isp).gate_closure)
    result({"session": session_id}, f"session {session_id} is open until {gate}", as_json)


@app.command("list")
def list_(
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """All sessions and where they stand."""
    from offchain.market.positions import overlapping

    suite = open_suite(rpc, chain_id, deployment)
    now, sessions = suite.chain.block()["timestamp"], all_sessions(suite)
    rows = [
        {
            "session": session.id,
            "state": _state(session, now),
            "delivery": stamp(session.times.delivery_start),
            "periods": session.terms.period_count,
            "period_minutes": minutes(session.terms.isps_per_period),
            "traders": len(session.standing),
            "matched_wh": sum(r.volume_wh for r in session.results.values()),
            "netted_with": [other.id for other in overlapping(sessions, session)],
        }
        for session in sessions.values()
    ]
    result(rows, columns(rows) if rows else "no session was opened yet", as_json)


@app.command()
def show(
    session: SessionArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prices, volumes and traders of a session, and the sessions of the same hours that it is netted with."""
    suite = open_suite(rpc, chain_id, deployment)
    sessions = all_sessions(suite)
    data = _summary(sessions, known_session(sessions, session), suite.chain.block()["timestamp"])
    lines = [f"{name.replace('_', ' '):<14} {value}" for name, value in data.items() if not isinstance(value, list)]
    lines += [f"netted with    session {other['session']}, {other['state']}" for other in data["netted_with"]]
    lines += [
        f"{row['delivery']:<26} {row['type']:<6} {row['price_utoken_per_kwh'] / 1e6:>9.4f} token/kWh "
        f"{row['volume_wh'] / 1e3:>10.3f} kWh"
        for row in data["matched"]
    ]
    result(data, "\n".join(lines), as_json)


@app.command()
def run(
    session: SessionArgument,
    store: Annotated[str | None, typer.Option(help="Store with metered days, a file or a database URL.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the session is closed.")] = False,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take every step of a session that its time allows: clear, finalise, claim, settle, close, correct. Anyone may.

    A bundle is settled when the auctions of all sessions of its hours have ended: run those too.
    """
    from contextlib import nullcontext

    from offchain.market.operating import advance_session
    from offchain.store import open_store

    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    steps: list[str] = []
    with open_store(store, create=False) if store is not None else nullcontext() as opened:
        while True:
            sessions = all_sessions(suite)
            record = known_session(sessions, session)
            done = advance_session(suite, signer, sessions, session, opened)
            if not done and opened is not None:
                done = _correct(suite, signer, opened, sessions, session)
            steps += done
            if not as_json:
                for step in done:
                    note(step)
            if done:
                continue
            if not watch or record.residual is not None:
                break
            _wait(suite, record)
    now, sessions = suite.chain.block()["timestamp"], all_sessions(suite)
    state, waits_for = _state(sessions[session], now), _waits_for(sessions, sessions[session], now)
    text = f"session {session}: {state}"
    if waits_for:
        text += f"; waits for the end of the auction of session {', '.join(map(str, waits_for))}"
    result({"session": session, "steps": steps, "state": state, "waits_for": waits_for}, text, as_json)


def _correct(
    suite: "Suite", signer: "LocalAccount", store: "Store", sessions: dict[int, "SessionRecord"], session: int
) -> list[str]:
    """Have the differences settled that newer readings make once the session is closed; what was done, in words."""
    from offchain.market.correcting import correct_bundles, find_differences

    receipts = correct_bundles(suite, signer, session, find_differences(suite, store, sessions, session))
    count = len(receipts)
    return [f"corrected {count} bundle{'' if count == 1 else 's'} by newer readings"] if receipts else []


def _wait(suite: "Suite", session: "SessionRecord") -> None:
    """Until the next deadline, or a minute when there is none."""
    import time

    now = suite.chain.block()["timestamp"]
    times = session.times
    ahead = [t for t in (times.gate_closure + 1, times.accept_by + 1, times.delivery_end, times.settle_by) if t > now]
    time.sleep(min(60, ahead[0] - now if ahead else 60))


def _state(session: "SessionRecord", now: int) -> str:
    """Where a session stands, in words."""
    times = session.times
    if session.residual is not None:
        return "closed"
    if session.rates is None:
        if now <= times.gate_closure:
            return "open for orders"
        return "acceptance window" if now <= times.accept_by else "waiting for the final clearing"
    if now < times.delivery_end:
        return "matched"
    left = sum(record.outcome is None for record in session.standing)
    return f"{left} bundles to settle" if left else "settled"


def _waits_for(sessions: dict[int, "SessionRecord"], session: "SessionRecord", now: int) -> list[int]:
    """Sessions whose auction has to end before a session that has delivered can be settled."""
    from offchain.market.positions import overlapping

    if session.rates is None or session.residual is not None or now < session.times.delivery_end:
        return []
    return [other.id for other in overlapping(sessions, session) if other.rates is None]


def _summary(sessions: dict[int, "SessionRecord"], session: "SessionRecord", now: int) -> dict[str, Any]:
    from offchain.domain.isp import SECONDS_PER_ISP
    from offchain.market.clearing import ClearingClass
    from offchain.market.positions import overlapping

    matched = []
    for product, cleared in sorted(session.results.items()):
        if cleared.kind > ClearingClass.NONE:
            kind, period = session.terms.type_and_period(product)
            first = session.first_isp + period * session.terms.isps_per_period
            matched.append(
                {
                    "delivery": stamp(first * SECONDS_PER_ISP),
                    "type": kind.name.lower(),
                    "price_utoken_per_kwh": cleared.price,
                    "volume_wh": cleared.volume_wh,
                }
            )
    return {
        "session": session.id,
        "state": _state(session, now),
        "operator": session.operator,
        "schedule": session.schedule_id or None,
        "gate_closure": stamp(session.times.gate_closure),
        "accept_by": stamp(session.times.accept_by),
        "delivery": stamp(session.times.delivery_start),
        "delivery_end": stamp(session.times.delivery_end),
        "periods": session.terms.period_count,
        "period_minutes": minutes(session.terms.isps_per_period),
        "settle_by": stamp(session.times.settle_by),
        "traders": len(session.standing),
        "settled": sum(record.outcome is not None for record in session.standing),
        "residual_utoken": session.residual,
        "netted_with": [{"session": other.id, "state": _state(other, now)} for other in overlapping(sessions, session)],
        "matched": matched,
    }


for command in (*market_batches.COMMANDS, market_corrections.correct):
    app.command()(command)
