"""What can go wrong with a chain, each with the one thing a reader can do about it."""

from typing import Any

from offchain.domain.errors import ChainError


class NodeUnreachableError(ChainError):
    """Nobody answers at the endpoint, or not in time."""

    def __init__(self, url: str, reason: str):
        super().__init__(
            f"no chain node answers at {url}: {reason}",
            hint="start one with `gridpact chain start` or check the address",
        )
        self.url = url


class NodeStartError(ChainError):
    """The local chain could not be started."""


class WrongChainError(ChainError):
    """The endpoint belongs to another chain than expected."""

    def __init__(self, *, expected: int, actual: int, where: str):
        super().__init__(
            f"{where} is chain {actual}, expected chain {expected}",
            hint="use the endpoint and the deployment file of the same chain",
        )
        self.expected = expected
        self.actual = actual


class NoFundsError(ChainError):
    """A signer cannot pay for its transactions [wei]."""

    def __init__(self, address: str, *, balance: int, required: int):
        super().__init__(
            f"{address} has {balance} wei, its transactions may cost {required} wei",
            hint=f"send at least {required - balance} wei to {address}",
        )
        self.address = address
        self.balance = balance
        self.required = required


class NonceGapError(ChainError):
    """A transaction waits for one with a lower nonce that the node does not have."""

    def __init__(self, address: str, *, expected: int, nonce: int):
        super().__init__(
            f"transaction {nonce} of {address} waits, the chain expects nonce {expected}",
            hint="send the missing transaction; let only one program send for a signer",
        )
        self.address = address
        self.expected = expected
        self.nonce = nonce


class ReceiptTimeoutError(ChainError):
    """A transaction was accepted by the node but not mined in time."""

    def __init__(self, tx_hash: str, *, seconds: float, what: str):
        super().__init__(
            f"{what} ({tx_hash}) not mined within {seconds:g} s",
            hint="the chain is slow or the fee too low; wait and look the transaction up",
        )
        self.tx_hash = tx_hash


class TransactionRefusedError(ChainError):
    """The node refused a request for a reason of its own."""

    def __init__(self, what: str, reason: str):
        super().__init__(f"{what} refused by the node: {reason}")
        self.reason = reason


class ContractRevertedError(ChainError):
    """A contract said no, by name and with its numbers."""

    def __init__(self, contract: str, function: str, name: str, args: dict[str, Any], *, data: str = ""):
        shown = ", ".join(f"{key}={_show(value)}" for key, value in args.items())
        super().__init__(f"{contract}.{function} reverted: {name}({shown})")
        self.contract = contract
        self.function = function
        self.name = name
        self.arguments = args
        self.data = data


class ReorgDetectedError(ChainError):
    """The chain replaced blocks while they were being read."""

    def __init__(self, block: int):
        super().__init__(f"block {block} was replaced while it was read", hint="read again")
        self.block = block


class DeploymentError(ChainError):
    """A deployment file or plan does not fit the chain or the contracts."""


def _show(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
