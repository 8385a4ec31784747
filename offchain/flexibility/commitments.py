"""Baselines and prognoses: kept in the store, their root on chain before the gate."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from offchain.chain.contracts import Suite
from offchain.chain.leaves import baseline_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay
from offchain.store import Store
from offchain.store.curves import CommitmentRow, CurveRow, commit_curves, insert_curves
from offchain.store.documents import Document, put_document

RUN_DOCUMENT = "forecast_run"


class CommitmentKind(IntEnum):
    """``ICommitmentRegistry.Kind``."""

    FORECAST = 0
    BASELINE = 1
    D_PROGNOSIS = 2
    OPTIMISATION = 3


@dataclass(frozen=True)
class CommittedCurves:
    """Curves under one commitment: packed values and proofs by subject (a meter, a congestion point)."""

    commitment_id: int
    packed: Mapping[bytes, bytes]
    proofs: Mapping[bytes, list[bytes]]


def commit_packed(
    suite: Suite,
    store: Store,
    committer: LocalAccount,
    *,
    kind: CommitmentKind,
    method: str,
    scope: bytes,
    day: MarketDay,
    curves: Mapping[bytes, bytes],
    made_at: int,
) -> CommittedCurves:
    """Store packed ``int32`` curves and post their root.

    The curves are on disk before the root is on chain, so that whatever is committed can be brought again.

    Parameters
    ----------
    method : str
        ``"name@version"``.
    scope : bytes
        What it is about: a congestion point, 32 bytes.
    curves : mapping
        Packed curve by subject, 32 bytes each.
    made_at : int
        When the values were made [UTC s].
    """
    if not curves:
        raise DomainError(f"no curves to commit as {method} for {day.day}")
    subjects = sorted(curves)
    tree = MerkleTree([baseline_leaf(s, day.first_isp, day.isp_count, values_hash(curves[s])) for s in subjects])
    data_hash = keccak(b"".join(subject + curves[subject] for subject in subjects))
    name = kind.name.lower()
    with store.write() as connection:
        insert_curves(
            connection,
            [
                CurveRow(name, method, subject, day.first_isp, day.isp_count, curves[subject], made_at)
                for subject in subjects
            ],
        )
    method_hash = keccak(method.encode())
    arguments = (
        int(kind),
        scope,
        method_hash,
        day.first_isp,
        day.isp_count,
        tree.root,
        len(subjects),
        made_at,
        data_hash,
    )
    receipt = suite.send(committer, "CommitmentRegistry", "commit", arguments)
    commitment_id = suite.event(receipt, "Committed").args["commitmentId"]
    row = CommitmentRow(
        commitment_id,
        name,
        committer.address,
        scope,
        method_hash,
        day.first_isp,
        day.isp_count,
        tree.root,
        len(subjects),
        made_at,
        data_hash,
        receipt.tx_hash,
    )
    with store.write() as connection:
        commit_curves(connection, row, method, subjects, made_at)
    proofs = dict(zip(subjects, tree.proofs(), strict=True))
    return CommittedCurves(commitment_id, dict(curves), proofs)


def commit_forecast_run(
    suite: Suite,
    store: Store,
    committer: LocalAccount,
    *,
    record: str,
    scope: bytes,
    day: MarketDay,
    curves: Mapping[bytes, bytes],
    made_at: int,
    kind: CommitmentKind = CommitmentKind.FORECAST,
) -> CommittedCurves:
    """Commit the curves of a forecast run together with the record of the run.

    The method of the commitment names the digest of the record, and the record the digests of inputs and outputs:
    anybody with the readings can make the run again (``gridpact forecast verify``) and compare with the chain.

    Parameters
    ----------
    record : str
        Canonical record, see :class:`offchain.forecasting.verification.Run`; kept as document ``forecast_run``.
    kind : CommitmentKind
        D-prognoses are forecasts that an aggregator answers for.
    """
    digest = hashlib.sha256(record.encode()).digest()
    try:
        name = json.loads(record)["method"]
    except (ValueError, KeyError, TypeError) as exc:
        raise DomainError("not the record of a forecast run", hint="give Run.to_json()") from exc
    with store.write() as connection:
        put_document(connection, Document(RUN_DOCUMENT, digest, record.encode(), made_at))
    return commit_packed(
        suite,
        store,
        committer,
        kind=kind,
        method=f"{name}#{digest.hex()[:40]}",
        scope=scope,
        day=day,
        curves=curves,
        made_at=made_at,
    )
