"""The MQTT source with what Mosquitto has and Aedes has not: sessions on disk, limits of what is in flight and queued.

persistence: broker ends in order, or loses its power → what it held for the absent source comes, once; a device that
connects afterwards finds its schedule
limits as installed (20 in flight): nothing is lost while the source stores what came, and it does not stand still
more than ``max_queued_messages`` in an absence → the newest are lost, the oldest come
rules that forbid to read a topic: the subscription is accepted, nothing comes, and the source does not notice
"""

import asyncio
import time
from contextlib import aclosing

import pytest

from offchain.domain.errors import TransientError
from oracles.simulators.mqtt_device import MqttDeviceSimulator
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from tests.integration.listening import (
    BATTERY,
    ROUND,
    SCHEDULE,
    TIME_OUT_S,
    boundary,
    collect,
    connect_once,
    publish_one,
    registers,
    source_at,
    steered,
)
from tests.utils.broker import MOSQUITTO, running_broker

pytestmark = pytest.mark.mosquitto


def publish_snapshots(broker, name, rounds):
    """One message a round, so that messages can be counted."""
    with SmxPublisher(broker.host, broker.port) as publisher:
        for number in rounds:
            publisher.publish_snapshot(f"{name}/SMX", SmxState(import_wh=1000 * number), measured_at=boundary(number))


def on_disk(folder, *more):
    return ["persistence true", f"persistence_location {folder}/", *more]


def test_what_waits_comes_once_when_broker_ended_in_order(tmp_path):
    settings = on_disk(tmp_path)
    with running_broker(tmp_path, kind=MOSQUITTO, settings=settings) as broker:
        taken = asyncio.run(
            collect(source_at(broker, "disk"), ROUND, then=lambda: publish_snapshots(broker, "disk", [1]))
        )
        publish_snapshots(broker, "disk", [2])

        async def in_vain(downlink):
            with pytest.raises(TransientError, match="did not repeat"):
                await downlink.send(SCHEDULE)

        asyncio.run(steered(broker, "steering", in_vain))
    with running_broker(tmp_path, kind=MOSQUITTO, port=broker.port, settings=settings):
        then = asyncio.run(collect(source_at(broker, "disk"), ROUND))
        with MqttDeviceSimulator(broker.host, broker.port, BATTERY.topic) as device:
            end = time.monotonic() + TIME_OUT_S
            while not device.setpoints_w and time.monotonic() < end:
                time.sleep(0.02)
            assert device.setpoints_w == {1_626_480: -2_000, 1_626_481: 0}
    assert (registers(taken), registers(then)) == ([1000], [2000])


def test_what_waits_comes_when_broker_lost_its_power_and_saves_every_change(tmp_path):
    settings = on_disk(tmp_path, "autosave_on_changes true", "autosave_interval 1")
    with running_broker(tmp_path, kind=MOSQUITTO, settings=settings) as broker:
        asyncio.run(connect_once(source_at(broker, "power")))
        publish_snapshots(broker, "power", [1, 2, 3])
        publish_one(broker, "elsewhere", "the change after the last one that counts")
        broker.kill()
    with running_broker(tmp_path, kind=MOSQUITTO, port=broker.port, settings=settings):
        values = asyncio.run(collect(source_at(broker, "power"), 3 * ROUND))
    assert registers(values) == [1000, 2000, 3000]


async def take_until(source, register_wh):
    """All values up to a register, each taken as soon as it is there."""
    values = []
    async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
        while register_wh not in registers(values[-1:]):
            values.append(await anext(stream))
            source.taken(1)
    return values


def test_values_are_complete_when_broker_allows_twenty_messages_in_flight(tmp_path):
    rounds = 100
    with running_broker(tmp_path, kind=MOSQUITTO, settings=["max_inflight_messages 20"]) as broker:
        asyncio.run(connect_once(source_at(broker, "flight")))
        publish_snapshots(broker, "flight", range(1, rounds + 1))
        untaken = asyncio.run(collect(source_at(broker, "flight"), 20 * ROUND, take=False))
        values = asyncio.run(take_until(source_at(broker, "flight"), 1000 * rounds))
    assert registers(untaken) == [1000 * number for number in range(1, 21)]
    assert registers(values) == [1000 * number for number in range(1, rounds + 1)]


def test_the_newest_are_lost_when_more_was_published_than_broker_queues(tmp_path):
    settings = ["max_inflight_messages 20", "max_queued_messages 30"]
    with running_broker(tmp_path, kind=MOSQUITTO, settings=settings) as broker:
        asyncio.run(connect_once(source_at(broker, "queue")))
        publish_snapshots(broker, "queue", range(1, 61))
        source = source_at(broker, "queue")

        async def take_all():
            taking = asyncio.create_task(take_until(source, 99_000))
            while source.received < 30:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(publish_snapshots, broker, "queue", [99])
            return await taking

        values = asyncio.run(take_all())
    assert registers(values) == [1000 * number for number in range(1, 31)] + [99_000]


def test_nothing_comes_and_probe_is_content_when_rules_forbid_to_read(tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite #\ntopic deny silent/SMX/#\n")
    with running_broker(tmp_path, kind=MOSQUITTO, settings=[f"acl_file {rules}"]) as broker:
        source = source_at(broker, "silent")
        assert asyncio.run(source.probe()).endswith("4 subscriptions")

        def publish():
            publish_snapshots(broker, "silent", [1])
            publish_one(
                broker,
                "silent/ev",
                '{"data": {"vehicleID": "zoe", "batteryPerc": "64", "timestamp": "2019-06-24 08:17:08"}}',
            )

        values = asyncio.run(collect(source, 1, then=publish))
    assert [value.device_id for value in values] == ["zoe"]
