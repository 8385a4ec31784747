"""``gridpact chain``: a local chain, and how a chain is doing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from offchain.cli.connection import DEFAULT_RPC, ChainIdOption, DeploymentOption, RpcOption, connect
from offchain.cli.output import JsonOption, note, result

app = typer.Typer(help="Local chain and state of a chain.", no_args_is_help=True)


@app.command()
def start(
    port: Annotated[int, typer.Option(help="Port; the next free one is taken when it is not. 0: any.")] = 8545,
    state: Annotated[Path | None, typer.Option(help="File to go on from and to save to.")] = None,
    chain_id: Annotated[int, typer.Option(help="Chain id.")] = 31337,
    accounts: Annotated[int, typer.Option(help="Number of funded accounts.", min=1)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Run a local chain until Ctrl-C."""
    import time

    from offchain.chain.anvil import MNEMONIC, Anvil
    from offchain.chain.errors import NodeStartError
    from offchain.chain.signers import mnemonic_signers

    with Anvil(port=port, port_search=100 if port else 0, chain_id=chain_id, accounts=accounts, state=state) as node:
        signers = mnemonic_signers(MNEMONIC, accounts)
        data = {
            "url": node.url,
            "chain_id": chain_id,
            "accounts": [{"address": s.address, "private_key": "0x" + bytes(s.key).hex()} for s in signers],
        }
        lines = [f"{account['address']}  {account['private_key']}" for account in data["accounts"]]
        lines += ["These keys are public: for local use only.", f"chain {chain_id} at {node.url}"]
        result(data, "\n".join(lines), as_json)
        if not as_json:
            note("Ctrl-C stops it.")
        while node.running:
            time.sleep(0.5)
        raise NodeStartError("the local chain has stopped by itself")


@app.command()
def status(
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say where a chain stands, and whether the contracts of its deployment file are there."""
    from offchain.chain.contracts import Suite
    from offchain.chain.deployment import DEPLOYMENTS

    chain = connect(rpc, chain_id)
    block = chain.block()
    path = deployment or DEPLOYMENTS / f"{chain.chain_id}.json"
    data = {
        "url": rpc,
        "chain_id": chain.chain_id,
        "client": chain.request("web3_clientVersion"),
        "block": block["number"],
        "timestamp": block["timestamp"],
        "base_fee_wei": block["base_fee"],
        "deployment": None,
    }
    deployed = f"no deployment file {path}"
    if deployment is not None or path.exists():
        suite = Suite.open(chain, path)
        data["deployment"] = {"file": str(path), "contracts": suite.addresses}
        deployed = f"{len(suite.addresses)} contracts of {path} verified"
    when = datetime.fromtimestamp(block["timestamp"], UTC).isoformat()
    text = f"chain {chain.chain_id} at {rpc}, {data['client']}\nblock {block['number']} of {when}\n{deployed}"
    result(data, text, as_json)
