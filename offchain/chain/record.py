"""The deployment file ``deployments/<chainId>.json``: what is deployed where, and how far a deployment came."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eth_utils import keccak

from offchain.chain.errors import DeploymentError, WrongChainError

SCHEMA = 1


@dataclass
class ContractRecord:
    """One deployed contract."""

    address: str
    block: int
    tx: str | None
    """``None`` for a contract that was there before, or whose creation was found again after a crash."""
    deployer: str | None
    arguments: dict[str, Any]
    bytecode_hash: str | None
    """Of the creation code without arguments."""
    code_hash: str
    """Of the code on chain."""

    def require_code(self, name: str, code: bytes) -> None:
        """Refuses a chain that does not have this contract here."""
        if hash_of(code) != self.code_hash:
            what = "another contract" if code else "no contract"
            raise DeploymentError(
                f"there is {what} at {self.address}, expected {name}",
                hint="the chain was reset or the file is of another network; move the file away to deploy anew",
            )


@dataclass
class Attempt:
    """A creation that was about to be sent; tells after a crash where its contract would be."""

    contract: str
    deployer: str
    nonce: int
    address: str
    block: int
    """Latest block before it was sent."""


@dataclass
class DeploymentRecord:
    """Everything the file says; ``steps`` has the transaction of every finished step."""

    path: Path
    chain_id: int
    deployer: str
    parameters: dict[str, Any]
    compiler: dict[str, Any]
    source_hash: str
    commit: str | None
    contracts: dict[str, ContractRecord] = field(default_factory=dict)
    steps: dict[str, str | None] = field(default_factory=dict)
    roles: dict[str, Any] = field(default_factory=dict)
    attempt: Attempt | None = None
    complete: bool = False

    @property
    def addresses(self) -> dict[str, str]:
        return {name: contract.address for name, contract in self.contracts.items()}

    def require_chain(self, chain_id: int, where: str) -> None:
        if chain_id != self.chain_id:
            raise WrongChainError(expected=self.chain_id, actual=chain_id, where=where)

    def write(self) -> None:
        """Replaces the file in one step, so that a crash leaves the old or the new one."""
        content = asdict(self)
        del content["path"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"schema": SCHEMA} | content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    @classmethod
    def read(cls, path: Path) -> "DeploymentRecord":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("schema") != SCHEMA:
                raise ValueError("unknown schema")
            contracts = {name: ContractRecord(**c) for name, c in content.pop("contracts").items()}
            attempt = content.pop("attempt")
            return cls(path=path, contracts=contracts, attempt=attempt and Attempt(**attempt), **content)
        except FileNotFoundError:
            raise DeploymentError(f"no deployment file {path}", hint="run `gridpact deploy` first") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
            raise DeploymentError(f"{path} is not a deployment file: {exc}") from exc


def hash_of(code: bytes) -> str:
    return "0x" + keccak(code).hex()


def same_code(artifact_code: str, code: bytes) -> bool:
    """Whether code on chain comes from an artifact; immutables, zero in the artifact, may be anything."""
    expected = bytes.fromhex(artifact_code[2:])
    return len(expected) == len(code) and all(e in (0, c) for e, c in zip(expected, code, strict=True))
