"""``gridpact market stake | unstake | draw | propose | challenge | answer | expire | claim``: sessions by batch."""

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
from offchain.cli.market_chain import (
    all_sessions,
    events_and_sessions,
    known_session,
    open_suite,
)
from offchain.cli.output import JsonOption, note, result
from offchain.cli.store import opened
from offchain.domain.errors import DomainError

if TYPE_CHECKING:
    from offchain.chain.events import Event
    from offchain.market.batches import OutcomeBatch

SessionArgument = Annotated[int, typer.Argument(help="Number of the session.", min=1)]
StoreOption = Annotated[str, typer.Option(help="Store with metered days, a file or a database URL.")]
DataOption = Annotated[Path, typer.Option(help="Data behind the batch, as `gridpact market propose` wrote them.")]


def stake(
    amount: Annotated[int, typer.Argument(help="Micro-tokens, out of the free balance of the clearing house.", min=1)],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add to the stake by which proposers are drawn."""
    from offchain.market.proposing import stake as add

    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    add(suite, signer, amount)
    held = suite.call("SettlementProposer", "stakeOf", (signer.address,))
    result({"stake_utoken": held["amount"]}, f"stake of {signer.address}: {held['amount'] / 1e6:.2f} token", as_json)


def unstake(
    amount: Annotated[int, typer.Argument(help="Micro-tokens, into the free balance of the clearing house.", min=1)],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take stake back that no session needs, after concluding proposals of one's own that can no longer fall."""
    from offchain.market.proposing import unstake as take

    suite = open_suite(rpc, chain_id, deployment)
    signer = choose_signer(suite.chain, keystore, dev)
    events, _ = events_and_sessions(suite)
    concluded = take(suite, signer, amount, events)
    left = suite.call("SettlementProposer", "stakeOf", (signer.address,))["amount"]
    text = f"stake of {signer.address}: {left / 1e6:.2f} token"
    if concluded:
        text += f"; concluded the proposals of session {', '.join(map(str, concluded))}"
    result({"stake_utoken": left, "concluded": concluded}, text, as_json)


def draw(
    session: SessionArgument,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take part in the draw of a session: call it once before the gate closes, and again before delivery starts."""
    from offchain.market.proposing import take_part

    suite = open_suite(rpc, chain_id, deployment)
    events, sessions = events_and_sessions(suite)
    done = take_part(suite, choose_signer(suite.chain, keystore, dev), known_session(sessions, session), events)
    result({"session": session, "done": done}, done or "nothing to do now", as_json)


def propose(
    session: SessionArgument,
    store: StoreOption,
    data: Annotated[Path, typer.Option(help="Where the data of the batch go, for everybody to check.")],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the outcomes of all bundles and publish their root, when it is the signer's turn."""
    from offchain.market import proposing
    from offchain.market.batches import OutcomeBatch

    suite = open_suite(rpc, chain_id, deployment)
    sessions = all_sessions(suite)
    known_session(sessions, session)
    with opened(store) as metered:
        computed = proposing.session_outcomes(suite, metered, sessions, session)
        batch = OutcomeBatch(session, list(computed.outcomes.values()))
        try:
            data.write_bytes(batch.content)
        except OSError as exc:
            raise DomainError(f"{data}: {exc.strerror}") from exc
        proposing.propose(suite, metered, choose_signer(suite.chain, keystore, dev), batch)
    if computed.left:
        note(f"{len(computed.left)} bundles without readings are left out; they settle by themselves")
    told = {"session": session, "outcomes": len(batch), "left": len(computed.left), "root": "0x" + batch.root.hex()}
    result(told | {"data": str(data)}, f"proposed {len(batch)} outcomes of session {session}; data in {data}", as_json)


def challenge(
    session: SessionArgument,
    data: DataOption,
    store: StoreOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compute all outcomes again and challenge the first that differs, with a bond."""
    from offchain.market import proposing

    suite = open_suite(rpc, chain_id, deployment)
    events, sessions = events_and_sessions(suite)
    record = known_session(sessions, session)
    batch = _published(data, events, session)
    with opened(store) as metered:
        computed = proposing.session_outcomes(suite, metered, sessions, session)
    wrong = proposing.differences(batch, record, computed)
    told: dict[str, Any] = {
        "session": session,
        "checked": sum(connection_id in computed.outcomes for connection_id in batch.outcomes),
        "differences": ["0x" + connection_id.hex() for connection_id in wrong],
        "challenge": None,
    }
    if wrong and not dry_run:
        signer = choose_signer(suite.chain, keystore, dev)
        told["challenge"] = proposing.challenge(suite, signer, batch, wrong[0])
    text = f"checked {told['checked']} of {len(batch)} outcomes"
    if wrong:
        text += f"; {len(wrong)} differ, the first of connection {told['differences'][0]}"
        text += f"; challenge {told['challenge']}" if told["challenge"] else ""
    else:
        text += ", none differs"
    result(told, text, as_json)


def answer(
    challenge: Annotated[int, typer.Argument(help="Number of the challenge.", min=1)],
    data: DataOption,
    store: StoreOption,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have the contract recompute a challenged outcome from the metered days. Anyone may."""
    from offchain.market import proposing

    suite = open_suite(rpc, chain_id, deployment)
    events, sessions = events_and_sessions(suite)
    found = [e.args for e in events if e.name == "OutcomeChallenged" and e.args["challengeId"] == challenge]
    if not found:
        raise DomainError(f"there is no challenge {challenge}")
    session_id, connection_id = found[0]["sessionId"], found[0]["connectionId"]
    batch = _published(data, events, session_id)
    with opened(store) as metered:
        window, days = proposing.evidence(suite, metered, sessions, session_id, connection_id)
    signer = choose_signer(suite.chain, keystore, dev)
    done = proposing.answer(suite, signer, challenge, batch, connection_id, window, days)
    result({"challenge": challenge, "result": done}, f"challenge {challenge}: {done}", as_json)


def expire(
    challenge: Annotated[int, typer.Argument(help="Number of the challenge.", min=1)],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a challenge that nobody answered in time, or whose proposal has fallen. Anyone may."""
    from offchain.market import proposing

    suite = open_suite(rpc, chain_id, deployment)
    done = proposing.expire(suite, choose_signer(suite.chain, keystore, dev), challenge)
    result({"challenge": challenge, "result": done}, f"challenge {challenge}: {done}", as_json)


def claim(
    session: SessionArgument,
    data: DataOption,
    connection: Annotated[
        list[str] | None, typer.Option(help="Only this connection, 32 bytes in hex; several.")
    ] = None,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Settle bundles by a batch that stood its challenge window. Anyone may."""
    from offchain.market import proposing

    suite = open_suite(rpc, chain_id, deployment)
    events, sessions = events_and_sessions(suite)
    record = known_session(sessions, session)
    batch = _published(data, events, session)
    wanted = {text.lower().removeprefix("0x") for text in connection or ()}
    if unknown := wanted - {connection_id.hex() for connection_id in batch.outcomes}:
        raise DomainError(f"connection {min(unknown)} is not in the batch of session {session}")
    open_ones = [
        connection_id
        for connection_id in batch.outcomes
        if record.bundles[connection_id].outcome is None and (not wanted or connection_id.hex() in wanted)
    ]
    receipts = proposing.claim(suite, choose_signer(suite.chain, keystore, dev), batch, open_ones)
    paid = [suite.event(receipt, "OutcomeClaimed").args for receipt in receipts]
    rows = [
        {
            "connection": "0x" + args["connectionId"].hex(),
            "payout_utoken": args["outcome"]["payout"] - args["fee"],
            "fee_utoken": args["fee"],
        }
        for args in paid
    ]
    total = sum(row["payout_utoken"] for row in rows)
    text = f"settled {len(rows)} bundles of session {session}, {total / 1e6:.2f} token to traders"
    result({"session": session, "claims": rows}, text, as_json)


COMMANDS = (stake, unstake, draw, propose, challenge, answer, expire, claim)


def _published(path: Path, events: list["Event"], session_id: int) -> "OutcomeBatch":
    """Data of the latest proposal of a session; refused when they are others."""
    from offchain.market.batches import OutcomeBatch
    from offchain.market.proposing import published, require_published

    proposal = published(events, session_id)
    try:
        batch = OutcomeBatch.of(path.read_bytes())
    except OSError as exc:
        raise DomainError(f"{path}: {exc.strerror}") from exc
    require_published(batch, proposal)
    return batch
