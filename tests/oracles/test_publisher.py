"""Publisher.publish: sent, waiting, confirmed; killed in between; node away; reverted; corrected."""

from datetime import timedelta

import pytest

from offchain.domain.errors import ChainError, TransientError
from offchain.domain.isp import isp_start
from offchain.store.batches import BatchStatus, get_batch
from offchain.store.outbox import dead_letters, open_items, revive
from offchain.store.readings import ReadingRow, insert_readings
from oracles.batching import Batcher, anchor_topic
from oracles.clock import SimulatedClock
from oracles.publisher import Publisher, PublishReport

OPERATOR = "0x" + "22" * 20


class RecordingChain:
    """Chain in memory: keeps every transaction, confirms on demand, fails on demand."""

    def __init__(self, operator=OPERATOR):
        self.operator = operator
        self.sent = []
        self.latest = {}
        self.confirmed = set()
        self.dropped = set()
        self.error = None
        self.lose_answer = False

    def anchor_day(self, first_isp, isp_count, root, leaf_count, data_hash):
        return self._anchor("day", first_isp, root)

    def anchor_intraday(self, isp, root, leaf_count, data_hash):
        return self._anchor("intraday", isp, root)

    def _anchor(self, kind, first_isp, root):
        if self.error:
            raise self.error
        tx = f"0x{len(self.sent):064x}"
        self.sent.append((kind, first_isp, root))
        self.latest[kind, first_isp] = root, tx
        if self.lose_answer:
            raise KeyboardInterrupt
        return tx

    def transaction_of(self, kind, first_isp, root):
        latest_root, tx = self.latest.get((kind, first_isp), (None, None))
        return tx if latest_root == root and tx not in self.dropped else None

    def is_confirmed(self, tx):
        return False if tx in self.dropped else True if tx in self.confirmed else None

    def final_hash(self, tx):
        return tx

    def mine(self):
        self.confirmed |= {tx for _, tx in self.latest.values()} - self.dropped


@pytest.fixture
def chain():
    return RecordingChain()


@pytest.fixture
def batcher(store, signer, clock, meter_ids, day):
    clock.advance_to(isp_start(day.end_isp))
    return Batcher(store, OPERATOR, meter_ids, signer, clock)


@pytest.fixture
def batch(batcher, day):
    return batcher.close_day(day)


@pytest.fixture
def publisher(store, chain, clock):
    return Publisher(store, chain, clock)


def status(store, batch):
    with store.read() as connection:
        stored = get_batch(connection, batch.id)
    return stored.status, stored.tx


def correct(store, batcher, signer, meter_ids, day):
    signature = signer.sign_reading(meter_ids[0], day.first_isp, 1, 1)
    with store.write() as connection:
        insert_readings(connection, [ReadingRow(meter_ids[0], day.first_isp, 1, 1, 0, signature, 1, "late")])
    return batcher.close_day(day)


def test_publish_sends_then_waits_then_confirms(publisher, chain, store, batch):
    assert publisher.publish() == PublishReport(sent=1)
    tx = f"0x{0:064x}"
    assert status(store, batch) == (BatchStatus.SENT, tx)
    assert publisher.publish() == PublishReport(waiting=1)
    chain.mine()
    assert publisher.publish() == PublishReport(confirmed=1)
    assert status(store, batch) == (BatchStatus.CONFIRMED, tx)
    assert publisher.publish() == PublishReport()
    assert chain.sent == [("day", batch.first_isp, batch.root)]


def test_publish_does_not_send_twice_when_killed_before_the_answer(publisher, chain, store, batch, clock):
    chain.lose_answer = True
    with pytest.raises(KeyboardInterrupt):
        publisher.publish()
    assert status(store, batch) == (BatchStatus.PENDING, None)
    chain.lose_answer = False
    restarted = Publisher(store, chain, clock)
    assert restarted.publish() == PublishReport(waiting=1)
    chain.mine()
    assert restarted.publish() == PublishReport(confirmed=1)
    assert status(store, batch) == (BatchStatus.CONFIRMED, f"0x{0:064x}")
    assert len(chain.sent) == 1


