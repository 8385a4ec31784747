"""How does the oracle behave at scale: a day of up to 100,000 meters under one root, and the way from device to chain.

``python benchmarks/bench_oracle_scale.py [meters ...]`` writes ``benchmarks/results/oracle_scale.json``. Memory is by
how much the peak of a process that does nothing else grows above what it had before: while it closes the day, while it
serves the data behind the day, and while it proves a meter. Delay is from the moment at which the last meter of an ISP
has stated its energy to the moment at which the intraday batch of that ISP is final: 1 s blocks, 2 confirmations, no
waiting for late meters.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from offchain.chain.anvil import Anvil  # noqa: E402
from offchain.chain.signatures import metering_domain  # noqa: E402
from offchain.domain.isp import MarketDay, isp_start  # noqa: E402
from offchain.store import Store, open_store  # noqa: E402
from offchain.store.batches import BatchKind, BatchStatus, recent_batches  # noqa: E402
from oracles.batching import Batcher  # noqa: E402
from oracles.clock import SimulatedClock  # noqa: E402
from oracles.evidence import Evidence  # noqa: E402
from oracles.signer import GatewayKeys  # noqa: E402
from oracles.site import Site  # noqa: E402
from tests.oracles import siteworld  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "oracle_scale.json"
DAY = MarketDay.of(date(2016, 5, 20))
OPERATOR = "0x" + "22" * 20
SECONDS = 60


def fill_day(store: Store, meter_ids: list[bytes]) -> None:
    """A reading of every meter in every ISP, written directly: how long that takes is no part of the question."""
    connection = store.engine.raw_connection()
    connection.execute("PRAGMA synchronous=OFF")
    ordered = sorted(meter_ids)
    for isp in DAY.isps:
        connection.execute("BEGIN")
        rows = ((isp, meter_id, isp % 1_000, 3, 0, b"\0" * 65, 1, "bench") for meter_id in ordered)
        connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    connection.execute("PRAGMA synchronous=FULL")
    connection.close()


def ids(meters: int) -> list[bytes]:
    return [sha256(b"meter %d" % number).digest() for number in range(meters)]


def memory_mb(peak: bool = False) -> float:
    """Resident memory of this process, now or at most since :func:`measured` began."""
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def measured(work: Callable[[], object]) -> dict[str, float]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before, wall, cpu = memory_mb(), time.perf_counter(), time.process_time()
    work()
    return {
        "seconds_wall": round(time.perf_counter() - wall, 2),
        "seconds_cpu": round(time.process_time() - cpu, 2),
        "memory_before_mb": round(before, 1),
        "memory_growth_mb": round(memory_mb(peak=True) - before, 1),
    }


def close_day(store: Store, meters: int) -> dict[str, float]:
    """Seconds and memory to put a day of so many meters into the outbox."""
    meter_ids = ids(meters)
    clock = SimulatedClock(isp_start(DAY.end_isp))
    # One key for all: what keys cost is no part of the question.
    keys = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), {meter_ids[0]: sha256(b"key").digest()})
    keys._keys = dict.fromkeys(meter_ids, keys._keys[meter_ids[0]])
    batcher = Batcher(store, OPERATOR, meter_ids, keys, clock)
    return measured(lambda: batcher.close_day(DAY))


def serve_day(store: Store, meters: int) -> dict[str, float]:
    """Seconds and memory to serve the data behind the day, and to prove a meter and then another."""
    evidence, meter_ids = Evidence(store), ids(2)
    with store.read() as connection:
        (batch,) = recent_batches(connection, OPERATOR, 0)
    assert batch.leaf_count == meters
    size = 0

    def serve() -> None:
        nonlocal size
        size = sum(map(len, evidence.data_behind(batch.data_hash).parts))

    served = measured(serve)
    first, second = (measured(lambda m=m: evidence.prove(batch.root, m)) for m in meter_ids)
    return {
        "data_mb": round(size / 2**20, 1),
        "data_seconds_cpu": served["seconds_cpu"],
        "data_memory_growth_mb": served["memory_growth_mb"],
        "first_proof_seconds_cpu": first["seconds_cpu"],
        "first_proof_memory_growth_mb": first["memory_growth_mb"],
        "next_proof_seconds_cpu": second["seconds_cpu"],
    }


STEPS = {"fill": lambda store, meters: fill_day(store, ids(meters)), "close": close_day, "serve": serve_day}


def scale(meters: int) -> dict[str, object]:
    """Each step in a process of its own, so that none has memory that another left behind."""

    def run(step: str, path: Path) -> dict[str, float]:
        command = [sys.executable, __file__, "--step", step, str(meters), str(path)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.db"
        run("fill", path)
        return {"meters": meters, **run("close", path), **run("serve", path)}


def delays() -> dict[str, float]:
    """Seconds from the device to a final transaction."""
    stated: dict[int, float] = {}
    final: dict[int, float] = {}

    class Sender(siteworld.PatientSender):
        async def values(self):
            async for value in super().values():
                stated[value.isp] = time.monotonic()
                yield value

    async def main(folder: Path) -> None:
        config = siteworld.load(folder)
        clock = siteworld.FastClock(time.time(), 86_400 / SECONDS)
        site = Site(config, clock=clock, sources={"meters": Sender(clock, folder / "progress")})
        stop = asyncio.Event()
        running = asyncio.create_task(site.run(stop))
        deadline = time.monotonic() + SECONDS + 30
        while time.monotonic() < deadline and not siteworld.finished(config):
            with site.store.read() as connection:
                for batch in recent_batches(connection, site.operator.address, 0):
                    if batch.kind is BatchKind.INTRADAY and batch.status is BatchStatus.CONFIRMED:
                        final.setdefault(batch.first_isp, time.monotonic())
            await asyncio.sleep(0.05)
        stop.set()
        await running

    with tempfile.TemporaryDirectory() as folder, Anvil(timestamp=siteworld.AFTER) as node:
        suite = siteworld.deploy(node, Path(folder))
        suite.chain.request("evm_setIntervalMining", 1)
        path = siteworld.write_site(Path(folder), [node.url])
        path.write_text(path.read_text().replace("isp_grace_s = 900", "isp_grace_s = 300"))
        asyncio.run(main(Path(folder)))
    seconds = sorted(final[isp] - stated[isp] for isp in final)
    return {
        "n": len(seconds),
        "median_s": round(statistics.median(seconds), 2),
        "p99_s": round(statistics.quantiles(seconds, n=100, method="inclusive")[98], 2),
        "block_s": 1,
        "confirmations": 2,
    }


def main(sizes: list[int]) -> None:
    closed = [scale(meters) for meters in sizes]
    least, most = closed[0], closed[-1]
    grown = (most["memory_growth_mb"] - least["memory_growth_mb"]) * 2**20 / max(most["meters"] - least["meters"], 1)
    report = {
        "question": "a day of many meters under one root; delay from device to chain",
        "machine": {
            "cpu_count": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "versions": {"python": platform.python_version()},
        "results": {
            "days": closed,
            "close_day_bytes_per_further_meter": round(grown),
            "device_to_chain": delays(),
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        with open_store(sys.argv[4]) as opened:
            print(json.dumps(STEPS[sys.argv[2]](opened, int(sys.argv[3]))))
    else:
        main([int(argument) for argument in sys.argv[1:]] or [1_000, 10_000, 100_000])
