"""What analytics found about prosumers that is no series: load profiles, segments, clusters."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from offchain.domain.errors import DomainError
from offchain.store.database import insert_ignore
from offchain.store.tables import analyses


class Analysis(NamedTuple):
    """A finding about a prosumer or an asset.

    ``kind`` is for example ``load_profile`` or ``segment``, ``belief_time`` when it was found [UTC s], ``source`` what
    found it (method and version, or the identifier of a model). Keys of ``content`` carry their unit in the name.
    """

    subject: str
    kind: str
    belief_time: int
    source: str
    content: dict[str, Any]


_COLUMNS = [analyses.c[name] for name in Analysis._fields]


def put_analyses(connection: Connection, found: Iterable[Analysis]) -> int:
    """Store findings; returns how many are new."""
    try:
        rows = [a._asdict() | {"content": json.dumps(a.content, sort_keys=True, allow_nan=False)} for a in found]
    except ValueError as exc:
        raise DomainError(f"analysis with a value that JSON does not have: {exc}", hint="leave it out") from exc
    return insert_ignore(connection, analyses, rows)


def latest_analyses(
    connection: Connection, kind: str, subjects: Sequence[str] | None = None, *, known_at: int | None = None
) -> dict[str, Analysis]:
    """Latest finding of a kind about each subject, made not later than ``known_at`` [UTC s]; of all without ids."""
    query = select(*_COLUMNS).where(analyses.c.kind == kind)
    if known_at is not None:
        query = query.where(analyses.c.belief_time <= known_at)
    if subjects is not None:
        query = query.where(analyses.c.subject.in_(list(subjects)))
    query = query.order_by(analyses.c.subject, analyses.c.belief_time, analyses.c.source)
    rows = {row.subject: row for row in connection.execute(query)}
    return {name: Analysis(*row)._replace(content=json.loads(row.content)) for name, row in rows.items()}
