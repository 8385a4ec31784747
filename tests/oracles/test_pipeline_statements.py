"""MeteringPipeline.ingest of energies that devices state, and of hostile values.

new → reading, flagged; same again → duplicate; other value → correction, old one kept, next version of the day
published intraday → correction refused; future, out of service, impossible, flood → refused, others unaffected
device that signs itself: its signature is kept; another key, another value, none → refused
gap in registers → estimates beside, never readings; sum of the gap is exact
observation → near-real-time channel only
"""

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import select

from offchain.chain.signatures import address_of, signing_key
from offchain.domain.isp import isp_start
from offchain.store.batches import meter_days_of
from offchain.store.readings import estimates_of_meter, load_rejections, readings_of_meter
from offchain.store.tables import superseded_readings
from oracles.batching import Batcher
from oracles.limits import RateLimit
from oracles.live import LiveChannel
from oracles.normalise import MeteringPoint, Quality, Rejection
from oracles.pipeline import UNKNOWN, MeteringPipeline
from oracles.sources.port import IntervalEnergy, MeterReading, Observation, Quantity, SignedEnergy

OPERATOR = "0x" + "22" * 20


@pytest.fixture
def clock(clock, day):
    clock.advance_to(isp_start(day.end_isp))
    return clock


@pytest.fixture
def pipeline(store, points, signer, clock, domain):
    return MeteringPipeline(store, points, signer, clock, domain=domain, source="mqtt")


@pytest.fixture
def batcher(store, signer, clock, meter_ids):
    return Batcher(store, OPERATOR, meter_ids, signer, clock)


def held(store, meter_id, day):
    with store.read() as connection:
        return readings_of_meter(connection, meter_id, day.first_isp, day.end_isp)


def stated(meter_id, isp, import_wh, export_wh=0, *, after_s=5):
    return IntervalEnergy(meter_id, isp, import_wh, export_wh, (isp + 1) * 900 + after_s)


def test_ingest_stores_flagged_reading_when_energy_is_stated(pipeline, store, meter_ids, day):
    report = pipeline.ingest(
        [stated(meter_ids[0], day.first_isp, 250), stated(meter_ids[0], day.first_isp + 1, 9, after_s=7_200)]
    )
    on_time, late = held(store, meter_ids[0], day)
    assert report.accepted == [on_time, late]
    assert (on_time.import_wh, on_time.source) == (250, "mqtt")
    assert Quality(on_time.quality) == Quality.STATED
    assert Quality(late.quality) == Quality.STATED | Quality.LATE
    assert Quality(late.quality).reasons == [
        "energy stated by the device, not computed from its registers",
        "arrived late",
    ]


def test_ingest_counts_duplicate_when_the_same_energy_is_stated_again(pipeline, store, meter_ids, day):
    value = stated(meter_ids[0], day.first_isp, 250)
    assert pipeline.ingest([value, value]).rejected == Counter({Rejection.DUPLICATE: 1})
    assert pipeline.ingest([value]).rejected == Counter({Rejection.DUPLICATE: 1})
    assert len(held(store, meter_ids[0], day)) == 1


def test_ingest_corrects_and_the_day_gets_its_next_version_when_another_value_follows(
    pipeline, store, batcher, meter_ids, day, clock
):
    isp = day.first_isp + 3
    pipeline.ingest([stated(meter_ids[0], isp, 250)])
    first = batcher.close_day(day)
    clock.advance_to(isp_start(day.end_isp + 4))
    report = pipeline.ingest([stated(meter_ids[0], isp, 260, after_s=90_000)])
    second = batcher.close_day(day)
    (row,) = held(store, meter_ids[0], day)
    assert report.corrected == 1
    assert row.import_wh == 260
    assert Quality.CORRECTED in Quality(row.quality)
    assert (first.version, second.version) == (1, 2)
    with store.read() as connection:
        (old,) = connection.execute(select(superseded_readings)).all()
        values = {d.meter_id: d.values for d in meter_days_of(connection, second.id)}
    assert (old.import_wh, old.superseded_at) == (250, (day.end_isp + 4) * 900)
    assert values[meter_ids[0]][8 * 3 : 8 * 3 + 4] == (260).to_bytes(4)


