"""From devices that speak on their own to signed energy on disk: exact per ISP, and once whatever comes twice."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from offchain.chain.signatures import metering_domain
from offchain.store import open_store
from offchain.store.readings import readings_of_meter
from oracles.clock import SimulatedClock
from oracles.normalise import MeteringPoint, Quality
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.simulators.ocpp_charge_points import SimulatedChargePoint
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from oracles.sources.mqtt import MqttConfig, MqttSource
from oracles.sources.ocpp_central import OcppCentral, OcppConfig
from oracles.sources.port import Observation
from oracles.sources.smx import SmxMeter
from tests.utils.broker import running_broker

METER = sha256(b"streaming").digest()
START = datetime(2026, 2, 1, 10, 0, tzinfo=UTC)
FIRST_ISP = int(START.timestamp()) // 900
TIME_OUT_S = 40


@pytest.fixture
def clock():
    return SimulatedClock(START)


@pytest.fixture
def pipeline(tmp_path, clock):
    keys = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), {METER: sha256(METER).digest()})
    with open_store(tmp_path / "site.db") as store:
        yield MeteringPipeline(store, [MeteringPoint(METER, 100_000, 100_000)], keys, clock)


def energies(pipeline):
    with pipeline.store.read() as connection:
        rows = readings_of_meter(connection, METER, FIRST_ISP, FIRST_ISP + 96)
    return [(row.isp - FIRST_ISP, row.import_wh, row.export_wh, Quality(row.quality)) for row in rows]


async def storing(source, pipeline, work):
    """Take values in, one call each, while ``work`` goes on and until four ISPs are there."""

    async def consume():
        async with aclosing(source.values()) as stream:
            async for value in stream:
                if not isinstance(value, Observation):
                    pipeline.ingest([value])
                source.taken(1)

    async def finish(consumer):
        await work
        while len(energies(pipeline)) < 4:
            await asyncio.sleep(0.01)
        consumer.cancel()

    async with asyncio.timeout(TIME_OUT_S), asyncio.TaskGroup() as group:
        consumer = group.create_task(consume())
        group.create_task(finish(consumer))


def test_energy_of_smx_meter_is_that_between_the_boundaries_when_it_speaks_every_five_minutes(
    tmp_path, clock, pipeline
):
    """The registers move by 100 Wh a minute, wrap once, and every message is published twice."""
    base = 10**9 - 2_500
    with running_broker(tmp_path) as broker:
        meters = (SmxMeter(prefix="m/SMX", device_id="feeder", meter_id=METER),)
        source = MqttSource(MqttConfig(host=broker.host, port=broker.port, client_id="store", smx=meters), clock)

        async def work():
            while not source.connected:
                await asyncio.sleep(0.02)
            with SmxPublisher(broker.host, broker.port) as publisher:
                for minute in range(0, 65, 5):
                    moment = START + timedelta(minutes=minute, seconds=3)
                    clock.advance_to(moment)
                    state = SmxState(import_wh=(base + 100 * minute) % 10**9, export_wh=10 * minute)
                    for _ in range(2):
                        await asyncio.to_thread(publisher.publish_snapshot, "m/SMX", state, measured_at=moment)
                    while source.received < 2 * (minute // 5 + 1):
                        await asyncio.sleep(0.01)

        asyncio.run(storing(source, pipeline, work()))
    assert energies(pipeline) == [
        (0, 1_500, 150, Quality.GOOD),
        (1, 1_500, 150, Quality.WRAPPED),
        (2, 1_500, 150, Quality.GOOD),
        (3, 1_500, 150, Quality.GOOD),
    ]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_energy_of_charge_point_is_complete_when_its_connection_was_lost_over_boundaries(
    version, tmp_path, clock, pipeline
):
    (tmp_path / "password").write_text("secret")
    point = {"id": "CP1", "device_id": "evse", "password": {"file": tmp_path / "password"}, "meters": {1: METER}}
    settings = {"host": "127.0.0.1", "port": 0, "sessions_file": tmp_path / "ocpp.db", "charge_points": [point]}
    central = OcppCentral(OcppConfig.model_validate(settings), clock)

    async def work():
        while not central.port:
            await asyncio.sleep(0.02)
        device = SimulatedChargePoint(
            f"ws://127.0.0.1:{central.port}/ocpp", "CP1", "secret", version=version, clock=clock
        )
        await device.connect()
        await device.boot()
        for quarter in range(5):
            clock.advance_to(START + timedelta(minutes=15 * quarter))
            if quarter == 1:
                await device.disconnect()
            if quarter == 4:
                await device.connect()
            device.connectors[1].import_wh = 1_000 + 1_800 * quarter
            await device.measure(1)
        await device.disconnect()

    asyncio.run(storing(central, pipeline, work()))
    assert [row[:3] for row in energies(pipeline)] == [(isp, 1_800, 0) for isp in range(4)]
