"""Batcher: a day that is not over, the first time, repeated, corrected, without readings; an ISP likewise."""

from contextlib import contextmanager
from datetime import date, timedelta

import pytest
from sqlalchemy import update

from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import verify
from offchain.chain.signatures import METER_DAY, address_of, recover, signing_key
from offchain.domain.curves import pack_readings
from offchain.domain.errors import DomainError
from offchain.domain.isp import MarketDay, isp_start
from offchain.flexibility.metered_days import proven_days
from offchain.store.batches import BatchKind, BatchStatus, meter_days_of
from offchain.store.outbox import open_items
from offchain.store.readings import ReadingRow, insert_readings
from offchain.store.tables import meter_days
from oracles.batching import Batcher, anchor_topic
from oracles.clock import SimulatedClock, unix
from oracles.pipeline import MeteringPipeline
from oracles.sources.port import IntervalEnergy

OPERATOR = "0x" + "22" * 20


def rows_of(signer, meter_id, isps, import_wh=100):
    return [
        ReadingRow(meter_id, isp, import_wh, 7, 0, signer.sign_reading(meter_id, isp, import_wh, 7), 1, "modbus")
        for isp in isps
    ]


def store_readings(store, rows):
    with store.write() as connection:
        insert_readings(connection, rows)


def outbox_keys(store):
    with store.read() as connection:
        return [item.key for item in open_items(connection, anchor_topic(OPERATOR))]


@pytest.fixture
def batcher(store, signer, clock, meter_ids):
    return Batcher(store, OPERATOR, reversed(meter_ids), signer, clock)


@pytest.fixture
def over(clock, day):
    clock.advance_to(isp_start(day.end_isp))


def test_close_day_puts_signed_provable_days_into_the_outbox(
    batcher, store, signer, meter_ids, day, over, domain, secrets
):
    for meter_id in meter_ids[1:]:
        store_readings(store, rows_of(signer, meter_id, day.isps))
    batch = batcher.close_day(day)
    assert (batch.first_isp, batch.isp_count, batch.version) == (day.first_isp, 96, 1)
    assert (batch.leaf_count, batch.kind, batch.status) == (5, BatchKind.DAY, BatchStatus.PENDING)
    assert outbox_keys(store) == [f"day:{OPERATOR}:{day.first_isp}:1"]
    proven = proven_days(store, batch.id)
    assert proven.keys() == set(meter_ids)
    store.verify()
    for meter_id, (stored, proof) in proven.items():
        expected = None if meter_id == meter_ids[0] else (100, 7)
        assert stored.values == pack_readings([expected] * 96)
        hashed = values_hash(stored.values)
        assert verify(batch.root, meter_day_leaf(meter_id, day.first_isp, 96, hashed), proof)
        message = {"meterId": meter_id, "firstIsp": day.first_isp, "ispCount": 96, "valuesHash": hashed}
        signed_by = recover(METER_DAY.digest(domain, message), stored.signature)
        assert signed_by == address_of(signing_key(secrets[meter_id]))


@pytest.mark.parametrize(("calendar_day", "count"), [(date(2016, 3, 27), 92), (date(2016, 10, 30), 100)])
def test_close_day_covers_all_isps_when_clocks_change(store, signer, meter_ids, calendar_day, count):
    day = MarketDay.of(calendar_day)
    clock = SimulatedClock(isp_start(day.end_isp))
    batch = Batcher(store, OPERATOR, meter_ids, signer, clock).close_day(day)
    assert batch.isp_count == count
    assert len(proven_days(store, batch.id)[meter_ids[0]].day.values) == 8 * count


def test_close_day_returns_same_batch_when_repeated(batcher, store, signer, meter_ids, day, over):
    store_readings(store, rows_of(signer, meter_ids[0], day.isps))
    assert batcher.close_day(day) == batcher.close_day(day)
    assert len(outbox_keys(store)) == 1


def test_close_day_makes_next_version_when_reading_came_late(batcher, store, signer, meter_ids, day, over):
    store_readings(store, rows_of(signer, meter_ids[0], list(day.isps)[:-1]))
    first = batcher.close_day(day)
    store_readings(store, rows_of(signer, meter_ids[0], list(day.isps)[-1:]))
    second = batcher.close_day(day)
    assert (first.version, second.version) == (1, 2)
    assert first.root != second.root
    assert first.data_hash != second.data_hash
    assert len(outbox_keys(store)) == 2
    with store.read() as connection:
        assert {d.version for d in meter_days_of(connection, first.id)} == {1}
        assert {d.version for d in meter_days_of(connection, second.id)} == {2}


def test_close_day_raises_when_day_is_not_over(batcher, store, day, clock):
    clock.advance_to(isp_start(day.end_isp - 1))
    with pytest.raises(DomainError, match="period ends"):
        batcher.close_day(day)
    assert outbox_keys(store) == []


def test_close_day_leaves_nothing_when_outbox_fails(batcher, store, day, over, monkeypatch):
    def fail(*_, **__):
        raise DomainError("stop")

    with monkeypatch.context() as patch:
        patch.setattr("oracles.batching.enqueue", fail)
        with pytest.raises(DomainError, match="stop"):
            batcher.close_day(day)
    assert batcher.close_day(day).version == 1


def test_proven_days_raises_when_a_stored_byte_was_changed(batcher, store, day, over):
    batch = batcher.close_day(day)
    with store.write() as connection:
        connection.execute(update(meter_days).values(values=b"\0" * 768))
    with pytest.raises(DomainError, match="do not lead to its root"):
        proven_days(store, batch.id)


def test_close_isp_batches_own_readings_once(batcher, store, signer, meter_ids, day, over):
    isp = day.first_isp
    foreign = rows_of(signer, meter_ids[0], [isp])[0]._replace(meter_id=b"\xff" * 32)
    rows = [row for meter_id in meter_ids[:3] for row in rows_of(signer, meter_id, [isp])]
    store_readings(store, [*rows, foreign])
    batch = batcher.close_isp(isp)
    assert (batch.kind, batch.leaf_count, batch.isp_count) == (BatchKind.INTRADAY, 3, 1)
    assert batcher.close_isp(isp) == batch
    assert outbox_keys(store) == [f"intraday:{OPERATOR}:{isp}:1"]


def test_close_isp_returns_none_when_nothing_was_read(batcher, store, day, over):
    assert batcher.close_isp(day.first_isp) is None
    assert outbox_keys(store) == []


def test_close_isp_raises_when_isp_is_running(batcher, day):
    with pytest.raises(DomainError, match="period ends"):
        batcher.close_isp(day.first_isp)


def test_batch_and_reading_are_dated_when_they_have_the_write_lock(
    batcher, store, points, signer, clock, day, meter_ids, monkeypatch
):
    """Else a reading in a batch could be younger than it, and count as not yet published (decision 0044)."""
    write = store.write

    @contextmanager
    def waiting():
        with write() as connection:
            clock.advance_to(clock.now() + timedelta(seconds=5))  # somebody else wrote for so long
            yield connection

    pipeline = MeteringPipeline(store, points, signer, clock)
    clock.advance_to(isp_start(day.first_isp + 1))
    monkeypatch.setattr(store, "write", waiting)
    value = IntervalEnergy(meter_ids[0], day.first_isp, 5, 5, unix(clock))
    (row,) = pipeline.ingest([value]).accepted
    assert row.belief_time == (day.first_isp + 1) * 900 + 5
    assert batcher.close_isp(day.first_isp).belief_time == row.belief_time + 5