def test_ingest_refuses_correction_when_the_signature_was_published(pipeline, store, batcher, meter_ids, day, clock):
    isp = day.first_isp
    pipeline.ingest([stated(meter_ids[0], isp, 250)])
    batcher.close_isp(isp)
    clock.advance_to(isp_start(day.end_isp + 1))
    report = pipeline.ingest(
        [stated(meter_ids[0], isp, 260, after_s=90_000), stated(meter_ids[1], isp, 70, after_s=90_000)]
    )
    assert report.rejected == Counter({Rejection.PUBLISHED: 1})
    assert [row.import_wh for row in held(store, meter_ids[0], day)] == [250]
    assert [row.import_wh for row in held(store, meter_ids[1], day)] == [70]  # late, and never published


@pytest.mark.parametrize(
    ("isps_ahead", "import_wh", "reason"),
    [
        (0, 250, Rejection.FUTURE),
        (9_000, 250, Rejection.FUTURE),
        (-1, 10**9, Rejection.IMPLAUSIBLE),
        (-1, -1, Rejection.IMPLAUSIBLE),
    ],
)
def test_ingest_refuses_and_others_are_unaffected_when_a_value_cannot_be(
    pipeline, store, meter_ids, day, isps_ahead, import_wh, reason
):
    report = pipeline.ingest(
        [stated(meter_ids[0], day.end_isp + isps_ahead, import_wh), stated(meter_ids[1], day.end_isp - 1, 5)]
    )
    assert report.rejected == Counter({reason: 1})
    assert held(store, meter_ids[0], day) == []
    assert [row.import_wh for row in held(store, meter_ids[1], day)] == [5]


def test_ingest_refuses_everything_of_a_meter_when_it_is_suspended(pipeline, store, meter_ids, day):
    isp = day.end_isp - 1
    pipeline.suspended = frozenset(meter_ids[:1])
    registers = MeterReading(meter_ids[0], day.end_isp * 900, None, 0, 0)
    report = pipeline.ingest([stated(meter_ids[0], isp, 250), registers, stated(meter_ids[1], isp, 5)])
    assert report.rejected == Counter({Rejection.SUSPENDED: 2})
    assert (held(store, meter_ids[0], day), len(held(store, meter_ids[1], day))) == ([], 1)
    pipeline.suspended = frozenset()
    assert len(pipeline.ingest([stated(meter_ids[0], isp, 250)]).accepted) == 1


def test_ingest_refuses_registers_when_they_are_read_in_the_future(pipeline, meter_ids, day):
    reading = MeterReading(meter_ids[0], (day.end_isp + 1) * 900, None, 0, 0)
    assert pipeline.ingest([reading]).rejected == Counter({Rejection.FUTURE: 1})


def test_ingest_keeps_meters_apart_when_a_meter_was_changed(store, signer, clock, meter_ids, day):
    change = day.first_isp + 10
    old, new = (
        MeteringPoint(meter_ids[0], 20_000, 0, end_isp=change),
        MeteringPoint(meter_ids[1], 20_000, 0, first_isp=change),
    )
    pipeline = MeteringPipeline(store, [old, new], signer, clock)
    registers = [
        MeterReading(m, b * 900, None, 10_000 * n + 7 * b, 0)
        for n, m in enumerate(meter_ids[:2])
        for b in range(day.first_isp, day.first_isp + 21)
    ]
    report = pipeline.ingest(registers)
    assert [row.isp for row in held(store, old.meter_id, day)] == list(range(day.first_isp, change))
    assert [row.isp for row in held(store, new.meter_id, day)] == list(range(change, day.first_isp + 20))
    assert report.rejected[Rejection.OUT_OF_SERVICE] == 20


def test_ingest_of_others_is_unaffected_when_one_meter_floods_a_limited_source(
    store, points, signer, clock, meter_ids, day
):
    pipeline = MeteringPipeline(store, points, signer, clock, limit=RateLimit(per_minute=10, burst=20))
    flood = [stated(meter_ids[0], day.first_isp + i % 96, i) for i in range(5_000)]
    report = pipeline.ingest([*flood, stated(meter_ids[1], day.first_isp, 7)])
    assert report.rejected == Counter({Rejection.FLOOD: 4_980})
    assert len(held(store, meter_ids[0], day)) == 20
    assert len(held(store, meter_ids[1], day)) == 1
    pipeline.save_rejections()
    with store.read() as connection:
        assert load_rejections(connection) == {(meter_ids[0], Rejection.FLOOD.value): 4_980}


