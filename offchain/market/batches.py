"""Batches of outcomes: what a settlement proposer publishes under one root, for everybody to check.

The data behind a root are canonical JSON, outcomes by ascending connection id::

    {"outcomes": [{"bundle": "0x..", "connection": "0x..", "injected_wh": [..], "outcome": [..]}, ..],
     "schema": 1, "session": 7}

without blanks, keys in order; ``outcome`` has the fields of ``IMarketSettlement.Outcome`` in their order. The data hash
on chain is the keccak of these bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from typing import Any

from eth_hash.auto import keccak

from offchain.chain.leaves import outcome_leaf
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.market.settlement import Outcome

SCHEMA = 1
BATCH_DOCUMENT = "outcome_batch"
"""Kind of the stored document with the data behind a proposal, under its data hash."""


@dataclass(frozen=True)
class ProposedOutcome:
    """One leaf: outcome of the bundle of a connection, and its delivered energy by product [Wh]."""

    connection_id: bytes
    bundle: bytes
    outcome: Outcome
    injected_wh: tuple[int, ...]

    def leaf(self, session_id: int) -> bytes:
        return outcome_leaf(session_id, self.connection_id, self.bundle, astuple(self.outcome), self.injected_wh)

    def as_argument(self) -> dict[str, Any]:
        """``ISettlementProposer.ProposedOutcome``."""
        return {
            "connectionId": self.connection_id,
            "bundle": self.bundle,
            "outcome": astuple(self.outcome),
            "injectedWh": list(self.injected_wh),
        }


class OutcomeBatch:
    """Outcomes of a session under one root.

    Parameters
    ----------
    session_id : int
    outcomes : sequence of ProposedOutcome
        At least one, each connection once.
    """

    def __init__(self, session_id: int, outcomes: Sequence[ProposedOutcome]):
        if not outcomes:
            raise DomainError(f"session {session_id}: a batch without outcomes", hint="no bundle can be settled yet")
        self.session_id = session_id
        self.outcomes = {proposed.connection_id: proposed for proposed in sorted(outcomes, key=_by_connection)}
        if len(self.outcomes) != len(outcomes):
            raise DomainError(f"session {session_id}: a connection stands twice in a batch")

    def __len__(self) -> int:
        return len(self.outcomes)

    @cached_property
    def tree(self) -> MerkleTree:
        return MerkleTree([proposed.leaf(self.session_id) for proposed in self.outcomes.values()])

    @property
    def root(self) -> bytes:
        return self.tree.root

    def proof(self, connection_id: bytes) -> list[bytes]:
        """Proof that the outcome of a connection is under the root."""
        return self.tree.proof(list(self.outcomes).index(connection_id))

    @cached_property
    def content(self) -> bytes:
        """The data behind the root, in the form of the module's head."""
        rows = [
            {
                "bundle": "0x" + proposed.bundle.hex(),
                "connection": "0x" + proposed.connection_id.hex(),
                "injected_wh": list(proposed.injected_wh),
                "outcome": list(astuple(proposed.outcome)),
            }
            for proposed in self.outcomes.values()
        ]
        document = {"schema": SCHEMA, "session": self.session_id, "outcomes": rows}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @property
    def data_hash(self) -> bytes:
        return keccak(self.content)

    @classmethod
    def of(cls, content: bytes) -> "OutcomeBatch":
        """Inverse of :attr:`content`.

        Raises
        ------
        DomainError
            Not such data, or not in that form.
        """
        try:
            document = json.loads(content)
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']}")
            batch = cls(_count(document["session"]), [_row(row) for row in document["outcomes"]])
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise DomainError(f"no batch of outcomes: {exc}", hint="give the file that `market propose` wrote") from exc
        if batch.content != content:
            raise DomainError("batch of outcomes in another form than the published one", hint="its hash would differ")
        return batch


def _by_connection(proposed: ProposedOutcome) -> bytes:
    return proposed.connection_id


def _row(row: dict[str, Any]) -> ProposedOutcome:
    values = [_count(value) for value in row["outcome"]]
    if len(values) != len(fields(Outcome)):
        raise ValueError(f"outcome with {len(values)} fields")
    connection_id, bundle = (bytes.fromhex(row[name].removeprefix("0x")) for name in ("connection", "bundle"))
    if len(connection_id) != 32:
        raise ValueError(f"connection id of {len(connection_id)} bytes")
    return ProposedOutcome(connection_id, bundle, Outcome(*values), tuple(_count(wh) for wh in row["injected_wh"]))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**256:
        raise ValueError(f"{value!r} is no non-negative whole number")
    return value
