"""The chain side of a site: connects when it can, publishes what waits, follows what concerns its meters.

Everything here blocks and may fail for as long as no node answers; it runs in a thread of its own, and nothing that
collects readings waits for it.
"""

import logging
import random
import threading
from collections.abc import Sequence

from sqlalchemy import Connection

from offchain.chain.client import Chain
from offchain.chain.contracts import Suite
from offchain.chain.events import Event
from offchain.chain.indexer import Indexer
from offchain.chain.record import DeploymentRecord
from offchain.chain.rpc import shown_url
from offchain.chain.signers import TransactionSigner
from offchain.chain.transactions import TransactionQueue
from offchain.store import Store
from offchain.store.batches import BatchKind, BatchStatus, recent_batches, reopen_batches
from offchain.store.outbox import dead_letters, reopen, revive
from oracles.alarms import Alarms
from oracles.anchoring import LEDGER, QueuedAnchor
from oracles.batching import anchor_topic
from oracles.clock import Clock, SteadyClock, unix
from oracles.config import SiteConfig
from oracles.orders import EVENTS, LISTS
from oracles.publisher import Publisher, PublishReport
from oracles.regimes import EVENTS as REGIME_EVENTS
from oracles.registration import OnChain, look_up

log = logging.getLogger(__name__)

REVIVE_EVERY_S = 3_600
"""What the chain refused is tried again this often: a role may be back, a bond posted, a pause over."""
LATE_S = 4 * 86_400
"""How long after its day an order is looked up; longer than ``steering.JUDGED_FOR_S`` and a day."""
READ_AGAIN_S = 3_600
"""Events are read from the store again when there are new ones, or old ones to be left out."""
TRANSACTIONS_AT_ONCE = 50
DEEP_REORG = "deep reorg"
REJECTED = 2
"""``IMeteringLedger.BatchStatus.Rejected``."""


