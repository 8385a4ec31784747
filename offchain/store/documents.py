"""Documents that the chain knows only by hash: agreement terms, orders, availability, grid models."""

from typing import NamedTuple

from sqlalchemy import Connection, select

from offchain.domain.errors import DomainError
from offchain.store.database import insert_ignore
from offchain.store.tables import documents


class Document(NamedTuple):
    """Canonical bytes under the hash that the chain has; ``belief_time`` in UTC seconds."""

    kind: str
    key: bytes
    content: bytes
    belief_time: int


_COLUMNS = [documents.c[name] for name in Document._fields]


def put_document(connection: Connection, document: Document) -> bool:
    """Store a document; ``False`` when it was there. Other bytes under the same key are refused."""
    if insert_ignore(connection, documents, [document._asdict()]) == 1:
        return True
    stored = get_document(connection, document.kind, document.key)
    if stored is None or stored.content != document.content:
        raise DomainError(
            f"{document.kind} {document.key.hex()}: other content is stored under this key",
            hint="the key must be the hash of the content",
        )
    return False


def get_document(connection: Connection, kind: str, key: bytes) -> Document | None:
    query = select(*_COLUMNS).where(documents.c.kind == kind, documents.c.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else Document(*row)


def documents_of(connection: Connection, kind: str) -> list[Document]:
    """All documents of a kind, by the time they became known."""
    query = select(*_COLUMNS).where(documents.c.kind == kind).order_by(documents.c.belief_time, documents.c.key)
    return [Document(*row) for row in connection.execute(query)]
