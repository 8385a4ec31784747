"""
Batches and the evidence behind them
├── memory while a batch of a day or an ISP is made, its data read, a meter proven → that of a tree, no more
├── data_behind → in parts, together what is on chain as data hash; unknown hash → None; changed → DomainError
└── prove → leads to the root; late or strange meter, unknown root → None; changed before or after → DomainError
"""

import tracemalloc
from hashlib import sha256

import pytest
from eth_hash.auto import keccak
from sqlalchemy import update

from offchain.chain.merkle import verify
from offchain.domain.curves import unpack_readings
from offchain.domain.errors import DomainError
from offchain.domain.isp import isp_start
from offchain.flexibility.metered_days import day_leaf
from offchain.store import open_store
from offchain.store.batches import meter_day_of
from offchain.store.readings import ReadingRow, insert_readings
from offchain.store.tables import meter_days
from oracles import evidence as evidence_module
from oracles.batching import Batcher, reading_leaf
from oracles.evidence import Evidence
from oracles.signer import GatewayKeys
from tests.oracles.conftest import DAY, DOMAIN

OPERATOR = "0x" + "22" * 20
FEW, MANY = 2_000, 6_000
"""Both more than what is read and written together, so that only what grows with the meters differs."""
TREE, LIST = 150, 40
"""Most that may be needed a meter [bytes]: 72 of the tree, 40 while its leaves are put in order, and a list of the
meters, which grows by copying."""