class ChainLink:
    """One site's connection to its contracts."""

    def __init__(
        self,
        site: SiteConfig,
        record: DeploymentRecord,
        operator: TransactionSigner,
        store: Store,
        clock: Clock,
        alarms: Alarms,
    ):
        self._site = site
        self._urls = site.chain.urls()
        self._record = record
        self._operator = operator
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._revived_at = 0
        self._connecting = threading.Lock()
        self.suite: Suite | None = None
        self.queue: TransactionQueue | None = None
        self._publisher: Publisher | None = None
        self._indexer: Indexer | None = None
        self._ordered_ahead_s = 0
        self._followed: list[Event] = []
        self._followed_at: tuple[int, int] | None = None

    def connect(self) -> Suite:
        """Suite on the first node that works; checks chain id and code of every contract. Raises ``ChainError``."""
        with self._connecting:
            return self.suite or self._connect()

    def _connect(self) -> Suite:
        config = self._site.chain
        chain = Chain(self._urls, expected_chain_id=config.chain_id, timeout=config.timeout_s)
        suite = Suite.open(chain, self._record)
        self.queue = TransactionQueue(
            chain,
            self._operator,
            self._store.engine,
            confirmations=config.confirmations,
            bump_after_s=self._site.publishing.bump_after_s,
            vanished=self._take_back,
        )
        anchor = QueuedAnchor(suite, self.queue, confirmations=config.confirmations)
        self._publisher = Publisher(self._store, anchor, self._clock)
        self._indexer = Indexer(chain, suite, self._store.engine, confirmations=config.confirmations)
        held_s, corrected_s = suite.call_all(
            [("AgreementRegistry", "bondHoldSeconds", ()), ("FlexDispatch", "correctionSeconds", ())]
        )
        # From the issue of an order to the end of its day at most, see ``IFlexDispatch.dispatch``.
        self._ordered_ahead_s = max(held_s - corrected_s, 0)
        self.suite = suite
        log.info("connected to chain %d at %s", chain.chain_id, chain.url)
        return suite

    @property
    def endpoints(self) -> dict[str, bool]:
        """Whether each node worked when it was last tried."""
        if self.suite is None:
            return dict.fromkeys(map(shown_url, self._urls), False)
        return self.suite.chain.rpc.healthy

    def publish(self) -> PublishReport:
        """One pass over what is to be anchored."""
        suite = self.connect()
        if isinstance(self._clock, SteadyClock) and self._clock.jumped:
            self._clock.confirm(suite.chain.block()["timestamp"])
        self.queue.advance()
        report = self._publisher.publish()
        if report.sent:
            self.queue.advance()
            self._publisher.publish()
        now = unix(self._clock)
        if now - self._revived_at >= REVIVE_EVERY_S:
            self._revived_at = now
            self._revive(now)
        if not report.waiting and not self.queue.open():
            self._alarms.clear(DEEP_REORG, "chain")
        self._watch_nodes()
        return report

    def follow(self) -> list[Event]:
        """Changes of regime and lists of standby, however old, and events of all orders of days not long over."""
        self.connect()
        self._indexer.sync()
        now = unix(self._clock)
        if (self._indexer.revision, now // READ_AGAIN_S) != self._followed_at:
            lasting = self._indexer.events(names=(*REGIME_EVENTS, *LISTS))
            recent = self._indexer.events(names=EVENTS, since=now - self._ordered_ahead_s - LATE_S)
            self._followed = lasting + recent
            self._followed_at = (self._indexer.revision, now // READ_AGAIN_S)
        return self._followed

    def call_data(self, tx_hashes: Sequence[str]) -> dict[str, bytes]:
        """Call data of some of these transactions, those that a node has."""
        asked = random.sample(tx_hashes, min(len(tx_hashes), TRANSACTIONS_AT_ONCE))
        answers = self.connect().chain.rpc.batch([("eth_getTransactionByHash", [tx_hash]) for tx_hash in asked])
        return {
            tx_hash: bytes.fromhex(answer["input"][2:])
            for tx_hash, answer in zip(asked, answers, strict=True)
            if isinstance(answer, dict)
        }

    def look_up(self, meter_ids: Sequence[bytes]) -> dict[bytes, OnChain]:
        """What the chain says of meters."""
        return look_up(self.connect(), self._operator.address, meter_ids)

    def reconcile(self, first_isp: int) -> None:
        """Compare days that count as confirmed with the ledger; an alarm for each that is rejected or not there."""
        suite = self.connect()
        with self._store.read() as connection:
            batches = recent_batches(connection, self._operator.address, first_isp)
        latest = {b.first_isp: b for b in batches if b.kind is BatchKind.DAY and b.status is BatchStatus.CONFIRMED}
        waiting = {b.first_isp for b in batches if b.status in (BatchStatus.PENDING, BatchStatus.SENT)}
        queries = [(LEDGER, "batch", (self._operator.address, isp)) for isp in latest]
        for (isp, batch), held in zip(latest.items(), suite.call_all(queries), strict=True):
            subject = f"day from ISP {isp}"
            if isp in waiting:
                continue
            if held["status"] == REJECTED:
                self._alarms.set("batch rejected", subject, f"version {held['version']} was challenged successfully")
            elif held["root"] != batch.root:
                self._alarms.set("batch not on chain", subject, f"root {batch.root.hex()} is confirmed, but not there")
            else:
                self._alarms.clear("batch rejected", subject)
                self._alarms.clear("batch not on chain", subject)

    def _take_back(self, connection: Connection, hashes: list[str]) -> None:
        """A reorg deeper than the confirmations: what it took out is on its way again, and not on chain until then."""
        ids = reopen_batches(connection, hashes)
        reopen(connection, anchor_topic(self._operator.address), ids, now=unix(self._clock))
        text = f"{len(ids)} batches that were final are gone and sent again; raise chain.confirmations"
        self._alarms.set(DEEP_REORG, "chain", text)

    def _revive(self, now: int) -> None:
        topic = anchor_topic(self._operator.address)
        with self._store.write() as connection:
            for item in dead_letters(connection):
                if item.topic == topic:
                    revive(connection, item.id, now=now)

    def _watch_nodes(self) -> None:
        for url, healthy in self.endpoints.items():
            if healthy:
                self._alarms.clear("chain node", url)
            else:
                self._alarms.set("chain node", url, "does not answer or is of another chain")