def test_publish_tries_again_later_when_node_is_away(publisher, chain, store, batch, clock):
    chain.error = TransientError("node unreachable")
    assert publisher.publish() == PublishReport(failed=1)
    assert publisher.publish() == PublishReport(waiting=1)  # not due yet
    with store.read() as connection:
        (item,) = open_items(connection, anchor_topic(OPERATOR))
    assert (item.attempts, item.last_error) == (1, "node unreachable")
    clock.advance_to(clock.now() + timedelta(seconds=2))
    chain.error = None
    assert publisher.publish() == PublishReport(sent=1)


def test_publish_waits_longer_each_time_up_to_a_limit(publisher, chain, store, batch, clock):
    chain.error = TransientError("node unreachable")
    pauses_s = []
    for _ in range(12):
        assert publisher.publish() == PublishReport(failed=1)
        with store.read() as connection:
            (item,) = open_items(connection, anchor_topic(OPERATOR))
        pauses_s.append(item.next_attempt - int(clock.now().timestamp()))
        clock.advance_to(clock.now() + timedelta(seconds=pauses_s[-1]))
    assert pauses_s[0] <= 2
    assert all(150 <= pause_s <= 300 for pause_s in pauses_s[-3:])


def test_publish_goes_on_when_the_clock_was_a_month_ahead_at_the_last_attempt(publisher, chain, store, batch, clock):
    chain.error = TransientError("node unreachable")
    ahead = Publisher(store, chain, SimulatedClock(clock.now() + timedelta(days=30)))
    assert ahead.publish() == PublishReport(failed=1)
    chain.error = None
    assert publisher.publish() == PublishReport(sent=1)


def test_publish_gives_up_when_chain_refuses(publisher, chain, store, batch, clock):
    chain.error = ChainError("BondTooLow: 0, 1000")
    assert publisher.publish() == PublishReport(failed=1)
    assert status(store, batch)[0] is BatchStatus.FAILED
    with store.read() as connection:
        (letter,) = dead_letters(connection)
    assert letter.last_error == "BondTooLow: 0, 1000"
    chain.error = None
    assert publisher.publish() == PublishReport()
    with store.write() as connection:
        revive(connection, letter.id, now=0)
    assert publisher.publish() == PublishReport(sent=1)


def test_publish_sends_again_when_transaction_was_dropped(publisher, chain, store, batch, clock):
    publisher.publish()
    chain.dropped.add(f"0x{0:064x}")
    assert publisher.publish() == PublishReport(failed=1)
    clock.advance_to(clock.now() + timedelta(seconds=2))
    assert publisher.publish() == PublishReport(sent=1)
    assert status(store, batch) == (BatchStatus.SENT, f"0x{1:064x}")


def test_publish_keeps_versions_in_order(publisher, chain, store, batch, batcher, signer, meter_ids, day):
    second = correct(store, batcher, signer, meter_ids, day)
    assert publisher.publish() == PublishReport(sent=1, waiting=1)
    assert publisher.publish() == PublishReport(waiting=2)
    chain.mine()
    assert publisher.publish() == PublishReport(confirmed=1, sent=1)
    chain.mine()
    assert publisher.publish() == PublishReport(confirmed=1)
    assert [root for _, _, root in chain.sent] == [batch.root, second.root]


def test_publish_goes_on_with_correction_when_first_version_was_given_up(
    publisher, chain, store, batch, batcher, signer, meter_ids, day
):
    chain.error = ChainError("refused")
    publisher.publish()
    chain.error = None
    second = correct(store, batcher, signer, meter_ids, day)
    assert publisher.publish() == PublishReport(sent=1)
    assert [root for _, _, root in chain.sent] == [second.root]


def test_publish_sends_intraday_and_day(publisher, chain, store, batcher, signer, meter_ids, day):
    correct(store, batcher, signer, meter_ids, day)
    batcher.close_isp(day.first_isp)
    assert publisher.publish() == PublishReport(sent=2)
    assert {kind for kind, _, _ in chain.sent} == {"day", "intraday"}


def test_publish_leaves_batches_of_other_operators_alone(store, batch, clock):
    other = RecordingChain("0x" + "33" * 20)
    assert Publisher(store, other, clock).publish() == PublishReport()
    assert other.sent == []
