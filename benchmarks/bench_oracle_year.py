"""How fast is a year of a 1,000-meter site replayed, from registers to anchored days, and does its memory grow?

``python benchmarks/bench_oracle_year.py [minutes]`` replays whole days, 96,000 readings each, until the time is over
(15 minutes unless told otherwise) or the year is: every reading is checked, signed and stored, every day is batched,
signed meter by meter, anchored on Anvil and confirmed. ``benchmarks/results/oracle_year.json`` says what was run, and
apart from it what a year takes at the same pace, an estimate unless ``days`` is 365.
"""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from offchain.chain.anvil import MNEMONIC, Anvil  # noqa: E402
from offchain.chain.indexer import read_events  # noqa: E402
from offchain.chain.signatures import metering_domain  # noqa: E402
from offchain.chain.signers import mnemonic_signers  # noqa: E402
from offchain.chain.transactions import TransactionQueue  # noqa: E402
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay, isp_start  # noqa: E402
from offchain.store import open_store  # noqa: E402
from oracles.anchoring import QueuedAnchor  # noqa: E402
from oracles.batching import Batcher  # noqa: E402
from oracles.clock import SimulatedClock  # noqa: E402
from oracles.normalise import MeteringPoint  # noqa: E402
from oracles.pipeline import MeteringPipeline  # noqa: E402
from oracles.publisher import Publisher  # noqa: E402
from oracles.signer import GatewayKeys  # noqa: E402
from oracles.sources.port import MeterReading  # noqa: E402
from tests.oracles import siteworld  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "oracle_year.json"
METERS, YEAR_DAYS = 1_000, 365
FIRST = date(2015, 1, 1)
WARM_DAYS = 2
"""Days that memory is not compared with: caches fill."""


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def replay(folder: Path, minutes: float) -> dict:
    meter_ids = [sha256(b"meter %d" % number).digest() for number in range(METERS)]
    first = MarketDay.of(FIRST)
    clock = SimulatedClock(isp_start(first.first_isp))
    seconds, cpu_seconds, memory_mb = [], [], []
    with Anvil(timestamp=siteworld.AFTER) as node, open_store(folder / "year.db") as store:
        suite = siteworld.deploy(node, folder)
        operator = mnemonic_signers(MNEMONIC, 2)[1]
        domain = metering_domain(suite.chain.chain_id, suite.address("MeteringLedger"))
        keys = GatewayKeys(domain, {meter_id: sha256(meter_id).digest() for meter_id in meter_ids})
        points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in meter_ids]
        pipeline = MeteringPipeline(store, points, keys, clock)
        batcher = Batcher(store, operator.address, meter_ids, keys, clock, points=points)
        queue = TransactionQueue(suite.chain, operator, store.engine)
        publisher = Publisher(store, QueuedAnchor(suite, queue), clock)

        def read(boundary: int) -> int:
            clock.advance_to(isp_start(boundary))
            step, now = boundary - first.first_isp, boundary * SECONDS_PER_ISP
            readings = (MeterReading(m, now, now, 100 * step, 3 * step, False, 2**32) for m in meter_ids)
            return len(pipeline.ingest(readings, limited=False).accepted)

        read(first.first_isp)
        accepted, over = 0, time.monotonic() + minutes * 60
        for number in range(YEAR_DAYS):
            wall, cpu = time.perf_counter(), time.process_time()
            day = MarketDay.of(FIRST + timedelta(days=number))
            accepted += sum(read(isp + 1) for isp in day.isps)
            batcher.close_day(day)
            while (report := publisher.publish()).sent or report.waiting:
                queue.advance()
            seconds.append(time.perf_counter() - wall)
            cpu_seconds.append(time.process_time() - cpu)
            memory_mb.append(resident_mb())
            if time.monotonic() > over:
                break
        anchored = sum(event.name == "DayAnchored" for event in read_events(suite.chain, suite))
        assert anchored == len(seconds)
        size = sum(path.stat().st_size for path in folder.glob("year.db*"))
    pace = accepted / sum(seconds)
    year = METERS * sum(MarketDay.of(FIRST + timedelta(days=n)).isp_count for n in range(YEAR_DAYS))
    warm = memory_mb[min(WARM_DAYS, len(memory_mb) - 1) :]
    return {
        "run": {
            "meters": METERS,
            "days": len(seconds),
            "readings": accepted,
            "days_anchored": anchored,
            "seconds_wall": round(sum(seconds)),
            "seconds_cpu": round(sum(cpu_seconds)),
            "readings_per_second_wall": round(pace),
            "readings_per_second_cpu": round(accepted / sum(cpu_seconds)),
            "seconds_cpu_first_and_last_day": [round(cpu_seconds[0], 1), round(cpu_seconds[-1], 1)],
            "memory_mb_first_and_last_day": [round(warm[0], 1), round(warm[-1], 1)],
            "memory_mb_most": round(max(memory_mb), 1),
            "store_bytes_per_reading": round(size / accepted),
        },
        "estimate_of_a_year": {
            "readings": year,
            "hours_at_this_pace_wall": round(year / pace / 3_600, 2),
            "hours_at_this_pace_cpu": round(year / accepted * sum(cpu_seconds) / 3_600, 2),
            "store_gb": round(year * size / accepted / 2**30, 1),
        },
    }


def main(minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = replay(Path(folder), minutes)
    report = {
        "question": "a year of a 1,000-meter site replayed: pace, memory, size",
        "machine": {
            "cpu_count": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "versions": {"python": platform.python_version()},
        "results": results,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15)
