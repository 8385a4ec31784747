"""The MQTT source on real brokers: TLS, credentials, kept sessions, acknowledgement after storing, reconnecting.

Mosquitto and Aedes differ in what they say when they refuse and in what of a kept session comes first (decision 0042):
each test runs with both. What Mosquitto alone can do is in ``test_mosquitto.py``.
"""

import asyncio
import json
import queue
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from offchain.domain.errors import DomainError, PermanentError, TransientError
from oracles.clock import SystemClock, unix
from oracles.downlink import Setpoints
from oracles.simulators.mqtt_device import MqttDeviceSimulator
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from oracles.sources.config import Secret
from oracles.sources.mqtt import MqttConfig, MqttSource, MqttTls
from oracles.sources.port import DeviceStatus, MeterReading, Observation, Quantity
from oracles.sources.smx import SmxMeter
from tests.integration.listening import (
    BATTERY,
    METER,
    ROUND,
    SCHEDULE,
    TIME_OUT_S,
    boundary,
    collect,
    connect_once,
    publish_one,
    publish_rounds,
    registers,
    source_at,
    steered,
)
from tests.utils.broker import AEDES, MOSQUITTO, make_certificates, running_broker

PREFIX = "BBB6038/SMX"
REFUSED = r"(bad user name or password|not authorized) \(check username and password\)"
"""Aedes names the reason, Mosquitto does not."""


@pytest.fixture(scope="module", params=[pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto), AEDES])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def broker(tmp_path_factory, kind):
    with running_broker(tmp_path_factory.mktemp("broker"), kind=kind) as broker:
        yield broker


def test_values_come_when_meter_and_vehicle_publish(broker):
    def publish():
        with SmxPublisher(broker.host, broker.port) as publisher:
            publisher.publish("live/SMX", SmxState(import_wh=5000, active_w=(4280.0, 0.0, 0.0)))
            body = {"vehicleID": "-LRG", "batteryPerc": "64", "status": "charging", "timestamp": "2019-06-24 08:17:08"}
            publisher.publish_json("live/ev", {"data": body})

    source = source_at(broker, "live", keep_session=False)
    before = unix(SystemClock())
    values = asyncio.run(collect(source, ROUND + 2, then=publish))
    reading = next(value for value in values if isinstance(value, MeterReading))
    assert (reading.import_register_wh, reading.export_register_wh, reading.meter_clock) == (5000, 0, None)
    assert before <= reading.read_at <= unix(SystemClock())
    power = next(
        v for v in values if isinstance(v, Observation) and (v.quantity, v.phase) == (Quantity.ACTIVE_POWER, 1)
    )
    assert power.value == 4280.0
    charge, status = values[-2:]
    assert charge[:5] == ("zoe", Quantity.STATE_OF_CHARGE, 0, 64.0, 1_561_357_028)
    assert status.value == DeviceStatus.CHARGING
    assert source.refused == {} and source.received == 22


def test_values_of_an_absence_come_dated_when_session_was_kept(broker):
    asyncio.run(connect_once(source_at(broker, "away")))
    publish_rounds(broker, "away", range(1, 4))
    values = asyncio.run(collect(source_at(broker, "away"), 3 * ROUND))
    assert registers(values) == [1000, 2000, 3000]
    readings = [value for value in values if isinstance(value, MeterReading)]
    moments = [int(boundary(number).timestamp()) for number in (1, 2, 3)]
    assert [reading.read_at for reading in readings] == moments, "when measured, not when received"


def test_values_of_an_absence_do_not_come_when_arrival_would_date_them(broker):
    asyncio.run(connect_once(source_at(broker, "undated", keep_session=False)))
    publish_rounds(broker, "undated", [1], dated=False)
    source = source_at(broker, "undated", keep_session=False)
    values = asyncio.run(collect(source, ROUND, then=lambda: publish_rounds(broker, "undated", [2], dated=False)))
    assert registers(values) == [2000]


def test_values_come_again_when_they_were_not_taken(broker):
    def publish(number):
        with SmxPublisher(broker.host, broker.port) as publisher:
            publisher.publish_snapshot("again/SMX", SmxState(import_wh=1000 * number), measured_at=boundary(number))

    first = asyncio.run(collect(source_at(broker, "again"), ROUND, take=False, then=lambda: publish(1)))
    second = asyncio.run(collect(source_at(broker, "again"), ROUND))
    assert registers(first) == registers(second) == [1000]
    third = asyncio.run(collect(source_at(broker, "again"), ROUND, then=lambda: publish(2)))
    assert registers(third) == [2000], "what was taken does not come again"


