"""How fast is the metering oracle: polls, source to outbox, a pilot day, closing a day.

Writes ``benchmarks/results/oracle.json``. Rates are per second of wall time and, because other work on the
machine slows the first, per second of CPU time of this process.
"""

import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import date
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from offchain.chain.signatures import metering_domain
from offchain.domain.isp import MarketDay, isp_start
from offchain.store import open_store
from oracles.batching import Batcher
from oracles.clock import SimulatedClock
from oracles.coordinator import EndpointCoordinator
from oracles.gateway import SiteGateway
from oracles.normalise import MeteringPoint
from oracles.pipeline import MeteringPipeline
from oracles.signer import GatewayKeys
from oracles.simulators.modbus_meters import Fault, ModbusMeterSimulator
from oracles.sources.modbus import ModbusEndpoint, ModbusMeterSource
from oracles.sources.port import MeterReading
from oracles.sources.register_map import REFERENCE_MAP

SEED = 20160520
REPEAT = 5
DAY = MarketDay.of(date(2016, 5, 20))
OPERATOR = "0x" + "22" * 20
RESULT = Path(__file__).parent / "results" / "oracle.json"


def meters(count: int) -> list[bytes]:
    return [sha256(b"meter %d" % number).digest() for number in range(count)]


def keys_of(meter_ids: list[bytes]) -> GatewayKeys:
    return GatewayKeys(metering_domain(31337, "0x" + "11" * 20), {m: sha256(m).digest() for m in meter_ids})


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(samples: list[float]) -> dict[str, float]:
    low, *_, high = statistics.quantiles(samples, n=20, method="inclusive")
    rounded = (round(value, 3) for value in (statistics.median(samples), low, high))
    return dict(zip(("median", "p05", "p95"), rounded, strict=True)) | {"n": len(samples)}


def rates(count: int, seconds: list[tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {
        "per_second_wall": spread([count / wall for wall, _ in seconds]),
        "per_second_cpu": spread([count / cpu for _, cpu in seconds]),
    }


def durations(seconds: list[tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {"seconds_wall": spread([w for w, _ in seconds]), "seconds_cpu": spread([c for _, c in seconds])}


def source_to_outbox(folder: Path, meter_count: int, isps: int) -> tuple[float, float]:
    """Registers in memory to signed readings on disk and one intraday batch per ISP in the outbox."""
    meter_ids = meters(meter_count)
    clock = SimulatedClock(isp_start(DAY.first_isp))
    signer = keys_of(meter_ids)
    with open_store(folder / "rate.db") as store:
        points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in meter_ids]
        pipeline = MeteringPipeline(store, points, signer, clock)
        batcher = Batcher(store, OPERATOR, meter_ids, signer, clock)

        def run() -> None:
            for boundary in range(DAY.first_isp, DAY.first_isp + isps + 1):
                clock.advance_to(isp_start(boundary))
                step, now = boundary - DAY.first_isp, boundary * 900
                pipeline.ingest(MeterReading(m, now, now, 100 * step, 3 * step, False, 2**32) for m in meter_ids)
                if step:
                    assert batcher.close_isp(boundary - 1).leaf_count == meter_count

        return timed(run)


def close_day(folder: Path, meter_count: int) -> tuple[float, float]:
    """A day of readings on disk to signed meter-days and one batch in the outbox."""
    meter_ids = meters(meter_count)
    clock = SimulatedClock(isp_start(DAY.first_isp))
    signer = keys_of(meter_ids)
    with open_store(folder / "day.db") as store:
        points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in meter_ids]
        pipeline = MeteringPipeline(store, points, signer, clock)
        accepted = 0
        for boundary in range(DAY.first_isp, DAY.end_isp + 1):
            clock.advance_to(isp_start(boundary))
            now, step = boundary * 900, boundary - DAY.first_isp
            readings = (MeterReading(m, now, now, 100 * step, 3 * step, False, 2**32) for m in meter_ids)
            accepted += len(pipeline.ingest(readings).accepted)
        assert accepted == meter_count * DAY.isp_count
        return timed(lambda: Batcher(store, OPERATOR, meter_ids, signer, clock).close_day(DAY))


async def pilot_day(folder: Path, meter_count: int, silent: int) -> tuple[float, float]:
    """97 boundaries of real Modbus, server and client in this process, to the closed day.

    The first ``silent`` meters do not answer during six hours; the time-out is 0.1 s.
    """
    meter_ids = meters(meter_count)
    clock = SimulatedClock(isp_start(DAY.first_isp))
    rng = random.Random(SEED)
    signer = keys_of(meter_ids)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            ModbusMeterSimulator(meter_ids, clock=clock, seed=SEED, units_per_server=100)
        )
        store = stack.enter_context(open_store(folder / "pilot.db"))
        groups: dict[int, list[ModbusMeterSource]] = {}
        endpoints: dict[int, ModbusEndpoint] = {}
        for meter_id in meter_ids:
            host, port, unit_id = simulator.address_of(meter_id)
            if port not in endpoints:
                endpoints[port] = await stack.enter_async_context(ModbusEndpoint(host, port, timeout_s=0.1))
            source = ModbusMeterSource(endpoints[port], unit_id, meter_id, REFERENCE_MAP, clock)
            groups.setdefault(port, []).append(source)
            energy_wh = [(rng.randrange(2_000), rng.randrange(500)) for _ in DAY.isps]
            simulator.load_profile(meter_id, DAY.first_isp, energy_wh)
        points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in meter_ids]
        pipeline = MeteringPipeline(store, points, signer, clock)
        gateway = SiteGateway([EndpointCoordinator(group) for group in groups.values()], pipeline, clock)
        wall, cpu = time.perf_counter(), time.process_time()
        for boundary in range(DAY.first_isp, DAY.end_isp + 1):
            hour = (boundary - DAY.first_isp) / 4
            if hour in (6, 12):
                for meter_id in meter_ids[:silent]:
                    simulator.set_fault(meter_id, Fault.SILENT if hour == 6 else None)
            simulator.advance_to(boundary)
            await gateway.read_boundary()
        Batcher(store, OPERATOR, meter_ids, signer, clock).close_day(DAY)
        return time.perf_counter() - wall, time.process_time() - cpu


