"""``gridpact deploy``: the deployment plan through web3."""

from pathlib import Path
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
    connect,
)
from offchain.cli.output import JsonOption, QuietOption, note, result


def deploy(
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    parameters: Annotated[Path | None, typer.Option(help="TOML file with deployment parameters.")] = None,
    out: DeploymentOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy the contracts, or go on with a deployment that was interrupted."""
    from offchain.chain.deployment import Deployment, Web3Executor
    from offchain.chain.plan import read_parameters

    given = read_parameters(parameters) if parameters else None
    chain = connect(rpc, chain_id)
    executor = Web3Executor(chain, choose_signer(chain, keystore, dev))

    def report(number: int, total: int, title: str) -> None:
        if not quiet:
            note(f"[{number:>2}/{total}] {title}")

    deployment = Deployment(executor, given, path=out, report=report)
    remaining = deployment.remaining()
    if remaining and not yes:
        note(deployment.describe())
        typer.confirm(f"Send {len(remaining)} transactions?", abort=True, err=True)
    record = deployment.run()
    totals = chain.totals()
    data = {
        "file": str(record.path),
        "chain_id": record.chain_id,
        "deployer": record.deployer,
        "transactions": totals.transactions,
        "gas_used": totals.gas_used,
        "contracts": record.addresses,
    }
    lines = [f"{name:20} {address}" for name, address in record.addresses.items()]
    done = f"{totals.transactions} transactions, {totals.gas_used:,} gas" if remaining else "already deployed, verified"
    result(data, "\n".join([*lines, f"chain {record.chain_id}: {done}; {record.path}"]), as_json)