def test_values_are_complete_when_consumer_is_slower_than_the_limit(broker):
    async def slowly():
        source = source_at(broker, "slow", max_unstored=8)
        publishing = threading.Thread(target=publish_rounds, args=(broker, "slow", range(1, 21)))
        values, untaken = [], 0
        async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
            first = asyncio.ensure_future(anext(stream))
            while not source.connected:
                await asyncio.sleep(0.02)
            publishing.start()
            values.append(await first)
            await asyncio.to_thread(publishing.join)
            assert 8 <= source.received < 20, "reading pauses, the broker keeps the rest"
            while len(values) < 20 * ROUND:
                untaken += 1
                if untaken == 3:
                    await asyncio.sleep(0.001)
                    source.taken(untaken)
                    untaken = 0
                values.append(await anext(stream))
        return values

    assert registers(asyncio.run(slowly())) == [1000 * number for number in range(1, 21)]


def test_values_raise_when_credentials_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("SITE_MQTT_PASSWORD", "wrong")
    with running_broker(tmp_path, kind=kind, username="site", password="right") as broker:
        source = source_at(broker, "guest", username="site", password=Secret(env="SITE_MQTT_PASSWORD"))
        with pytest.raises(PermanentError, match=REFUSED):
            asyncio.run(collect(source, 1))
        with pytest.raises(PermanentError, match=REFUSED):
            asyncio.run(source.probe())
        monkeypatch.setenv("SITE_MQTT_PASSWORD", "right")
        assert asyncio.run(source.probe()).endswith("connected as site, 4 subscriptions")


def test_probe_raises_when_topic_is_forbidden(tmp_path, kind):
    with (
        running_broker(tmp_path, kind=kind, forbidden="denied/ev") as broker,
        pytest.raises(PermanentError, match="may not subscribe to denied/ev"),
    ):
        asyncio.run(source_at(broker, "denied").probe())


def test_values_come_over_tls_when_both_sides_show_certificates(tmp_path, kind):
    certificates = make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    own = {"certificate": certificates.client_certificate, "key": certificates.client_key}
    with running_broker(tmp_path, kind=kind, certificates=certificates) as broker:
        source = source_at(broker, "tls", tls=MqttTls(ca=certificates.ca, **own))
        assert "connected as anonymous" in asyncio.run(source.probe())
        context = MqttTls(ca=certificates.ca, **own).context()

        def publish():
            with SmxPublisher(broker.host, broker.port, tls=context) as publisher:
                for number in range(1, 11):
                    publisher.publish("tls/SMX", SmxState(import_wh=1000 * number), measured_at=boundary(number))

        values = asyncio.run(collect(source, 10 * ROUND, then=publish))
        assert registers(values) == [1000 * number for number in range(1, 11)]
        with pytest.raises(TransientError, match=r"certificate of the broker not trusted \(check tls.ca"):
            asyncio.run(source_at(broker, "tls", tls=MqttTls(ca=other.ca, **own)).probe())
        with pytest.raises(TransientError, match=r"connection lost|TLS handshake failed") as caught:
            asyncio.run(source_at(broker, "tls", tls=MqttTls(ca=certificates.ca)).probe())
        assert "another tls.certificate?" in caught.value.hint


def test_probe_raises_when_nothing_listens(tmp_path, kind):
    with running_broker(tmp_path, kind=kind) as broker:
        pass
    with pytest.raises(TransientError, match="connection refused"):
        asyncio.run(source_at(broker, "nobody").probe())


@pytest.mark.parametrize("tls", [None, MqttTls()])
def test_probe_says_what_it_may_be_when_broker_hangs_up_before_the_first_packet(monkeypatch, tls):
    """A broker that does not like a certificate may hang up while the client still writes its first packet."""
    sending = Client._send_connect

    def late(client, *arguments):
        time.sleep(0.2)  # the reset is there before the packet goes out
        return sending(client, *arguments)

    monkeypatch.setattr(Client, "_send_connect", late)
    monkeypatch.setattr(Client, "tls_set_context", lambda client, context: None)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            accepted, _ = server.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        config = MqttConfig(
            host="127.0.0.1", port=server.getsockname()[1], client_id="early", tls=tls, steered=(BATTERY,)
        )
        with pytest.raises(TransientError, match="connection lost") as caught:
            asyncio.run(config.source(SystemClock()).probe())
        thread.join()
    assert "want TLS on this port, or another tls.certificate?" in caught.value.hint


