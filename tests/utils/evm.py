"""Any contracts of the suite in an EVM of this process: thousands of calls a second, time as one likes.

A call that reverts leaves nothing behind, by the rules of the EVM itself. Storage stays warm from call to call: gas is
measured on a chain (``tests/gas``), never here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyrevm import EVM, BlockEnv

from offchain.chain.abi import Codec, checksum
from offchain.chain.compile import update_artifacts
from offchain.chain.errors import ContractRevertedError

CHAIN_ID = 1
GAS_LIMIT = 2**40


class LocalEvm:
    """A chain without blocks; :attr:`now` is the time of whatever is called next [s]."""

    def __init__(self, now: int):
        self._artifacts = update_artifacts()
        self.codec = Codec({name: artifact["abi"] for name, artifact in self._artifacts.items()})
        self._evm = EVM(gas_limit=GAS_LIMIT)
        self._names: dict[str, str] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        """Names and arguments of the events of the last call, of all contracts, in their order."""
        self.now = now

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, seconds: int) -> None:
        self._now = seconds
        self._evm.set_block_env(BlockEnv(timestamp=seconds))

    def deploy(self, name: str, *arguments, sender: str) -> "Deployed":
        code = self._artifacts[name]["bytecode"][2:] + self.codec.encode_constructor(name, arguments).hex()
        address = checksum(self._evm.deploy(sender, bytes.fromhex(code)))
        self._names[address] = name
        self._take_events()
        return Deployed(self, name, address)

    def call(self, contract: "Deployed", function: str, arguments: tuple, sender: str) -> Any:
        """Result of a function; state changes stay unless it reverts.

        Raises
        ------
        ContractRevertedError
            With the error's name and its arguments by field.
        """
        data = self.codec.encode_call(contract.name, function, arguments)
        self.events = []
        try:
            output = self._evm.message_call(sender, contract.address, calldata=data)
        except RuntimeError as exc:
            found = re.search(r"output: 0x([0-9a-f]*)", str(exc))
            if found is None:
                raise AssertionError(f"{contract.name}.{function}: {exc}") from exc
            raise self.codec.decode_error(contract.name, function, bytes.fromhex(found[1])) from None
        self._take_events()
        return self.codec.decode_result(contract.name, function, output, len(arguments))

    def _take_events(self) -> None:
        self.events = []
        for log in self._evm.result.logs:
            topics, body = log.data
            address = checksum(log.address)
            decoded = self.codec.decode_log(self._names[address], [bytes(topic) for topic in topics], bytes(body))
            self.events.append(decoded)
            self._record(address, *decoded)

    def _record(self, address: str, name: str, arguments: dict[str, Any]) -> None:
        """Told every event, for whoever keeps them."""

    def event(self, name: str) -> dict[str, Any]:
        """Arguments of the one event of that name in the last call."""
        (found,) = (arguments for event, arguments in self.events if event == name)
        return found

    def storage(self, contract: "Deployed", slot: int) -> int:
        return self._evm.storage(contract.address, slot)

    def store(self, contract: "Deployed", slot: int, value: int) -> None:
        """Writes a slot that no sequence of calls would reach in a test's time."""
        self._evm.insert_account_storage(contract.address, slot, value)

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        """Undoes on leaving what was called inside."""
        checkpoint, now = self._evm.snapshot(), self.now
        try:
            yield
        finally:
            self._evm.revert(checkpoint)
            self.now = now


class Deployed:
    """A contract; its functions are its attributes: ``house.lockOf(lock_id)``, ``house.withdraw(to, 5, sender=a)``."""

    def __init__(self, evm: LocalEvm, name: str, address: str):
        self.evm, self.name, self.address = evm, name, address

    def __getattr__(self, function: str):
        if function.startswith("__"):
            raise AttributeError(function)

        def call(*arguments, sender: str = "0x" + "11" * 20):
            plain = tuple(a.address if isinstance(a, Deployed) else a for a in arguments)
            return self.evm.call(self, function, plain, sender)

        return call


@contextmanager
def reverts(name: str, *arguments) -> Iterator[None]:
    """Expects a custom error with all its arguments."""
    with pytest.raises(ContractRevertedError) as refused:
        yield
    assert (refused.value.name, tuple(refused.value.arguments.values())) == (name, arguments)
