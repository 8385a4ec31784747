"""The suite on one chain: every contract by its name, from artifacts and the deployment file."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from offchain.chain.abi import Codec
from offchain.chain.client import Call, Chain, Receipt
from offchain.chain.errors import DeploymentError
from offchain.chain.events import Event, decode_event
from offchain.chain.record import DeploymentRecord
from offchain.domain.errors import DomainError

ARTIFACTS = Path(__file__).parent / "artifacts"


@cache
def load_artifacts(folder: Path = ARTIFACTS) -> dict[str, dict[str, Any]]:
    """Artifacts of all contracts by name.

    Raises
    ------
    DeploymentError
        There are none.
    """
    artifacts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if not artifacts:
        raise DeploymentError(f"no compiled contracts in {folder}", hint="run `make setup`")
    return artifacts


@cache
def suite_codec(folder: Path = ARTIFACTS) -> Codec:
    """ABIs of all contracts, those of interfaces and libraries for their errors."""
    return Codec({name: artifact["abi"] for name, artifact in load_artifacts(folder).items()})


class Suite:
    """Contracts of a deployment.

    Parameters
    ----------
    chain : Chain
    addresses : mapping of str to str
        Address by contract name.
    codec : Codec, optional
        Default is all compiled contracts.
    first_block : int
        Block of the oldest contract; events are read from here.
    """

    def __init__(self, chain: Chain, addresses: Mapping[str, str], *, codec: Codec | None = None, first_block: int = 0):
        self.chain = chain
        self.addresses = dict(addresses)
        self.codec = codec or suite_codec()
        self.first_block = first_block
        self.names = {address: name for name, address in self.addresses.items()}
        chain.codec = self.codec
        self._timestamps: dict[str, int] = {}

    @classmethod
    def open(cls, chain: Chain, record: DeploymentRecord | Path) -> "Suite":
        """Suite of a finished deployment.

        Raises
        ------
        DeploymentError
            The deployment is not finished, or a contract is not where the file says.
        WrongChainError
            The file belongs to another chain.
        """
        if isinstance(record, Path):
            record = DeploymentRecord.read(record)
        record.require_chain(chain.chain_id, chain.url)
        if not record.complete:
            raise DeploymentError(f"deployment {record.path} is not finished", hint="run `gridpact deploy` again")
        for name, contract in record.contracts.items():
            contract.require_code(name, chain.code(contract.address))
        first = min(contract.block for contract in record.contracts.values())
        return cls(chain, {name: c.address for name, c in record.contracts.items()}, first_block=first)

    def address(self, contract: str) -> str:
        """Address of a contract."""
        try:
            return self.addresses[contract]
        except KeyError:
            raise DomainError(
                f"{contract} is not part of the deployment", hint=f"there are {', '.join(self.addresses)}"
            ) from None

    def prepare(
        self,
        contract: str,
        function: str,
        args: Sequence[Any] = (),
        *,
        value: int = 0,
        gas: int | None = None,
    ) -> Call:
        """A call, ready for :meth:`Chain.send_all`."""
        data = self.codec.encode_call(contract, function, args)
        return Call(contract, function, self.address(contract), data, value, gas)

    def send(
        self,
        signer: LocalAccount,
        contract: str,
        function: str,
        args: Sequence[Any] = (),
        *,
        value: int = 0,
        gas: int | None = None,
    ) -> Receipt:
        """Sends a transaction and waits for it; see :meth:`Chain.send` for the errors."""
        return self.chain.send(signer, self.prepare(contract, function, args, value=value, gas=gas))

    def call(
        self,
        contract: str,
        function: str,
        args: Sequence[Any] = (),
        *,
        sender: str | None = None,
        block: int | str = "latest",
    ) -> Any:
        """Answer of a getter: one value or a tuple of them; structs are dicts."""
        data = self.chain.call(self.prepare(contract, function, args), sender=sender, block=block)
        return self.codec.decode_result(contract, function, data, len(args))

    def call_all(self, queries: Sequence[tuple[str, str, Sequence[Any]]], *, block: int | str = "latest") -> list[Any]:
        """Answers of many getters, ``(contract, function, args)`` each, in few requests."""
        results = self.chain.call_all([self.prepare(*query) for query in queries], block=block)
        return [
            self.codec.decode_result(contract, function, data, len(args))
            for (contract, function, args), data in zip(queries, results, strict=True)
        ]

    def events(self, receipt: Receipt) -> list[Event]:
        """Events of the suite in a receipt."""
        found = []
        for log in receipt.logs:
            block_hash = log["blockHash"]
            if block_hash not in self._timestamps:
                self._timestamps[block_hash] = self.chain.block(int(log["blockNumber"], 16))["timestamp"]
            event = decode_event(self.codec, self.names, log, self._timestamps[block_hash])
            if event is not None:
                found.append(event)
        return found

    def event(self, receipt: Receipt, name: str) -> Event:
        """The first event of that name in a receipt."""
        for event in self.events(receipt):
            if event.name == name:
                return event
        raise DomainError(f"{receipt.contract}.{receipt.function} made no event {name}")
