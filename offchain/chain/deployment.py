"""Runs a deployment plan through any executor, resumably, and records what it did.

A run that was interrupted goes on where it stopped: what the file has is verified on chain, what a crash may have
left unrecorded is looked up, and nothing is deployed twice.
"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import rlp
from eth_account.signers.local import LocalAccount
from eth_utils import keccak

from offchain.chain.abi import Codec, checksum
from offchain.chain.client import Call, Chain, Receipt
from offchain.chain.contracts import load_artifacts, suite_codec
from offchain.chain.errors import ContractRevertedError, DeploymentError
from offchain.chain.plan import (
    Create,
    Do,
    Existing,
    Of,
    Param,
    Parameters,
    Plan,
    Query,
    Selector,
    Step,
    make_plan,
)
from offchain.chain.record import Attempt, ContractRecord, DeploymentRecord, hash_of, same_code
from offchain.chain.toolchain import ROOT

DEPLOYMENTS = ROOT / "deployments"


class Executor(Protocol):
    """Who sends the transactions of a plan."""

    chain_id: int
    where: str
    """Endpoint or network, for messages."""
    deployer: str

    def nonce(self, *, pending: bool) -> int:
        """Next nonce of the deployer, with or without what waits to be mined."""
        ...

    def block_number(self) -> int: ...

    def code(self, address: str) -> bytes: ...

    def call(self, call: Call) -> bytes: ...

    def send(self, call: Call) -> Receipt:
        """Sends from the deployer and waits. Raises :class:`ContractRevertedError` on a revert."""
        ...


class Web3Executor:
    """Executor on a chain client with a local key."""

    def __init__(self, chain: Chain, signer: LocalAccount):
        self._chain = chain
        self._signer = signer
        self.chain_id = chain.chain_id
        self.where = chain.url
        self.deployer = signer.address
        chain.codec = suite_codec()

    def nonce(self, *, pending: bool) -> int:
        tag = "pending" if pending else "latest"
        return int(self._chain.request("eth_getTransactionCount", self.deployer, tag), 16)

    def block_number(self) -> int:
        return self._chain.block_number()

    def code(self, address: str) -> bytes:
        return self._chain.code(address)

    def call(self, call: Call) -> bytes:
        return self._chain.call(call)

    def send(self, call: Call) -> Receipt:
        return self._chain.send(self._signer, call)


class Deployment:
    """One deployment of the suite.

    Parameters
    ----------
    executor : Executor
    given : dict
        Parameters that are not the default, see :class:`~offchain.chain.plan.Parameters`.
    path : pathlib.Path, optional
        Deployment file; default ``deployments/<chainId>.json``.
    report : callable, optional
        Told every step: number, of how many, title.

    Raises
    ------
    WrongChainError
        The file belongs to another chain.
    DeploymentError
        The file and the chain, the parameters or the compiled contracts do not fit.
    """

    def __init__(
        self,
        executor: Executor,
        given: dict[str, Any] | None = None,
        *,
        path: Path | None = None,
        report: Callable[[int, int, str], None] = lambda number, total, title: None,
    ):
        self._executor = executor
        self._report = report
        self._artifacts = load_artifacts()
        self._codec: Codec = suite_codec()
        path = path or DEPLOYMENTS / f"{executor.chain_id}.json"
        self.parameters = Parameters.of(executor.deployer, given)
        self.record = self._open_record(path, given is not None and bool(given))
        self.plan: Plan = make_plan(self.parameters, self.record.deployer)

    def _open_record(self, path: Path, parameters_given: bool) -> DeploymentRecord:
        if not path.exists():
            artifact = next(iter(self._artifacts.values()))
            return DeploymentRecord(
                path=path,
                chain_id=self._executor.chain_id,
                deployer=self._executor.deployer,
                parameters=self.parameters.model_dump(mode="json"),
                compiler=artifact["compiler"],
                source_hash=artifact["sourceHash"],
                commit=_git_commit(),
            )
        record = DeploymentRecord.read(path)
        record.require_chain(self._executor.chain_id, self._executor.where)
        if record.complete and not parameters_given:
            self.parameters = Parameters.of(record.deployer, record.parameters)
            return record
        if not record.complete and record.deployer != self._executor.deployer:
            raise DeploymentError(
                f"{path} was begun by {record.deployer}, not by {self._executor.deployer}",
                hint="go on with the same key, or move the file away to deploy anew",
            )
        wanted = self.parameters.model_dump(mode="json")
        changed = [name for name, value in wanted.items() if record.parameters.get(name) != value]
        if changed:
            name = changed[0]
            raise DeploymentError(
                f"{path} was begun with {name} = {record.parameters.get(name)}, now it is {wanted[name]}",
                hint="go on with the same parameters, or move the file away to deploy anew",
            )
        return record

    def remaining(self) -> list[Step]:
        """Steps that are not recorded as done."""
        return [step for step in self.plan.steps if not self._recorded(step)]

    def describe(self) -> str:
        """The plan for a person: steps with what is done, and the parameters."""
        marks = {step.title: "done" if self._recorded(step) else "" for step in self.plan.steps}
        lines = [
            f"Deployment to chain {self._executor.chain_id} at {self._executor.where} by {self._executor.deployer}"
        ]
        lines += [f"  {name} = {value}" for name, value in self.parameters.model_dump(mode="json").items()]
        lines += [f"  {number:>2}. {title} {mark}".rstrip() for number, (title, mark) in enumerate(marks.items(), 1)]
        return "\n".join(lines)

    def run(self) -> DeploymentRecord:
        """Does what remains, checks everything, and returns the record."""
        self._verify_code()
        if self.record.complete:
            return self.record
        self._find_lost_creation()
        total = len(self.plan.steps)
        for number, step in enumerate(self.plan.steps, 1):
            if self._recorded(step):
                continue
            self._report(number, total, step.title)
            if isinstance(step, Create):
                self._create(step)
            elif isinstance(step, Existing):
                self._use(step)
            else:
                self.record.steps[step.title] = self._do(step)
            self.record.write()
        self._check()
        self.record.roles = self.plan.roles
        self.record.complete = True
        self.record.write()
        return self.record

    def _recorded(self, step: Step) -> bool:
        return step.title in self.record.steps if isinstance(step, Do) else step.contract in self.record.contracts

    def _verify_code(self) -> None:
        for name, contract in self.record.contracts.items():
            contract.require_code(name, self._executor.code(contract.address))
            current = hash_of(bytes.fromhex(self._artifacts[name]["bytecode"][2:]))
            if not self.record.complete and contract.bytecode_hash not in (None, current):
                raise DeploymentError(
                    f"{name} at {contract.address} was compiled from other sources than the present ones",
                    hint="finish with the sources it was begun with, or move the file away to deploy anew",
                )

    def _find_lost_creation(self, timeout: float = 120) -> None:
        """Adopts a contract whose creation was sent but not recorded, once its transaction is mined."""
        attempt = self.record.attempt
        if attempt is None:
            return
        deadline = time.monotonic() + timeout
        while True:
            code = self._executor.code(attempt.address)
            if code:
                step = next(s for s in self.plan.steps if isinstance(s, Create) and s.contract == attempt.contract)
                self._record_contract(step, attempt.address, attempt.block, None, code)
                break
            if (
                self._executor.nonce(pending=True) <= attempt.nonce
                or self._executor.nonce(pending=False) > attempt.nonce
            ):
                break  # it was never sent, or it was mined and failed
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"the creation of {attempt.contract} still waits to be mined", hint="run again when it is"
                )
            time.sleep(0.5)
        self.record.attempt = None
        self.record.write()

    def _create(self, step: Create) -> None:
        args = self._resolve(step.args)
        bytecode = bytes.fromhex(self._artifacts[step.contract]["bytecode"][2:])
        call = Call(step.contract, "constructor", None, bytecode + self._codec.encode_constructor(step.contract, args))
        nonce = self._executor.nonce(pending=True)
        address = checksum(keccak(rlp.encode([bytes.fromhex(self._executor.deployer[2:]), nonce]))[12:])
        block = self._executor.block_number()
        self.record.attempt = Attempt(step.contract, self._executor.deployer, nonce, address, block)
        self.record.write()
        receipt = self._executor.send(call)
        code = self._executor.code(receipt.contract_address)
        self._record_contract(step, receipt.contract_address, receipt.block_number, receipt.tx_hash, code)
        self.record.attempt = None

    def _record_contract(self, step: Create, address: str, block: int, tx: str | None, code: bytes) -> None:
        artifact = self._artifacts[step.contract]
        if not same_code(artifact["deployedBytecode"], code):
            raise DeploymentError(
                f"the code at {address} is not {step.contract}",
                hint="were the contracts compiled anew in the meantime?",
            )
        names = self._codec.constructor_names(step.contract)
        self.record.contracts[step.contract] = ContractRecord(
            address,
            block,
            tx,
            self._executor.deployer,
            dict(zip(names, map(_as_recorded, self._resolve(step.args)), strict=True)),
            hash_of(bytes.fromhex(artifact["bytecode"][2:])),
            hash_of(code),
        )

    def _use(self, step: Existing) -> None:
        code = self._executor.code(step.address)
        if not code:
            raise DeploymentError(f"there is no contract at {step.address} to use as {step.contract}")
        block = self._executor.block_number()
        self.record.contracts[step.contract] = ContractRecord(step.address, block, None, None, {}, None, hash_of(code))

    def _do(self, step: Do) -> str | None:
        if step.done is not None and self._answer(step.done) == self._resolve_one(step.done.expected):
            return None
        data = self._codec.encode_call(step.contract, step.function, self._resolve(step.args))
        call = Call(step.contract, step.function, self.record.contracts[step.contract].address, data)
        try:
            return self._executor.send(call).tx_hash
        except ContractRevertedError as exc:
            if step.already is not None and exc.name == step.already:
                return None
            raise

    def _answer(self, query: Query) -> Any:
        args = self._resolve(query.args)
        data = self._codec.encode_call(query.contract, query.function, args)
        call = Call(query.contract, query.function, self.record.contracts[query.contract].address, data)
        return self._codec.decode_result(query.contract, query.function, self._executor.call(call), len(args))

    def _check(self) -> None:
        for query in self.plan.checks:
            answer, expected = self._answer(query), self._resolve_one(query.expected)
            if answer != expected:
                shown = ", ".join(map(str, self._resolve(query.args)))
                raise DeploymentError(
                    f"{query.contract}.{query.function}({shown}) is {answer}, expected {expected}",
                    hint=f"the deployment in {self.record.path} is not usable",
                )

    def _resolve(self, args: tuple) -> list[Any]:
        return [self._resolve_one(value) for value in args]

    def _resolve_one(self, value: Any) -> Any:
        if isinstance(value, Of):
            return self.record.contracts[value.contract].address
        if isinstance(value, Param):
            return getattr(self.parameters, value.name)
        if isinstance(value, Selector):
            return self._codec.selector(value.contract, value.function)
        if isinstance(value, tuple):
            return tuple(self._resolve(value))
        return value


def _git_commit() -> str | None:
    """Commit of the sources, marked when files differ from it; ``None`` outside of a repository."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match", ""],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _as_recorded(argument: Any) -> Any:
    """An argument as the deployment file gives it back: structs are lists there."""
    return [_as_recorded(part) for part in argument] if isinstance(argument, tuple) else argument
