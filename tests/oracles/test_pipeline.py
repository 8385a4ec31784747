"""MeteringPipeline.ingest: stored and signed; rejected and counted; nothing twice; store that fails."""

from collections import Counter

import pytest

from offchain.chain.signatures import READING, address_of, recover, signing_key
from offchain.domain.errors import PermanentError, TransientError
from offchain.domain.isp import isp_start
from offchain.store.readings import load_register_states, readings_of_meter
from oracles.normalise import Rejection
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.sources.port import MeterReading


@pytest.fixture
def clock(clock, day):
    clock.advance_to(isp_start(day.end_isp))
    return clock


@pytest.fixture
def pipeline(store, points, signer, clock):
    return MeteringPipeline(store, points, signer, clock)


def read(meter_id, boundary, import_wh=0, export_wh=0):
    return MeterReading(meter_id, boundary * 900, boundary * 900, import_wh, export_wh, False, 2**32)


def stored(store, meter_id, day):
    with store.read() as connection:
        return readings_of_meter(connection, meter_id, day.first_isp, day.end_isp)


def test_ingest_stores_signed_reading(pipeline, store, meter_ids, day, domain, secrets, clock):
    meter_id, first = meter_ids[0], day.first_isp
    pipeline.ingest([read(meter_id, first, 100, 50)])
    report = pipeline.ingest([read(meter_id, first + 1, 350, 50)])
    (row,) = stored(store, meter_id, day)
    assert report.accepted == [row]
    assert row[:5] == (meter_id, first, 250, 0, 0)
    assert (row.belief_time, row.source) == (int(clock.now().timestamp()), "modbus")
    digest = READING.digest(domain, {"meterId": meter_id, "isp": first, "importWh": 250, "exportWh": 0})
    assert recover(digest, row.signature) == address_of(signing_key(secrets[meter_id]))


def test_ingest_takes_a_whole_history_at_once(pipeline, store, meter_ids, day):
    polls = [read(m, day.first_isp + i, 10 * i) for i in range(97) for m in meter_ids]
    report = pipeline.ingest(polls)
    assert len(report.accepted) == 96 * len(meter_ids)
    assert report.rejected == Counter({Rejection.FIRST: len(meter_ids)})
    assert [r.import_wh for r in stored(store, meter_ids[3], day)] == [10] * 96


def test_ingest_stores_once_when_boundary_is_polled_twice(pipeline, store, meter_ids, day):
    meter_id, first = meter_ids[0], day.first_isp
    for reading in (read(meter_id, first), read(meter_id, first + 1, 5), read(meter_id, first + 1, 6)):
        report = pipeline.ingest([reading])
    assert report.rejected == Counter({Rejection.DUPLICATE: 1})
    assert [r.import_wh for r in stored(store, meter_id, day)] == [5]


def test_ingest_leaves_gap_when_boundary_was_not_read(pipeline, store, meter_ids, day):
    meter_id, first = meter_ids[0], day.first_isp
    pipeline.ingest([read(meter_id, first + i, 10 * i) for i in (0, 1, 3, 4)])
    assert [r.isp for r in stored(store, meter_id, day)] == [first, first + 3]


def test_ingest_counts_when_meter_is_unknown(pipeline, day):
    report = pipeline.ingest([read(b"\xff" * 32, day.first_isp)] * 3)
    assert (report.accepted, report.rejected) == ([], Counter({Rejection.UNKNOWN_METER: 3}))


def test_ingest_of_others_is_unaffected_when_one_meter_floods(pipeline, store, meter_ids, day):
    flood, honest = meter_ids[:2]
    first = day.first_isp
    pipeline.ingest([read(flood, first), read(honest, first)])
    report = pipeline.ingest([read(flood, first + 1, 2**31)] * 1000 + [read(honest, first + 1, 7)])
    assert [row.meter_id for row in report.accepted] == [honest]
    assert report.rejected == Counter({Rejection.IMPLAUSIBLE: 1, Rejection.DUPLICATE: 999})


def test_ingest_goes_on_without_gap_when_restarted(pipeline, store, points, signer, clock, meter_ids, day):
    meter_id, first = meter_ids[0], day.first_isp
    pipeline.ingest([read(meter_id, first, 10), read(meter_id, first + 1, 20)])
    restarted = MeteringPipeline(store, points, signer, clock)
    assert len(restarted.ingest([read(meter_id, first + 2, 33)]).accepted) == 1
    assert [r.import_wh for r in stored(store, meter_id, day)] == [10, 13]


def test_ingest_can_be_repeated_when_store_fails(pipeline, store, meter_ids, day, monkeypatch):
    meter_id, first = meter_ids[0], day.first_isp
    pipeline.ingest([read(meter_id, first)])
    poll = [read(meter_id, first + 1, 5)]
    with monkeypatch.context() as patch:
        patch.setattr("oracles.pipeline.save_register_states", _fail)
        with pytest.raises(TransientError):
            pipeline.ingest(poll)
    assert stored(store, meter_id, day) == []
    assert len(pipeline.ingest(poll).accepted) == 1
    with store.read() as connection:
        assert load_register_states(connection)[meter_id].boundary == first + 1


def _fail(*_):
    raise TransientError("database or disk is full")


def test_ingest_raises_when_device_key_is_missing(store, points, clock, meter_ids, day, domain):
    pipeline = MeteringPipeline(store, points, GatewayKeys(domain, {}), clock)
    pipeline.ingest([read(meter_ids[0], day.first_isp)])
    with pytest.raises(PermanentError, match="no device key"):
        pipeline.ingest([read(meter_ids[0], day.first_isp + 1, 1)])
