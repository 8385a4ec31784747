"""An MQTT source on a broker, what is published for it, and what it makes of it."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from offchain.domain.errors import TransientError
from oracles.clock import SystemClock
from oracles.downlink import Setpoints
from oracles.downlink_mqtt import mqtt_downlinks
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from oracles.sources.mqtt import MqttConfig, MqttSource, SteeredTopic, TelemetryTopic
from oracles.sources.port import MeterReading
from oracles.sources.smx import SmxMeter

METER = sha256(b"smx").digest()
ROUND = 19 + 1
"""Values of a round, as topics or as a snapshot: 19 observations and one reading."""

BATTERY = SteeredTopic(topic="steer/battery", meter_id=METER)
SCHEDULE = Setpoints(METER, 1_626_480, [-2_000, 0])

TIME_OUT_S = 40


def source_at(broker, name, **more):
    dated_by = "meter" if more.get("keep_session", True) else "arrival"
    settings = {
        "smx": (SmxMeter(prefix=f"{name}/SMX", device_id="feeder", meter_id=METER, dated_by=dated_by),),
        "telemetry": (TelemetryTopic(topic=f"{name}/ev", device_id="zoe", timezone="Europe/Rome"),),
        **more,
    }
    return MqttSource(MqttConfig(host=broker.host, port=broker.port, client_id=name, **settings), SystemClock())


async def collect(source, count, *, take=True, then=lambda: None):
    """``count`` values; ``then`` runs in a thread as soon as the source is connected."""
    values = []
    async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
        first = asyncio.ensure_future(anext(stream))
        while not source.connected and not first.done():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        work = asyncio.create_task(asyncio.to_thread(then))
        values.append(await first)
        while len(values) < count:
            values.append(await anext(stream))
        await work
        if take:
            source.taken(count)
            await asyncio.sleep(0.1)
    return values


async def connect_once(source):
    """Let the broker know the session and its subscriptions."""
    async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
        first = asyncio.ensure_future(anext(stream))
        while not source.connected:
            await asyncio.sleep(0.02)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


def boundary(number):
    """Start of the ``number``-th ISP of a day."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * number)


def publish_rounds(broker, name, rounds, *, dated=True):
    with SmxPublisher(broker.host, broker.port) as publisher:
        for number in rounds:
            moment = boundary(number) if dated else None
            publisher.publish(f"{name}/SMX", SmxState(import_wh=1000 * number), measured_at=moment)


def publish_one(broker, topic, text):
    with SmxPublisher(broker.host, broker.port) as publisher:
        publisher.send([(topic, text)])


def registers(values):
    return [value.import_register_wh for value in values if isinstance(value, MeterReading)]


async def steered(broker, name, work):
    """``work(downlink)`` while a source that steers is connected."""
    config = MqttConfig(host=broker.host, port=broker.port, client_id=name, timeout_s=2, steered=(BATTERY,))
    source = config.source(SystemClock())
    with pytest.raises(TransientError, match="not connected"):
        await mqtt_downlinks(source, SystemClock())[METER].send(SCHEDULE)
    async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
        reading = asyncio.ensure_future(anext(stream))
        while not source.connected:
            await asyncio.sleep(0.02)
        await work(mqtt_downlinks(source, SystemClock())[METER])
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
