"""Repositories: what goes in comes out, once; guards refuse what would rewrite history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offchain.domain.curves import MISSING, unpack_readings
from offchain.domain.errors import DomainError
from offchain.store import open_store
from offchain.store import outbox as box
from offchain.store.batches import (
    Batch,
    BatchKind,
    BatchStatus,
    MeterDayRow,
    batches_by_root,
    batches_with_status,
    get_batch,
    insert_batch,
    latest_batch,
    meter_days_of,
    set_batch_status,
)
from offchain.store.curves import (
    CommitmentRow,
    CurveRow,
    commit_curves,
    curves_of_commitment,
    get_commitment,
    insert_curves,
    latest_curve,
)
from offchain.store.documents import Document, documents_of, put_document
from offchain.store.readings import (
    ReadingRow,
    RegisterState,
    energy_matrix,
    insert_readings,
    load_register_states,
    packed_days,
    readings_of_isp,
    readings_of_meter,
    save_register_states,
)

METER, OTHER = b"\x01" * 32, b"\x02" * 32


def reading(meter_id=METER, isp=100, import_wh=10, export_wh=0):
    return ReadingRow(meter_id, isp, import_wh, export_wh, 0, b"s" * 65, 1_700_000_000, "modbus")


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "site.db") as store:
        yield store


@pytest.fixture
def connection(store):
    with store.write() as connection:
        yield connection


def test_insert_readings_keeps_first_when_repeated(connection):
    assert insert_readings(connection, [reading(), reading(isp=101)]) == 2
    assert insert_readings(connection, [reading(import_wh=99), reading(isp=102)]) == 1
    assert [r.import_wh for r in readings_of_meter(connection, METER, 100, 103)] == [10, 10, 10]


def test_readings_of_isp_returns_meters_in_order(connection):
    insert_readings(connection, [reading(OTHER), reading(METER), reading(METER, isp=101)])
    assert [r.meter_id for r in readings_of_isp(connection, 100)] == [METER, OTHER]


def test_energy_matrix_marks_missing_when_no_reading(connection):
    insert_readings(connection, [reading(isp=101, import_wh=7, export_wh=8), reading(OTHER, isp=100)])
    matrix = energy_matrix(connection, [METER], 100, 2)
    assert matrix.tolist() == [[[MISSING, MISSING], [7, 8]]]


def test_save_register_states_replaces_when_meter_known(connection):
    save_register_states(connection, [RegisterState(METER, 1, 5, 6, 900)])
    save_register_states(connection, [RegisterState(METER, 2, 7, 8, 1800), RegisterState(OTHER, 2, 0, 0, 1800)])
    assert load_register_states(connection)[METER] == RegisterState(METER, 2, 7, 8, 1800)


def batch(version=1, root=b"r" * 32):
    return Batch(0, BatchKind.DAY, "0xoperator", 96, 96, version, root, 2, b"d" * 32, BatchStatus.PENDING, None, 1)


def test_latest_batch_is_highest_version(connection):
    insert_batch(connection, batch(1))
    second = insert_batch(connection, batch(2, b"q" * 32))
    assert latest_batch(connection, BatchKind.DAY, "0xoperator", 96) == batch(2, b"q" * 32)._replace(id=second)
    assert latest_batch(connection, BatchKind.DAY, "0xother", 96) is None
    assert [b.version for b in batches_by_root(connection, b"q" * 32)] == [2]


@pytest.mark.parametrize("at_once", [1, 2, 3, 200])
def test_packed_days_gives_each_meter_its_own_readings_however_many_are_read_at_once(connection, monkeypatch, at_once):
    monkeypatch.setattr("offchain.store.readings._METERS_PER_QUERY", at_once)
    meters = [bytes([number]) * 32 for number in range(1, 6)]
    rows = [reading(m, 100 + k, 10 * m[0] + k, m[0]) for m in meters for k in range(-1, 4) if k != m[0] - 1]
    insert_readings(connection, rows)
    asked = [*meters[:2], *meters[3:], b"\xff" * 32]  # not the third, and one that was never read
    packed = dict(packed_days(connection, asked, 100, 3))
    assert list(packed) == asked
    for meter_id in asked[:-1]:
        expected = [None if k == meter_id[0] - 1 else (10 * meter_id[0] + k, meter_id[0]) for k in range(3)]
        assert unpack_readings(packed[meter_id]) == expected
    assert unpack_readings(packed[b"\xff" * 32]) == [None] * 3


def test_meter_days_of_returns_leaf_order(connection):
    days = [MeterDayRow(m, 96, 2, 1, bytes(16), b"s" * 65) for m in (OTHER, METER)]
    batch_id = insert_batch(connection, batch(), days)
    assert meter_days_of(connection, batch_id) == days[::-1]


def test_set_batch_status_keeps_transaction_when_none_given(connection):
    batch_id = insert_batch(connection, batch())
    set_batch_status(connection, batch_id, BatchStatus.SENT, "0xabc")
    set_batch_status(connection, batch_id, BatchStatus.CONFIRMED)
    assert get_batch(connection, batch_id)[-3:-1] == (BatchStatus.CONFIRMED, "0xabc")
    assert not batches_with_status(connection, BatchKind.DAY, BatchStatus.SENT)
    assert len(batches_with_status(connection, BatchKind.DAY, BatchStatus.CONFIRMED)) == 1


def curve(subject_id=METER, belief_time=10, values=b"\x00" * 8):
    return CurveRow("baseline", "mid4of6@1", subject_id, 96, 2, values, belief_time)


COMMITMENT = CommitmentRow(
    7, "baseline", "0xaggregator", bytes(32), b"m" * 32, 96, 2, b"r" * 32, 2, 10, b"d" * 32, None
)


def test_latest_curve_ignores_what_was_made_later(connection):
    insert_curves(connection, [curve(), curve(belief_time=20, values=b"\x01" * 8)])
    find = (connection, "baseline", "mid4of6@1", METER, 96)
    assert latest_curve(*find).belief_time == 20
    assert latest_curve(*find, known_at=19).belief_time == 10
    assert latest_curve(*find, known_at=9) is None


def test_commit_curves_returns_leaf_order(connection):
    insert_curves(connection, [curve(), curve(OTHER)])
    commit_curves(connection, COMMITMENT, "mid4of6@1", [OTHER, METER], 10)
    assert [c.subject_id for c in curves_of_commitment(connection, 7)] == [OTHER, METER]
    assert get_commitment(connection, 7) == COMMITMENT
    assert get_commitment(connection, 8) is None


def test_commit_curves_raises_when_curve_is_not_stored(connection):
    with pytest.raises(DomainError, match="no mid4of6@1 baseline"):
        commit_curves(connection, COMMITMENT, "mid4of6@1", [METER], 10)


def test_put_document_raises_when_content_differs(connection):
    document = Document("order", b"k" * 32, b"one", 1)
    assert put_document(connection, document)
    assert not put_document(connection, document)
    with pytest.raises(DomainError, match="other content"):
        put_document(connection, document._replace(content=b"two"))
    assert documents_of(connection, "order") == [document]


def test_outbox_walks_from_open_to_done(connection):
    assert box.enqueue(connection, "day:1", "anchor", 1, now=5)
    assert not box.enqueue(connection, "day:1", "anchor", 1, now=5)
    box.enqueue(connection, "day:2", "anchor", 2, now=5)
    first, second = box.open_items(connection, "anchor")
    box.mark_failed(connection, first.id, "timeout", next_attempt=9)
    again = box.open_items(connection, "anchor")[0]
    assert (again.attempts, again.next_attempt, again.last_error) == (1, 9, "timeout")
    box.mark_done(connection, first.id, now=10)
    box.mark_dead(connection, second.id, "reverted")
    assert box.open_items(connection, "anchor") == []
    assert [(d.key, d.last_error) for d in box.dead_letters(connection)] == [("day:2", "reverted")]
    box.revive(connection, second.id, now=11)
    assert [i.key for i in box.open_items(connection, "anchor")] == ["day:2"]


@given(st.lists(st.tuples(st.sampled_from([METER, OTHER]), st.integers(0, 30), st.integers(0, 2**32 - 2))))
def test_insert_readings_counts_each_meter_and_isp_once(tmp_path_factory, arrivals):
    first = {}
    for meter_id, isp, import_wh in arrivals:
        first.setdefault((meter_id, isp), import_wh)
    with open_store(tmp_path_factory.mktemp("store") / "site.db") as store, store.write() as connection:
        new = sum(insert_readings(connection, [reading(m, i, w)]) for m, i, w in arrivals)
        stored = [r for m in (METER, OTHER) for r in readings_of_meter(connection, m, 0, 31)]
    assert new == len(first)
    assert {(r.meter_id, r.isp): r.import_wh for r in stored} == first