async def polls(meter_count: int, rounds: int) -> tuple[float, float]:
    """Reads of eight registers over four connections, server and client in this process."""
    meter_ids = meters(meter_count)
    clock = SimulatedClock(isp_start(DAY.first_isp))
    async with ModbusMeterSimulator(meter_ids, clock=clock, seed=SEED) as simulator:
        host, port, _ = simulator.address_of(meter_ids[0])
        async with ModbusEndpoint(host, port) as endpoint:
            sources = [
                ModbusMeterSource(endpoint, simulator.address_of(m).unit_id, m, REFERENCE_MAP, clock) for m in meter_ids
            ]
            coordinator = EndpointCoordinator(sources)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(rounds):
                await coordinator.poll()
            return time.perf_counter() - wall, time.process_time() - cpu


def repeated(work: Callable[[Path], tuple[float, float]], times: int = REPEAT) -> list[tuple[float, float]]:
    seconds = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            seconds.append(work(Path(folder)))
    return seconds


def main() -> None:
    results = {
        "modbus_polls": {"meters": 200} | rates(200 * 10, repeated(lambda _: asyncio.run(polls(200, 10)))),
        "source_to_outbox": {"meters": 1_000, "isps": 20, "target_per_second": 10_000}
        | rates(20_000, repeated(lambda folder: source_to_outbox(folder, 1_000, 20))),
        "close_day": {"meters": 1_000, "isps": 96} | durations(repeated(lambda f: close_day(f, 1_000), 3)),
        "pilot_day": {"meters": 153, "boundaries": 97, "target_seconds": 20}
        | durations(repeated(lambda folder: asyncio.run(pilot_day(folder, 153, 0)), 3)),
        "pilot_day_silent_meters": {"meters": 153, "silent": 3, "silent_hours": 6, "target_seconds": 20}
        | durations(repeated(lambda folder: asyncio.run(pilot_day(folder, 153, 3)), 3)),
    }
    report = {
        "question": "metering oracle: polls, source to outbox, closing a day, a pilot day over Modbus",
        "machine": {
            "cpu_count": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("pymodbus", "sqlalchemy", "coincurve")},
        "seed": SEED,
        "results": results,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
