"""Baselines, forecasts and prognoses as packed curves, with the commitment that fixed them."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select, update

from offchain.domain.errors import DomainError
from offchain.store.database import insert_ignore
from offchain.store.tables import commitments, curves


class CurveRow(NamedTuple):
    """One packed curve of a subject: a meter, a pool or a congestion point.

    ``belief_time`` is when it was made [UTC seconds]; ``commitment_id`` and ``leaf_position`` are ``None``
    until it is committed.
    """

    kind: str
    method: str
    subject_id: bytes
    first_isp: int
    isp_count: int
    values: bytes
    belief_time: int
    commitment_id: int | None = None
    leaf_position: int | None = None


class CommitmentRow(NamedTuple):
    """A commitment as the chain recorded it (``ICommitmentRegistry``)."""

    commitment_id: int
    kind: str
    committer: str
    scope: bytes
    method: bytes
    first_isp: int
    isp_count: int
    root: bytes
    leaf_count: int
    made_at: int
    data_hash: bytes
    tx: str | None


_CURVE_COLUMNS = [curves.c[name] for name in CurveRow._fields]
_COMMITMENT_COLUMNS = [commitments.c[name] for name in CommitmentRow._fields]


def insert_curves(connection: Connection, rows: Sequence[CurveRow]) -> int:
    """Store curves; returns how many are new."""
    return insert_ignore(connection, curves, [row._asdict() for row in rows])


def latest_curve(
    connection: Connection,
    kind: str,
    method: str,
    subject_id: bytes,
    first_isp: int,
    *,
    known_at: int | None = None,
) -> CurveRow | None:
    """Latest curve made not later than ``known_at`` (UTC seconds; any time when ``None``)."""
    query = select(*_CURVE_COLUMNS).where(
        curves.c.kind == kind,
        curves.c.method == method,
        curves.c.subject_id == subject_id,
        curves.c.first_isp == first_isp,
    )
    if known_at is not None:
        query = query.where(curves.c.belief_time <= known_at)
    row = connection.execute(query.order_by(curves.c.belief_time.desc()).limit(1)).one_or_none()
    return None if row is None else CurveRow(*row)


def curves_of_subject(connection: Connection, kind: str, subject_id: bytes, first_isp: int) -> list[CurveRow]:
    """All curves of a kind that were made of a subject and market day, latest first."""
    query = (
        select(*_CURVE_COLUMNS)
        .where(curves.c.kind == kind, curves.c.subject_id == subject_id, curves.c.first_isp == first_isp)
        .order_by(curves.c.belief_time.desc())
    )
    return [CurveRow(*row) for row in connection.execute(query)]


def curves_covering(connection: Connection, kind: str, subject_id: bytes, isp: int) -> list[CurveRow]:
    """All curves of a kind that were made of a subject and hold an ISP, latest first."""
    query = (
        select(*_CURVE_COLUMNS)
        .where(
            curves.c.kind == kind,
            curves.c.subject_id == subject_id,
            curves.c.first_isp <= isp,
            curves.c.first_isp + curves.c.isp_count > isp,
        )
        .order_by(curves.c.belief_time.desc())
    )
    return [CurveRow(*row) for row in connection.execute(query)]


def commit_curves(
    connection: Connection,
    commitment: CommitmentRow,
    method: str,
    subject_ids: Sequence[bytes],
    belief_time: int,
) -> None:
    """Store a commitment and tie its curves to it.

    ``subject_ids`` are in the order of the leaves; the curves are those of the commitment's kind and first
    ISP that ``method`` made at ``belief_time``. All of them must be stored already.
    """
    insert_ignore(connection, commitments, [commitment._asdict()])
    for position, subject_id in enumerate(subject_ids):
        tied = connection.execute(
            update(curves)
            .where(
                curves.c.kind == commitment.kind,
                curves.c.method == method,
                curves.c.subject_id == subject_id,
                curves.c.first_isp == commitment.first_isp,
                curves.c.belief_time == belief_time,
            )
            .values(commitment_id=commitment.commitment_id, leaf_position=position)
        )
        if tied.rowcount != 1:
            raise DomainError(
                f"commitment {commitment.commitment_id}: no {method} {commitment.kind} of {subject_id.hex()}"
                f" made at {belief_time}",
                hint="store the curves before the commitment",
            )


def get_commitment(connection: Connection, commitment_id: int) -> CommitmentRow | None:
    query = select(*_COMMITMENT_COLUMNS).where(commitments.c.commitment_id == commitment_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else CommitmentRow(*row)


def curves_of_commitment(connection: Connection, commitment_id: int) -> list[CurveRow]:
    """Curves under a commitment, in the order of its leaves."""
    query = select(*_CURVE_COLUMNS).where(curves.c.commitment_id == commitment_id).order_by(curves.c.leaf_position)
    return [CurveRow(*row) for row in connection.execute(query)]
