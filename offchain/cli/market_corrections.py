"""``gridpact market correct``: settled bundles corrected by newer readings."""

from typing import Annotated

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
from offchain.cli.market_chain import all_sessions, known_session, open_suite
from offchain.cli.output import JsonOption, result
from offchain.cli.store import opened


def correct(
    session: Annotated[int, typer.Argument(help="Number of the session.", min=1)],
    store: Annotated[str, typer.Option(help="Store with metered days, a file or a database URL.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Settle the differences that newer readings make to a closed session, and collect what is owed. Anyone may."""
    from offchain.market import correcting

    suite = open_suite(rpc, chain_id, deployment)
    sessions = all_sessions(suite)
    record = known_session(sessions, session)
    with opened(store) as metered:
        differences = correcting.find_differences(suite, metered, sessions, session)
    paid, collected = [found.amount for found in differences], []
    if not dry_run:
        signer = choose_signer(suite.chain, keystore, dev)
        receipts = correcting.correct_bundles(suite, signer, session, differences)
        paid = [suite.event(receipt, "TraderCorrected").args["difference"] for receipt in receipts]
        again = all_sessions(suite)[session]
        collected = [
            suite.event(receipt, "OwedCollected").args for receipt in correcting.collect_debts(suite, signer, again)
        ]
    rows = [
        {"connection": "0x" + found.record.connection_id.hex(), "difference_utoken": amount}
        for found, amount in zip(differences, paid, strict=True)
    ]
    owed = sum(suite.call_all([("MarketCorrections", "owed", pair) for pair in correcting.parties(record)]))
    told = {
        "session": session,
        "corrections": rows,
        "collected_utoken": sum(args["amount"] for args in collected),
        "owed_utoken": owed,
    }
    if record.residual is None:
        text = f"session {session} is not closed; what is settled is corrected when it is"
    elif not rows:
        text = f"session {session}: nothing to correct"
    else:
        done = "would be corrected" if dry_run else "corrected"
        bundles = "1 bundle" if len(rows) == 1 else f"{len(rows)} bundles"
        text = f"session {session}: {bundles} {done}, {sum(paid) / 1e6:+.6f} token to traders"
    if told["collected_utoken"]:
        text += f"; {told['collected_utoken'] / 1e6:.6f} token of debts collected"
    if owed:
        text += f"; {owed / 1e6:.6f} token still owed"
    result(told, text, as_json)