@contextmanager
def heard(broker, topic):
    """What is published on a topic, retained or not, while this lasts."""
    messages, there = queue.Queue(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: there.set()
    client.on_message = lambda _, __, message: messages.put((message.payload.decode(), message.retain))
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        assert there.wait(TIME_OUT_S)
        yield lambda: messages.get(timeout=TIME_OUT_S)
    finally:
        client.disconnect()
        client.loop_stop()


def test_status_says_offline_when_source_left_and_when_it_was_killed(broker, tmp_path):
    """What it says itself when it leaves in order, the broker says by its last will when it does not."""
    status = "gridpact/willed/status"
    with heard(broker, status) as said:
        asyncio.run(connect_once(source_at(broker, "willed")))
        assert [said(), said()] == [("online", False), ("offline", False)]
        telemetry = {"topic": "willed/ev", "device_id": "zoe", "timezone": "Europe/Rome"}
        text = json.dumps({"host": broker.host, "port": broker.port, "client_id": "willed", "telemetry": [telemetry]})
        process = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, text, str(tmp_path / "none")],
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        # A broker that sees the socket close before it has read the farewell says "offline" as well.
        assert next(word for word in iter(said, None) if word[0] != "offline") == ("online", False)
        process.kill()
        process.wait()
        assert said() == ("offline", False)
    with heard(broker, status) as said:
        assert said() == ("offline", True), "for whoever asks later"


def test_values_go_on_when_broker_was_restarted(tmp_path, caplog, kind):
    caplog.set_level("INFO", "oracles.sources.mqtt")

    async def scenario():
        values = []
        with running_broker(tmp_path, kind=kind) as broker:
            source = source_at(broker, "restart")
            stream = source.values()
            first = asyncio.ensure_future(anext(stream))
            while not source.connected:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(publish_rounds, broker, "restart", [1])
            values.append(await first)
            values += [await anext(stream) for _ in range(ROUND - 1)]
            clock_object = ("restart/SMX/LD01/0-0-1-0-0-255/-2", "2026-01-01 00:15:05")
            await asyncio.to_thread(publish_one, broker, *clock_object)
        following = asyncio.ensure_future(anext(stream))
        while source.connected:
            await asyncio.sleep(0.02)
        source.taken(ROUND)  # too late for the lost connection: must not disturb the next
        with running_broker(tmp_path, kind=kind, port=broker.port):
            while not source.connected:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(publish_one, broker, "restart/SMX/LD01/1-1-14-7-0-255/-2", "050.000")
            await asyncio.to_thread(publish_rounds, broker, "restart", [2])
            values.append(await following)
            values += [await anext(stream) for _ in range(ROUND - 1)]
            source.taken(ROUND)
            await stream.aclose()
        assert source.refused == {"undated": 1}, "the clock before the restart dates nothing after it"
        return values

    async def bounded():
        async with asyncio.timeout(TIME_OUT_S):
            return await scenario()

    assert registers(asyncio.run(bounded())) == [1000, 2000]
    told = [record.levelname for record in caplog.records]
    assert told == ["INFO", "WARNING", "INFO"], "that it broke and that it recovered, not every attempt"


CONSUMER = """
import asyncio, os, sys
from oracles.clock import SystemClock
from oracles.sources.mqtt import MqttConfig, MqttSource
from oracles.sources.port import MeterReading

async def main():
    source = MqttSource(MqttConfig.model_validate_json(sys.argv[1]), SystemClock())
    print("started", flush=True)
    with open(sys.argv[2], "ab", buffering=0) as file:
        async for value in source.values():
            if isinstance(value, MeterReading):
                file.write(b"%d\\n" % value.import_register_wh)
                os.fsync(file.fileno())
            source.taken(1)

asyncio.run(main())
"""


