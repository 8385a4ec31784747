"""``gridpact audit``: rebuild and compare."""

from pathlib import Path
from typing import Annotated

import typer

from offchain.cli.connection import DEFAULT_RPC, ChainIdOption, RpcOption, connect
from offchain.cli.output import JsonOption, QuietOption, progress_bars, result


def audit(
    store: Annotated[str, typer.Option(help="Database with the stored readings: a file or a URL.")],
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: Annotated[
        Path | None, typer.Option(help="Deployment file [deployments/<chainId>.json].")
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild every balance, verdict and payment from events and stored readings; exit 1 at a difference."""
    import json

    from offchain.audit import ChainRecord
    from offchain.audit import audit as run_audit
    from offchain.chain.contracts import Suite
    from offchain.chain.deployment import DEPLOYMENTS
    from offchain.chain.indexer import read_events
    from offchain.store import open_store

    chain = connect(rpc, chain_id)
    suite = Suite.open(chain, deployment or DEPLOYMENTS / f"{chain.chain_id}.json")
    block = chain.block()
    record = ChainRecord(
        chain.chain_id,
        suite.addresses,
        read_events(chain, suite, last=block["number"]),
        lambda queries: suite.call_all(queries, block=block["number"]),
        block["timestamp"],
    )
    with progress_bars(quiet) as progress:
        report = run_audit(record, open_store(store, create=False), progress)
    checked = ", ".join(f"{count} {subject}" for subject, count in report.checked.items())
    result(json.loads(report.to_json()), f"checked {checked}", as_json)
    report.raise_first()
