"""From the outbox to the chain: every batch is anchored once, whatever stops in between."""

import logging
import random
from dataclasses import dataclass
from typing import Protocol

from offchain.domain.errors import FlexError, TransientError
from offchain.store import Store
from offchain.store.batches import Batch, BatchKind, BatchStatus, get_batch, set_batch_status
from offchain.store.outbox import OutboxItem, mark_dead, mark_done, mark_failed, open_items
from oracles.batching import anchor_topic
from oracles.clock import Clock, unix

log = logging.getLogger(__name__)


class AnchorPort(Protocol):
    """The chain as the publisher sees it.

    All methods raise ``TransientError`` when trying again later can help (node unreachable, time-out); every
    other ``FlexError`` (a revert) makes the batch a dead letter.
    """

    @property
    def operator(self) -> str:
        """Address of the meter operator that it anchors for."""
        ...

    def anchor_day(self, first_isp: int, isp_count: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        """Send a day batch and return the transaction hash."""
        ...

    def anchor_intraday(self, isp: int, root: bytes, leaf_count: int, data_hash: bytes) -> str:
        """Send an intraday batch and return the transaction hash."""
        ...

    def transaction_of(self, kind: BatchKind, first_isp: int, root: bytes) -> str | None:
        """Transaction that made ``root`` the latest of that period, even if it still waits to be mined."""
        ...

    def is_confirmed(self, tx: str) -> bool | None:
        """``True`` when final, ``None`` while waiting, ``False`` when it was reverted or dropped."""
        ...

    def final_hash(self, tx: str) -> str:
        """Hash under which a confirmed transaction was mined; another one when its fee was raised."""
        ...


@dataclass(slots=True)
class PublishReport:
    """How many batches were sent, confirmed, are waiting for confirmation, or failed in one pass."""

    sent: int = 0
    confirmed: int = 0
    waiting: int = 0
    failed: int = 0


class Publisher:
    """Works off the anchoring part of the outbox.

    Versions of a period go out in order: the next one waits until the one before is confirmed or given up. A
    batch that the chain has already is not sent again, which makes a restart at any moment harmless.
    """

    def __init__(self, store: Store, port: AnchorPort, clock: Clock, *, delay_s: int = 2, max_delay_s: int = 300):
        self._store = store
        self._port = port
        self._clock = clock
        self._delay_s = delay_s
        self._max_delay_s = max_delay_s

    def publish(self) -> PublishReport:
        """One pass over everything that is due; call it again until nothing is waiting."""
        report = PublishReport()
        now = unix(self._clock)
        with self._store.read() as connection:
            items = open_items(connection, anchor_topic(self._port.operator))
            work = [(item, get_batch(connection, item.subject_id)) for item in items]
        blocked: set[tuple[BatchKind, int]] = set()
        for item, batch in work:
            period = (batch.kind, batch.first_isp)
            if period in blocked or not item.is_due(now, self._max_delay_s):
                report.waiting += 1
                blocked.add(period)
                continue
            try:
                done = self._advance(item, batch, now, report)
            except FlexError as error:
                done = self._fail(item, batch, now, error)
                report.failed += 1
            if not done:
                blocked.add(period)
        return report

    def _advance(self, item: OutboxItem, batch: Batch, now: int, report: PublishReport) -> bool:
        """Take one batch a step further; ``True`` when the next version may follow."""
        if batch.status is BatchStatus.SENT:
            outcome = self._port.is_confirmed(batch.tx)
            if outcome is None:
                report.waiting += 1
                return False
            if outcome:
                self._confirm(item, batch, now, report)
                return True
            with self._store.write() as connection:
                set_batch_status(connection, batch.id, BatchStatus.PENDING)
            raise TransientError(f"transaction {batch.tx} was reverted or dropped", hint="it is sent again")
        if tx := self._port.transaction_of(batch.kind, batch.first_isp, batch.root):
            report.waiting += 1
        elif batch.kind is BatchKind.DAY:
            tx = self._port.anchor_day(batch.first_isp, batch.isp_count, batch.root, batch.leaf_count, batch.data_hash)
            report.sent += 1
        else:
            tx = self._port.anchor_intraday(batch.first_isp, batch.root, batch.leaf_count, batch.data_hash)
            report.sent += 1
        with self._store.write() as connection:
            set_batch_status(connection, batch.id, BatchStatus.SENT, tx)
        return False

    def _confirm(self, item: OutboxItem, batch: Batch, now: int, report: PublishReport) -> None:
        with self._store.write() as connection:
            set_batch_status(connection, batch.id, BatchStatus.CONFIRMED, self._port.final_hash(batch.tx))
            mark_done(connection, item.id, now=now)
        report.confirmed += 1

    def _fail(self, item: OutboxItem, batch: Batch, now: int, error: FlexError) -> bool:
        """Note a failure; ``True`` when the batch was given up, so that the next version may follow."""
        with self._store.write() as connection:
            if isinstance(error, TransientError):
                pause_s = min(self._delay_s * 2 ** min(item.attempts, 16), self._max_delay_s)
                jittered_s = max(1, round(pause_s * random.uniform(0.5, 1.0)))
                mark_failed(connection, item.id, str(error), next_attempt=now + jittered_s)
                if item.attempts == 0:
                    log.warning("batch %s not anchored, trying again: %s", batch.id, error)
                return False
            mark_dead(connection, item.id, str(error))
            set_batch_status(connection, batch.id, BatchStatus.FAILED)
        log.error("batch %s given up: %s", batch.id, error)
        return True
