"""How many MQTT messages a second become observations: broker, network, decoding, delivery, acknowledgement.

Writes ``benchmarks/results/sources_mqtt.json``. The meters publish while the source is away, so that the broker holds
everything when the measured time begins: the time is the source's and the broker's, not the publisher's.
"""

import asyncio
import sys
import tempfile
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _harness import record

from oracles.clock import SystemClock
from oracles.simulators.smx_meters import SmxPublisher, SmxState
from oracles.sources.mqtt import MqttConfig, MqttSource
from oracles.sources.port import Observation
from oracles.sources.smx import SmxMeter
from tests.utils.broker import running_broker

METERS, ROUNDS, REPEAT = 50, 10, 5
MESSAGES = METERS * ROUNDS * 22
OBSERVATIONS = METERS * ROUNDS * 19
READINGS = METERS * ROUNDS
BATCH = 200


async def drain(config: MqttConfig, count: int) -> tuple[float, float]:
    """Take ``count`` values in batches; wall and CPU seconds from the first to the last."""
    source = MqttSource(config, SystemClock())
    observations = 0
    async with aclosing(source.values()) as stream:
        first = await anext(stream)
        wall, cpu = time.perf_counter(), time.process_time()
        observations += isinstance(first, Observation)
        for number in range(2, count + 1):
            observations += isinstance(await anext(stream), Observation)
            if number % BATCH == 0:
                source.taken(BATCH)
        source.taken(count % BATCH)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        await asyncio.sleep(0.5)
    if observations != OBSERVATIONS:
        raise RuntimeError(f"{observations} observations instead of {OBSERVATIONS}")
    return wall, cpu


async def open_session(config: MqttConfig) -> None:
    source = MqttSource(config, SystemClock())
    async with aclosing(source.values()) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        while not source.connected:
            await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def run(folder: Path) -> tuple[float, float]:
    with running_broker(folder) as broker:
        meters = tuple(
            SmxMeter(prefix=f"BBB{number}/SMX", device_id=f"meter-{number}", meter_id=number.to_bytes(32, "big"))
            for number in range(METERS)
        )
        config = MqttConfig(host=broker.host, port=broker.port, client_id="bench", smx=meters, max_unstored=100_000)
        asyncio.run(open_session(config))
        with SmxPublisher(broker.host, broker.port) as publisher:
            for step in range(ROUNDS):
                moment = datetime.fromtimestamp(1_767_225_600 + 900 * step, UTC)
                for meter in meters:
                    publisher.publish(meter.prefix, SmxState(import_wh=1000 * step), measured_at=moment)
        return asyncio.run(drain(config, OBSERVATIONS + READINGS))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds = [run(Path(folder)) for _ in range(REPEAT)]
    result = record(
        "sources_mqtt",
        question="microseconds from broker to observation per MQTT message, QoS 1, acknowledged after taking",
        data=f"{METERS} SMX meters, {ROUNDS} rounds of 22 topics, kept by the broker; values taken {BATCH} at a time",
        seed=None,
        values=[wall / MESSAGES * 1e6 for wall, _ in seconds],
        unit="us/message",
        packages=("paho-mqtt",),
        more={
            "messages_per_second_wall": round(MESSAGES / sorted(wall for wall, _ in seconds)[REPEAT // 2]),
            "messages_per_second_cpu": round(MESSAGES / sorted(cpu for _, cpu in seconds)[REPEAT // 2]),
        },
    )
    print(f"{result['messages_per_second_wall']} messages/s, {result['messages_per_second_cpu']} per CPU second")


if __name__ == "__main__":
    main()
