"""Where an audit gets its chain from: a node, or the state file that a pilot left."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offchain.audit.ports import ChainRecord, Query
from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.contracts import Suite
from offchain.chain.indexer import read_events
from offchain.chain.record import DeploymentRecord
from offchain.domain.errors import PermanentError
from offchain.store.database import Store, file_of, open_store

CHAIN_STATE = "chain.state"
DEPLOYMENT = "deployment.json"
STORE = "store.db"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an audit reads.

    Attributes
    ----------
    store : Path or str
        File or database URL.
    deployment : Path
    state : Path, optional
        Anvil state file; the chain is started from a copy of it.
    rpc : str, optional
        Endpoint of a running node; goes before ``state``.
    """

    store: Path | str
    deployment: Path
    state: Path | None = None
    rpc: str | None = None

    @classmethod
    def of_pilot(
        cls,
        folder: Path,
        *,
        rpc: str | None = None,
        deployment: Path | None = None,
        store: Path | str | None = None,
    ) -> "Evidence":
        """Evidence in the folder of a pilot; what is given goes before what is there."""
        return cls(store or folder / STORE, deployment or folder / DEPLOYMENT, folder / CHAIN_STATE, rpc)

    def require_files(self) -> None:
        """Raise :class:`PermanentError` naming the first file that is missing."""
        files = {"deployment file": self.deployment}
        if self.rpc is None:
            files["chain state"] = self.state
        if (store := file_of(self.store)) is not None:
            files["store"] = store
        for what, path in files.items():
            if path is None or not path.is_file():
                raise PermanentError(
                    f"audit: no {what} {path}", hint="run `gridpact pilot` first, or give another path"
                )


@contextmanager
def open_evidence(evidence: Evidence) -> Iterator[tuple[ChainRecord, Store]]:
    """Chain and store of an audit; nothing of the evidence is changed.

    Raises
    ------
    PermanentError
        A file is missing or not what it should be.
    ChainError
        The chain does not answer, or is another one than the deployment's.
    """
    evidence.require_files()
    record = DeploymentRecord.read(evidence.deployment)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(_own_copy(stack, evidence.store), create=False))
        url = evidence.rpc or _start(stack, evidence.state, record.chain_id)
        yield read_chain(Suite.open(Chain(url), record)), store


def read_chain(suite: Suite) -> ChainRecord:
    """Events of a suite up to the latest block, and its getters at that block."""
    latest = suite.chain.block()
    number = latest["number"]

    def get(queries: Sequence[Query]) -> list[Any]:
        return suite.call_all(list(queries), block=number)

    return ChainRecord(
        suite.chain.chain_id,
        suite.addresses,
        read_events(suite.chain, suite, last=number),
        get,
        latest["timestamp"],
    )


def _start(stack: ExitStack, state: Path, chain_id: int) -> str:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridpact-audit-")))
    copy = folder / CHAIN_STATE
    shutil.copyfile(state, copy)
    return stack.enter_context(Anvil(state=copy, chain_id=chain_id, mining="batch")).url


def _own_copy(stack: ExitStack, store: Path | str) -> Path | str:
    """A database file is read from a copy: opening it would leave a journal beside the original."""
    file = file_of(store)
    if file is None:
        return store
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridpact-audit-")))
    for suffix in ("", "-wal"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            shutil.copyfile(part, folder / (STORE + suffix))
    return folder / STORE
