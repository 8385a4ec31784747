"""How does the oracle behave at scale: a day of up to 100,000 meters under one root, and the way from device to chain.

Writes ``benchmarks/results/oracle_scale.json``. Memory is by how much the peak of a process grows while it closes
the day. Delay is from the moment at which the last meter of an ISP has stated its energy to the moment at which the
intraday batch of that ISP is final: 1 s blocks, 2 confirmations, no waiting for late meters.

The peak includes the pages of the spool file (768 bytes a meter-day), which the system takes back when it needs them.
"""

import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
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
from oracles.signer import GatewayKeys  # noqa: E402
from oracles.site import Site  # noqa: E402
from tests.oracles import siteworld  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "oracle_scale.json"
DAY = MarketDay.of(date(2016, 5, 20))
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


def close_day(meters: int) -> dict[str, float]:
    """Seconds and memory [MB] to put a day of so many meters into the outbox."""
    meter_ids = [sha256(b"meter %d" % number).digest() for number in range(meters)]
    clock = SimulatedClock(isp_start(DAY.end_isp))
    # One key for all: what keys cost is no part of the question.
    keys = GatewayKeys(metering_domain(31337, "0x" + "11" * 20), {meter_ids[0]: sha256(b"key").digest()})
    keys._keys = dict.fromkeys(meter_ids, keys._keys[meter_ids[0]])
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "day.db") as store:
        fill_day(store, meter_ids)
        batcher = Batcher(store, "0x" + "22" * 20, meter_ids, keys, clock)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = time.perf_counter(), time.process_time()
        batch = batcher.close_day(DAY)
        took = time.perf_counter() - wall, time.process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert batch.leaf_count == meters
    return {
        "meters": meters,
        "seconds_wall": round(took[0], 2),
        "seconds_cpu": round(took[1], 2),
        "memory_before_mb": round(before / 1024, 1),
        "memory_growth_mb": round((after - before) / 1024, 1),
    }


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


def in_own_process(meters: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, str(meters)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
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
            "close_day": [in_own_process(meters) for meters in (1_000, 10_000, 100_000)],
            "device_to_chain": delays(),
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(close_day(int(sys.argv[1]))))
    else:
        main()