def test_ingest_counts_strangers_together_when_they_are_many(pipeline, store, day):
    pipeline.ingest(stated(n.to_bytes(32), day.first_isp, 1) for n in range(1_000))
    assert pipeline.rejections == Counter({(UNKNOWN, Rejection.UNKNOWN_METER.value): 1_000})


@pytest.fixture
def self_signing(store, points, signer, clock, domain, secrets, meter_ids):
    """First meter signs itself."""
    key = address_of(signing_key(secrets[meter_ids[0]]))
    return MeteringPipeline(store, [replace(points[0], device_key=key), *points[1:]], signer, clock, domain=domain)


def test_ingest_keeps_the_device_signature_when_the_device_signs(self_signing, store, signer, meter_ids, day):
    isp = day.first_isp
    signature = signer.sign_reading(meter_ids[0], isp, 250, 3)
    self_signing.ingest([SignedEnergy(meter_ids[0], isp, 250, 3, (isp + 1) * 900, signature)])
    (row,) = held(store, meter_ids[0], day)
    assert row.signature == signature
    assert Quality(row.quality) == Quality.STATED | Quality.DEVICE_SIGNED


def test_ingest_refuses_when_the_device_signature_is_wrong(self_signing, store, signer, meter_ids, day):
    isp, own, other = day.first_isp, *meter_ids[:2]
    good = signer.sign_reading(own, isp, 250, 3)
    forged = [
        SignedEnergy(own, isp, 251, 3, isp * 900, good),  # other value
        SignedEnergy(own, isp + 1, 250, 3, isp * 900, good),  # replayed for another ISP
        SignedEnergy(own, isp, 250, 3, isp * 900, signer.sign_reading(other, isp, 250, 3)),  # other key
        SignedEnergy(own, isp, 250, 3, isp * 900, b"\0" * 65),
        IntervalEnergy(own, isp, 250, 3, isp * 900),  # not signed at all
        MeterReading(own, isp * 900, None, 0, 0),
        SignedEnergy(other, isp, 250, 3, isp * 900, good),  # of a meter that the gateway signs for
    ]
    report = self_signing.ingest([*forged, stated(other, isp, 5)])
    assert report.rejected == Counter({Rejection.BAD_SIGNATURE: len(forged)})
    assert held(store, own, day) == []
    assert len(held(store, other, day)) == 1


def test_ingest_keeps_estimates_beside_when_boundaries_were_not_read(pipeline, store, batcher, meter_ids, day):
    first = day.first_isp
    meter_id = meter_ids[0]
    for boundary, register_wh in ((first, 0), (first + 1, 100), (first + 4, 201), (first + 5, 230)):
        pipeline.ingest([MeterReading(meter_id, boundary * 900, None, register_wh, 0)])
    assert [row.isp for row in held(store, meter_id, day)] == [first, first + 4]
    with store.read() as connection:
        rows = estimates_of_meter(connection, meter_id, first, day.end_isp)
    assert [(row.isp, row.import_wh) for row in rows] == [(first + 1, 33), (first + 2, 34), (first + 3, 34)]
    batch = batcher.close_day(day)
    with store.read() as connection:
        values = {d.meter_id: d.values for d in meter_days_of(connection, batch.id)}[meter_id]
    assert values[8:32] == b"\xff" * 24  # missing for settlement
    pipeline.ingest([stated(meter_id, first + 2, 40)])
    with store.read() as connection:
        assert [row.isp for row in estimates_of_meter(connection, meter_id, first, day.end_isp)] == [
            first + 1,
            first + 3,
        ]


def test_ingest_gives_observations_to_the_live_channel_when_they_come(store, points, signer, clock, day):
    live = LiveChannel(store, clock)
    pipeline = MeteringPipeline(store, points, signer, clock, live=live)
    now = day.end_isp * 900
    report = pipeline.ingest([Observation("feeder", Quantity.VOLTAGE, 1, 231.5, now - 4, now)])
    assert (report.accepted, report.rejected) == ([], Counter())
    assert [value.value for value in live.latest("feeder")] == [231.5]
