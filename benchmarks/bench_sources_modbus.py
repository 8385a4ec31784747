"""How fast are the Modbus and file sources: polls on loopback, telemetry of a SunSpec meter, decoding, CSV lines.

Writes ``benchmarks/results/sources_modbus.json``. The server runs in a process of its own, so that a rate is that of
the client; rates are per second of wall time and per second of CPU time of the client.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import date
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

from offchain.domain.isp import MarketDay
from oracles.clock import SystemClock
from oracles.simulators.sunspec_device import SimulatedModel, SunSpecDeviceSimulator
from oracles.sources.csv_file import EnergyCsvMapping, read_energy_csv
from oracles.sources.modbus import FRAMERS, Framing, ModbusEndpoint, ModbusTelemetrySource
from oracles.sources.register_map import Readout
from oracles.sources.sunspec import FoundModel, Identity, discover, telemetry_map
from oracles.sources.tabular import load_mapping

REPEAT = 5
POLLS = 1_000
WORDS = 20
CONNECTIONS = 4
BASE = 40_000
RESULT = Path(__file__).parent / "results" / "sources_modbus.json"
METER_VALUES = {"A": 12, "W": 2_500, "PhV": 231, "Hz": 50, "VAR": 120, "TotWhImp": 1_000_000, "TotWhExp": 2_000} | {
    f"{name}ph{phase}": value for name, value in (("A", 4), ("PhV", 231), ("W", 833), ("VAR", 40)) for phase in "ABC"
}
CHAIN = [SimulatedModel(1, {"SN": "M-1"}), SimulatedModel(203, METER_VALUES, {"PhV": -1, "Hz": -2})]


def serve(framing: Framing, pipe: Connection) -> None:
    """A SunSpec meter until the other side hangs up; the port goes through the pipe."""

    async def run() -> None:
        async with SunSpecDeviceSimulator(CHAIN, base=BASE, framing=framing) as device:
            chain = device.words()
            device.words = lambda: chain
            pipe.send(device.port)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(run())


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - wall, time.process_time() - cpu


async def polls(port: int, framing: Framing, connections: int) -> list[tuple[float, float]]:
    """Reads of 20 registers, as many at the same time as there are connections."""
    async with ModbusEndpoint("127.0.0.1", port, connections=connections, framing=framing) as endpoint:

        async def share() -> None:
            for _ in range(POLLS // connections):
                await endpoint.read(1, "holding", BASE, WORDS)

        async def all_shares() -> None:
            await asyncio.gather(*(share() for _ in range(connections)))

        await all_shares()
        return [await timed(all_shares) for _ in range(REPEAT)]


async def meter_telemetry(port: int) -> tuple[int, list[tuple[float, float]]]:
    """Reads of all telemetry of a SunSpec meter over one connection, decoded."""
    async with ModbusEndpoint("127.0.0.1", port, connections=1) as endpoint:
        register_map = telemetry_map((await discover(endpoint, 1))[1:])
        source = ModbusTelemetrySource(endpoint, 1, "meter", register_map, SystemClock(), every_s=1)

        async def run() -> None:
            for _ in range(POLLS // 4):
                await source.read()

        await run()
        return len(await source.read()), [await timed(run) for _ in range(REPEAT)]


async def decoding() -> tuple[int, list[tuple[float, float]]]:
    """The same values out of words in memory."""
    words = SunSpecDeviceSimulator(CHAIN, base=BASE).words()
    address = BASE + 2 + len(CHAIN[0].words()) + 2
    register_map = telemetry_map([FoundModel(203, address, 105, Identity("", "", "", "M-1"))])
    blocks = register_map.telemetry_blocks()
    held = [words[block.address - BASE : block.address - BASE + block.count] for block in blocks]

    async def run() -> None:
        for _ in range(POLLS):
            readout = Readout(blocks, held, "")
            for register in register_map.telemetry:
                readout.telemetry(register)

    await run()
    return len(register_map.telemetry), [await timed(run) for _ in range(REPEAT)]


async def csv_lines(meters: int) -> tuple[int, list[tuple[float, float]]]:
    """A day of many meters in the Terni format."""
    day, mapping = date(2019, 6, 14), load_mapping("terni", EnergyCsvMapping)
    names = {f"IT{number:06d}": number.to_bytes(32) for number in range(meters)}
    count = meters * MarketDay.of(day, mapping.zone).isp_count
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.csv"
        with path.open("w") as file:
            file.write("Smartmeter_id;Energy Absorbed;Energy Injected;Date\n")
            for name in names:
                file.writelines(f"{name};0,{i:03d};1,5;{day:%d-%m-%Y}\n" for i in range(96))

        async def run() -> None:
            content = read_energy_csv(path, mapping, names, 0)
            assert (len(content.values), content.bad) == (count, [])

        await run()
        return count, [await timed(run) for _ in range(REPEAT)]


def rates(count: int, seconds: list[tuple[float, float]]) -> dict[str, dict[str, float]]:
    def spread(values: list[float]) -> dict[str, float]:
        ordered = sorted(values)
        return {"median": round(statistics.median(ordered)), "min": round(ordered[0]), "max": round(ordered[-1])}

    return {
        "per_second_wall": spread([count / wall for wall, _ in seconds]),
        "per_second_cpu": spread([count / cpu for _, cpu in seconds]),
    }


def with_server(framing: Framing, measure: Callable[[int], Awaitable[object]]) -> object:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(framing, theirs))
    process.start()
    try:
        return asyncio.run(measure(ours.recv()))
    finally:
        ours.send(None)
        process.join()


def main() -> None:
    results: dict[str, object] = {"registers_per_poll": WORDS, "connections": CONNECTIONS, "n": REPEAT}
    for name, framing, connections in (
        ("polls_tcp", "tcp", CONNECTIONS),
        ("polls_tcp_one_connection", "tcp", 1),
        ("polls_rtu_one_connection", "rtu", 1),
    ):
        seconds = with_server(framing, lambda port, f=framing, c=connections: polls(port, f, c))
        results[name] = rates(POLLS, seconds)
    values, seconds = with_server("tcp", meter_telemetry)
    results["sunspec_meter_polls"] = {"values_per_poll": values} | rates(POLLS // 4, seconds)
    values, seconds = asyncio.run(decoding())
    results["telemetry_values_decoded"] = rates(POLLS * values, seconds)
    lines, seconds = asyncio.run(csv_lines(500))
    results["terni_csv_lines"] = {"lines": lines} | rates(lines, seconds)
    report = {
        "question": "polls of 20 registers on loopback, telemetry of a SunSpec meter, decoding, CSV lines",
        "machine": {
            "cpu_count": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "versions": {"python": platform.python_version(), "pymodbus": version("pymodbus")},
        "framers": {name: framer.value for name, framer in FRAMERS.items()},
        "results": results,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