def test_no_reading_is_lost_when_the_process_is_killed_at_random_moments(broker, tmp_path):
    rounds, rng = 120, random.Random(4)
    stored = tmp_path / "stored"
    config = MqttConfig(
        host=broker.host,
        port=broker.port,
        client_id="killed",
        smx=(SmxMeter(prefix="killed/SMX", device_id="feeder", meter_id=METER),),
    )
    text = json.dumps(config.model_dump(mode="json", exclude={"smx"}) | {"smx": [_plain(config.smx[0])]})
    asyncio.run(connect_once(MqttSource(config, SystemClock())))

    def publish():
        with SmxPublisher(broker.host, broker.port) as publisher:
            for number in range(1, rounds + 1):
                state = SmxState(import_wh=1000 * number)
                publisher.publish_snapshot("killed/SMX", state, measured_at=boundary(number))
                pause.wait(0.05)

    pause = threading.Event()
    thread = threading.Thread(target=publish)
    thread.start()
    kills = 0
    try:
        while thread.is_alive() or kills < 5:
            process = subprocess.Popen(
                [sys.executable, "-c", CONSUMER, text, str(stored)],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            process.stdout.readline()
            try:
                process.wait(rng.uniform(0.05, 0.5))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            process.stdout.close()
    finally:
        pause.set()
        thread.join()
    seen = set(map(int, stored.read_text().split())) if stored.exists() else set()

    async def rest():
        source = MqttSource(config, SystemClock())
        found = set()
        async with asyncio.timeout(TIME_OUT_S), aclosing(source.values()) as stream:
            while len(seen | found) < rounds:
                value = await anext(stream)
                if isinstance(value, MeterReading):
                    found.add(value.import_register_wh)
        return found

    assert seen | asyncio.run(rest()) == {1000 * number for number in range(1, rounds + 1)}
    assert kills >= 5 and seen


def _plain(meter):
    return {"prefix": meter.prefix, "device_id": meter.device_id, "meter_id": meter.meter_id.hex()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smx": (), "telemetry": ()}, "nothing to subscribe to"),
        ({"password": {"env": "X"}}, "a password needs a username"),
        ({"password": {"env": "X", "file": "y"}, "username": "u"}, "name either a file, an environment variable"),
        ({"tls": {"certificate": "c.pem"}}, "needs both certificate and key"),
        ({"telemetry": [{"topic": "a/+", "device_id": "x"}]}, "pattern"),
        ({"telemetry": [{"topic": "a", "device_id": "x", "timezone": "Rome"}]}, "no time zone is called 'Rome'"),
        ({"smx": [{"prefix": "a", "device_id": "x", "meter_id": "12"}]}, "32 bytes"),
        ({"smx": [{"prefix": "a", "device_id": "x"}] * 2}, "topic a is given twice"),
        ({"smx": [{"prefix": "a", "device_id": "x", "dated_by": "arrival"}]}, "needs keep_session = false"),
        ({"client_id": "x" * 24}, "at most 23"),
        ({"pasword": "secret"}, "Extra inputs"),
    ],
)
def test_config_is_refused_when_it_cannot_work(change, message):
    good = {"host": "broker", "client_id": "site", "smx": [{"prefix": PREFIX, "device_id": "feeder"}]}
    with pytest.raises(ValidationError, match=message):
        MqttConfig.model_validate(good | change)


def test_downlink_is_acknowledged_when_the_device_repeats_its_schedule_and_only_then(broker):
    async def work(downlink):
        with MqttDeviceSimulator(broker.host, broker.port, BATTERY.topic) as device:
            device.deaf = True
            publish_one(broker, BATTERY.held, "{}")
            publish_one(broker, BATTERY.held, "no json")
            with pytest.raises(TransientError, match="did not repeat the schedule"):
                await downlink.send(SCHEDULE)
            device.deaf = False
            held = await downlink.send(SCHEDULE)
            assert (held.first_isp, held.isp_count) == (1_626_480, 2)
            assert device.setpoints_w == {1_626_480: -2_000, 1_626_481: 0}
        with pytest.raises(DomainError, match="for device steer/battery"):
            await downlink.send(Setpoints(bytes(32), 1, [0]))

    asyncio.run(steered(broker, "steer-1", work))


def test_downlink_gives_a_device_that_comes_later_the_newest_schedule(broker):
    async def work(downlink):
        for power_w in (-1_000, -3_000):
            with pytest.raises(TransientError, match="did not repeat"):
                await downlink.send(Setpoints(METER, 1_626_480, [power_w]))
        with MqttDeviceSimulator(broker.host, broker.port, BATTERY.topic) as device:
            while not device.setpoints_w:
                await asyncio.sleep(0.02)
            assert device.setpoints_w == {1_626_480: -3_000}

    asyncio.run(steered(broker, "steer-2", work))
