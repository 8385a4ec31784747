"""Deploys the suite through Brownie: ``brownie run deploy --network <network>``.

The same plan, file and checks as ``gridpact deploy``; accounts and networks are Brownie's. Set by environment:

- ``GRIDPACT_DEPLOYER``: Brownie account that signs (default: the first one of a development network),
- ``GRIDPACT_PARAMETERS``: TOML file with deployment parameters,
- ``GRIDPACT_DEPLOYMENT``: deployment file (default ``deployments/<chainId>.json``),
- ``GRIDPACT_YES``: send without asking.
"""

import os
from pathlib import Path
from typing import Any

from brownie import accounts, network, web3
from brownie.exceptions import VirtualMachineError
from brownie.network.account import LocalAccount
from web3.exceptions import ContractLogicError

from offchain.chain.client import Call, Receipt
from offchain.chain.contracts import suite_codec
from offchain.chain.deployment import Deployment
from offchain.chain.errors import ContractRevertedError
from offchain.chain.plan import read_parameters
from offchain.domain.errors import DomainError, FlexError


class BrownieExecutor:
    """Executor on Brownie's active network with one of its accounts."""

    def __init__(self, account: LocalAccount):
        self._account = account
        self.chain_id = web3.eth.chain_id
        self.where = f"Brownie network {network.show_active()}"
        self.deployer = account.address

    def nonce(self, *, pending: bool) -> int:
        return web3.eth.get_transaction_count(self.deployer, "pending" if pending else "latest")

    def block_number(self) -> int:
        return web3.eth.block_number

    def code(self, address: str) -> bytes:
        return bytes(web3.eth.get_code(address))

    def call(self, call: Call) -> bytes:
        return bytes(web3.eth.call({"to": call.to, "data": call.data}))

    def send(self, call: Call) -> Receipt:
        self._require_success(call)
        try:
            sent = self._account.transfer(call.to, data="0x" + call.data.hex(), silent=True, **self._fees())
        except VirtualMachineError as exc:
            raise ContractRevertedError(call.contract, call.function, str(exc.revert_type), {}) from exc
        raw = web3.eth.get_transaction_receipt(sent.txid)
        return Receipt(
            call.contract,
            call.function,
            sent.txid,
            sent.block_number,
            sent.gas_used,
            sent.gas_used * raw["effectiveGasPrice"],
            raw["contractAddress"],
            [],
        )

    def _fees(self) -> dict[str, int]:
        """Fees of EIP-1559 where the chain has them; Brownie offers none on a development network."""
        base = web3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:
            return {"gas_price": web3.eth.gas_price}
        priority = web3.eth.max_priority_fee
        return {"max_fee": 4 * base + priority, "priority_fee": priority}

    def _require_success(self, call: Call) -> None:
        """Tries the call first: so that a revert comes with its name, and nothing is spent."""
        message: dict[str, Any] = {"from": self.deployer, "data": call.data}
        if call.to is not None:
            message["to"] = call.to
        try:
            web3.eth.call(message)
        except ContractLogicError as exc:
            data = bytes.fromhex(exc.data[2:]) if isinstance(exc.data, str) else b""
            raise suite_codec().decode_error(call.contract, call.function, data) from exc


def main() -> None:
    try:
        _deploy()
    except FlexError as exc:
        raise SystemExit(f"error: {exc}") from exc


def _deploy() -> None:
    name = os.environ.get("GRIDPACT_DEPLOYER")
    if name is None and len(accounts) == 0:
        raise DomainError("no account to deploy from", hint="set GRIDPACT_DEPLOYER to a Brownie account")
    account = accounts.load(name) if name else accounts[0]
    parameters = os.environ.get("GRIDPACT_PARAMETERS")
    path = os.environ.get("GRIDPACT_DEPLOYMENT")
    deployment = Deployment(
        BrownieExecutor(account),
        read_parameters(Path(parameters)) if parameters else None,
        path=Path(path) if path else None,
        report=lambda number, total, title: print(f"[{number:>2}/{total}] {title}"),
    )
    if deployment.remaining() and not os.environ.get("GRIDPACT_YES"):
        print(deployment.describe())
        if input("Send these transactions? [y/N] ").strip().lower() != "y":
            raise SystemExit(130)
    record = deployment.run()
    for contract, address in record.addresses.items():
        print(f"{contract:20} {address}")
    print(f"chain {record.chain_id}: deployed and checked; {record.path}")
