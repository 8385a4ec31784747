"""How many MQTT messages a second become observations: broker, network, decoding, delivery, acknowledgement.

Writes ``benchmarks/results/sources_mqtt.json``. The meters publish while the source is away, so that the broker holds
everything when the measured time begins: the time is the source's and the broker's, not the publisher's. Measured with
Mosquitto without limits; beside it with Mosquitto's own limit of messages in flight, and with Aedes.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
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
from tests.utils.broker import AEDES, MOSQUITTO, mosquitto, running_broker

METERS, ROUNDS, REPEAT = 50, 10, 5
IN_FLIGHT = 20
MESSAGES = METERS * ROUNDS * 22
OBSERVATIONS = METERS * ROUNDS * 19
READINGS = METERS * ROUNDS
BATCH = 200


async def drain(config: MqttConfig, count: int, batch: int) -> tuple[float, float]:
    """Take ``count`` values in batches; wall and CPU seconds from the first to the last."""
    source = MqttSource(config, SystemClock())
    observations = 0
    async with aclosing(source.values()) as stream:
        first = await anext(stream)
        wall, cpu = time.perf_counter(), time.process_time()
        observations += isinstance(first, Observation)
        for number in range(2, count + 1):
            observations += isinstance(await anext(stream), Observation)
            if number % batch == 0:
                source.taken(batch)
        source.taken(count % batch)
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


def run(folder: Path, kind: str = MOSQUITTO, settings: Sequence[str] = (), batch: int = BATCH) -> tuple[float, float]:
    with running_broker(folder, kind=kind, settings=settings) as broker:
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
        return asyncio.run(drain(config, OBSERVATIONS + READINGS, batch))


def main() -> None:
    limited = ["persistence false", "max_queued_messages 0", f"max_inflight_messages {IN_FLIGHT}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = [run(folder) for _ in range(REPEAT)]
        few = [run(folder, settings=limited, batch=IN_FLIGHT // 2) for _ in range(REPEAT)]
        aedes = [run(folder, AEDES) for _ in range(REPEAT)]
    version = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True).stdout.splitlines()[0].split()[-1]
    result = record(
        "sources_mqtt",
        question="microseconds from broker to observation per MQTT message, QoS 1, acknowledged after taking",
        data=f"{METERS} SMX meters, {ROUNDS} rounds of 22 topics, kept by Mosquitto {version} without limits; "
        f"values taken {BATCH} at a time",
        seed=None,
        values=[wall / MESSAGES * 1e6 for wall, _ in seconds],
        unit="us/message",
        packages=("paho-mqtt",),
        more={
            "messages_per_second_wall": _rate(wall for wall, _ in seconds),
            "messages_per_second_cpu": _rate(cpu for _, cpu in seconds),
            f"messages_per_second_wall_{IN_FLIGHT}_in_flight_taken_{IN_FLIGHT // 2}_at_a_time": _rate(
                w for w, _ in few
            ),
            "messages_per_second_wall_aedes": _rate(wall for wall, _ in aedes),
        },
    )
    print(f"{result['messages_per_second_wall']} messages/s, {result['messages_per_second_cpu']} per CPU second")


def _rate(seconds: Iterable[float]) -> int:
    """Messages a second, in the middle of the runs."""
    return round(MESSAGES / statistics.median(seconds))


if __name__ == "__main__":
    main()
