"""Outbox: work that must be done exactly once, written in the same transaction as what it is about."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, case, func, select, update

from offchain.store.database import insert_ignore
from offchain.store.tables import outbox


class OutboxItem(NamedTuple):
    """One piece of work; ``subject_id`` is the row it is about (a batch), ``next_attempt`` in UTC seconds."""

    id: int
    key: str
    topic: str
    subject_id: int
    attempts: int
    next_attempt: int
    last_error: str | None
    dead: bool

    def is_due(self, now: int, longest_pause_s: int) -> bool:
        """Whether to try it now [UTC s]; one that is put off for longer than ever was by a clock that was wrong."""
        return not now < self.next_attempt <= now + longest_pause_s


_COLUMNS = [outbox.c[name] for name in OutboxItem._fields]


def enqueue(connection: Connection, key: str, topic: str, subject_id: int, *, now: int) -> bool:
    """Add work under an idempotency key; ``False`` when that key was there already."""
    row = {
        "key": key,
        "topic": topic,
        "subject_id": subject_id,
        "attempts": 0,
        "next_attempt": now,
        "dead": False,
    }
    return insert_ignore(connection, outbox, [row]) == 1


def open_items(connection: Connection, topic: str) -> list[OutboxItem]:
    """Work that is neither done nor dead, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(outbox.c.topic == topic, outbox.c.done_at.is_(None), outbox.c.dead.is_(False))
        .order_by(outbox.c.id)
    )
    return [OutboxItem(*row) for row in connection.execute(query)]


def dead_letters(connection: Connection) -> list[OutboxItem]:
    """Work that was given up, with the reason in ``last_error``."""
    return [OutboxItem(*row) for row in connection.execute(select(*_COLUMNS).where(outbox.c.dead.is_(True)))]


def mark_done(connection: Connection, item_id: int, *, now: int) -> None:
    connection.execute(update(outbox).where(outbox.c.id == item_id).values(done_at=now, last_error=None))


def mark_failed(connection: Connection, item_id: int, error: str, *, next_attempt: int) -> None:
    """Count a failed attempt that will be repeated."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == item_id)
        .values(attempts=outbox.c.attempts + 1, last_error=error, next_attempt=next_attempt)
    )


def mark_dead(connection: Connection, item_id: int, error: str) -> None:
    """Give up: repeating it cannot help before somebody changes something."""
    connection.execute(
        update(outbox).where(outbox.c.id == item_id).values(attempts=outbox.c.attempts + 1, last_error=error, dead=True)
    )


def reopen(connection: Connection, topic: str, subject_ids: Sequence[int], *, now: int) -> None:
    """Take up again what was done and has come undone."""
    done = outbox.c.topic == topic, outbox.c.subject_id.in_(subject_ids), outbox.c.done_at.is_not(None)
    connection.execute(update(outbox).where(*done).values(done_at=None, next_attempt=now))


def revive(connection: Connection, item_id: int, *, now: int) -> None:
    """Take a dead letter up again, after the reason was removed."""
    connection.execute(update(outbox).where(outbox.c.id == item_id).values(dead=False, next_attempt=now))


def outbox_counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Work by topic and state: ``open``, ``dead`` or ``done``."""
    state = case((outbox.c.dead.is_(True), "dead"), (outbox.c.done_at.is_(None), "open"), else_="done")
    query = select(outbox.c.topic, state.label("state"), func.count()).group_by(outbox.c.topic, state)
    return {(topic, name): count for topic, name, count in connection.execute(query)}