def reading(meter_id, isp, import_wh=100, at=1):
    return ReadingRow(
        meter_id, isp, import_wh, 7, 0, sha256(meter_id + b"%d" % isp).digest() * 2 + b"\x1b", at, "modbus"
    )


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Peak of memory in each step [bytes], by number of meters."""
    found = {}
    for count in (FEW, FEW, MANY):  # the first one fills caches
        meter_ids = [sha256(b"meter %d" % number).digest() for number in range(count)]
        keys = GatewayKeys(DOMAIN, {meter_ids[0]: sha256(b"key").digest()})
        keys._keys = dict.fromkeys(meter_ids, keys._keys[meter_ids[0]])
        with open_store(tmp_path_factory.mktemp("memory") / "site.db") as store:
            with store.write() as connection:
                for isp in DAY.isps[:3]:
                    insert_readings(connection, [reading(meter_id, isp) for meter_id in meter_ids])
            batcher = Batcher(store, OPERATOR, meter_ids, keys, _Over(DAY))
            evidence, batches = Evidence(store), {}
            steps = {
                "close_day": lambda b=batcher, held=batches: held.update(day=b.close_day(DAY)),
                "close_isp": lambda b=batcher, held=batches: held.update(isp=b.close_isp(DAY.first_isp)),
                "close_day again": lambda b=batcher: b.close_day(DAY),
                "data of day": lambda e=evidence, held=batches: _walk(e, held["day"]),
                "data of ISP": lambda e=evidence, held=batches: _walk(e, held["isp"]),
                "proof of day": lambda e=evidence, held=batches, m=meter_ids: e.prove(held["day"].root, m[0]),
                "proof of ISP": lambda e=evidence, held=batches, m=meter_ids: e.prove(held["isp"].root, m[0]),
            }
            found[count] = {name: _peak(step) for name, step in steps.items()}
    return found


class _Over:
    def __init__(self, day):
        self._day = day

    def now(self):
        return isp_start(self._day.end_isp)


def _walk(evidence, batch):
    assert sum(map(len, evidence.data_behind(batch.data_hash).parts)) > 100 * batch.leaf_count


def _peak(step):
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    step()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("step", "bytes_a_meter"),
    [
        ("close_day", TREE),
        ("close_isp", TREE),
        ("close_day again", LIST),
        ("data of day", 5),
        ("data of ISP", 5),
        ("proof of day", TREE),
        ("proof of ISP", TREE),
    ],
)
def test_memory_is_that_of_the_tree_when_meters_are_many(peaks, step, bytes_a_meter):
    assert (peaks[MANY][step] - peaks[FEW][step]) / (MANY - FEW) < bytes_a_meter


@pytest.fixture
def evidence(store):
    return Evidence(store)


@pytest.fixture
def anchored(store, signer, clock, day, meter_ids, monkeypatch):
    """Batches of an ISP and its day; a reading of the ISP came when the first was made. Pages of two rows."""
    monkeypatch.setattr(evidence_module, "ROWS_AT_ONCE", 2)
    isp = day.first_isp
    clock.advance_to(isp_start(isp + 1))
    batcher = Batcher(store, OPERATOR, meter_ids, signer, clock)
    late = sorted(meter_ids)[1]
    with store.write() as connection:
        insert_readings(connection, [reading(m, isp) for m in meter_ids if m != late])
    intraday = batcher.close_isp(isp)
    clock.advance_to(isp_start(day.end_isp))
    with store.write() as connection:
        insert_readings(connection, [reading(late, isp, at=intraday.belief_time + 1)])
    return intraday, batcher.close_day(day), late


def test_data_behind_comes_in_parts_that_hash_to_what_is_on_chain(evidence, anchored):
    for batch, meters, size in ((anchored[0], 4, 105), (anchored[1], 5, 865)):
        data = evidence.data_behind(batch.data_hash)
        parts = list(data.parts)
        assert len(parts) == -(-meters // 2)
        assert keccak(b"".join(parts)) == batch.data_hash
        assert (data.batch, data.size) == (batch, meters * size)
    assert evidence.data_behind(bytes(32)) is None


def test_prove_leads_to_the_root_when_the_meter_is_in_the_batch(evidence, anchored, store, meter_ids, day):
    intraday, whole_day, late = anchored
    for meter_id in meter_ids:
        proof = evidence.prove(whole_day.root, meter_id)
        with store.read() as connection:
            row = meter_day_of(connection, whole_day.id, meter_id)
        assert (proof.batch, proof.meter_id, proof.values, proof.signature) == (whole_day, *row[:1], *row[4:])
        assert verify(whole_day.root, day_leaf(row), proof.siblings)
    for meter_id in set(meter_ids) - {late}:
        proof = evidence.prove(intraday.root, meter_id)
        assert unpack_readings(proof.values) == [(100, 7)]
        assert verify(intraday.root, reading_leaf(reading(meter_id, day.first_isp)), proof.siblings)


def test_prove_is_none_when_the_meter_was_late_or_strange_or_the_root_is_unknown(evidence, anchored, meter_ids):
    intraday, whole_day, late = anchored
    assert evidence.prove(intraday.root, late) is None
    assert evidence.prove(whole_day.root, b"\xff" * 32) is None
    assert evidence.prove(bytes(32), meter_ids[0]) is None


@pytest.mark.parametrize("asked_before", [False, True])
def test_evidence_raises_when_a_stored_byte_was_changed(evidence, anchored, store, meter_ids, asked_before):
    _, whole_day, _ = anchored
    if asked_before:
        evidence.prove(whole_day.root, meter_ids[1])
    with store.write() as connection:
        changed = update(meter_days).where(meter_days.c.meter_id == meter_ids[0])
        connection.execute(changed.values(values=b"\0" * 768))
    with pytest.raises(DomainError, match=r"do not lead to its root|no leaf"):
        evidence.prove(whole_day.root, meter_ids[0])
    with pytest.raises(DomainError, match="other data now"):
        evidence.data_behind(whole_day.data_hash)


def test_trees_are_kept_for_a_few_batches_only(evidence, anchored, monkeypatch):
    monkeypatch.setattr(evidence_module, "TREES_KEPT", 1)
    intraday, whole_day, late = anchored
    evidence.prove(whole_day.root, late)
    assert list(evidence._trees) == [whole_day.id]
    evidence.prove(intraday.root, next(iter(evidence.data_behind(intraday.data_hash).parts))[:32])
    assert list(evidence._trees) == [intraday.id]
