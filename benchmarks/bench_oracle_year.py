"""How fast is a year of a 1,000-meter site replayed, from registers to anchored days, and does anything grow with it?

``python benchmarks/bench_oracle_year.py [minutes] [--folder FOLDER]`` replays whole days, 96,000 readings each, until
the time is over (15 minutes unless told otherwise) or the year is: every reading is checked, signed and stored, every
day is batched, signed meter by meter, anchored on Anvil and confirmed. The process that replays is killed twice in the
middle of a day and another goes on. With a folder the store and the chain stay, and the next run goes on with them.

At the end the chain is compared with the registers, not with the store: each day must be anchored once, with the root
that its registers lead to. ``benchmarks/results/oracle_year.json`` says what was run, and apart from it what a year
takes at the same pace, an estimate unless ``days`` is 365.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from offchain.chain.anvil import MNEMONIC, Anvil  # noqa: E402
from offchain.chain.client import Chain  # noqa: E402
from offchain.chain.contracts import Suite  # noqa: E402
from offchain.chain.indexer import read_events  # noqa: E402
from offchain.chain.leaves import meter_day_leaf, values_hash  # noqa: E402
from offchain.chain.merkle import MerkleTree  # noqa: E402
from offchain.chain.record import DeploymentRecord  # noqa: E402
from offchain.chain.signatures import metering_domain  # noqa: E402
from offchain.chain.signers import mnemonic_signers  # noqa: E402
from offchain.chain.transactions import TransactionQueue  # noqa: E402
from offchain.domain.isp import SECONDS_PER_ISP, MarketDay, isp_start  # noqa: E402
from offchain.store import open_store  # noqa: E402
from offchain.store.batches import BatchKind, BatchStatus, batches_with_status  # noqa: E402
from offchain.store.readings import load_register_states  # noqa: E402
from offchain.store.tables import readings as readings_table  # noqa: E402
from oracles.anchoring import QueuedAnchor  # noqa: E402
from oracles.batching import Batcher  # noqa: E402
from oracles.clock import SimulatedClock  # noqa: E402
from oracles.evidence import Evidence  # noqa: E402
from oracles.normalise import MeteringPoint  # noqa: E402
from oracles.pipeline import MeteringPipeline  # noqa: E402
from oracles.publisher import Publisher  # noqa: E402
from oracles.signer import GatewayKeys  # noqa: E402
from oracles.sources.port import MeterReading  # noqa: E402
from tests.oracles import siteworld  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "oracle_year.json"
METERS, YEAR_DAYS = 1_000, 365
METER_IDS = sorted(sha256(b"meter %d" % number).digest() for number in range(METERS))
DAYS = [MarketDay.of(date(2015, 1, 1) + timedelta(days=number)) for number in range(YEAR_DAYS)]
FIRST_ISP = DAYS[0].first_isp
KILLED_ON = (1, 182)
"""Days, counted from 0, in which the replaying process is killed."""
WARM_DAYS = 5
"""Days of a process that memory is not compared with: caches fill."""


def registers_wh(step: int) -> list[tuple[int, int]]:
    """Import and export of all meters after ``step`` ISPs; each meter has a series of its own."""
    return [(100 * step + step * (number + 1) % 97, 200 * step + step * (number + 3) % 193) for number in range(METERS)]


def energies_wh(day: MarketDay) -> np.ndarray:
    """Energy that the registers show, shape (meters, ISPs, 2)."""
    start = day.first_isp - FIRST_ISP
    counters = np.array([registers_wh(start + step) for step in range(day.isp_count + 1)])
    return np.diff(counters, axis=0).swapaxes(0, 1)


def usage(folder: Path) -> dict[str, float]:
    """What this process holds and has written, and the size of the store."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    written = Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0]
    return {
        "memory_mb": round(pages * resource.getpagesize() / 2**20, 1),
        "files": len(os.listdir("/proc/self/fd")),
        "written_mb": round(int(written) / 2**20, 1),
        "store_mb": round(sum(path.stat().st_size for path in folder.glob("year.db*")) / 2**20, 1),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def replay(folder: Path, url: str) -> None:
    """Go on where the store says that the replay stands, to the end of the year; a line of progress per day."""
    suite = Suite.open(Chain(url), DeploymentRecord.read(folder / "deployment.json"))
    operator = mnemonic_signers(MNEMONIC, 2)[1]
    domain = metering_domain(suite.chain.chain_id, suite.address("MeteringLedger"))
    keys = GatewayKeys(domain, {meter_id: sha256(meter_id).digest() for meter_id in METER_IDS})
    points = [MeteringPoint(meter_id, 20_000, 20_000) for meter_id in METER_IDS]
    with open_store(folder / "year.db") as store, (folder / "progress.jsonl").open("a") as progress:
        with store.read() as connection:
            states = load_register_states(connection).values()
            done = len(batches_with_status(connection, BatchKind.DAY, BatchStatus.CONFIRMED))
        last_read = min((state.boundary for state in states), default=FIRST_ISP - 1)
        clock = SimulatedClock(isp_start(max(last_read, FIRST_ISP)))
        pipeline = MeteringPipeline(store, points, keys, clock)
        batcher = Batcher(store, operator.address, METER_IDS, keys, clock, points=points)
        queue = TransactionQueue(suite.chain, operator, store.engine)
        publisher = Publisher(store, QueuedAnchor(suite, queue), clock)
        for day in DAYS[done:]:
            wall, cpu, accepted = time.perf_counter(), time.process_time(), 0
            resumed = last_read > day.first_isp
            for boundary in range(last_read + 1, day.end_isp + 1):
                clock.advance_to(isp_start(boundary))
                now, registers = boundary * SECONDS_PER_ISP, registers_wh(boundary - FIRST_ISP)
                values = (
                    MeterReading(m, now, now, *r, False, 2**32) for m, r in zip(METER_IDS, registers, strict=True)
                )
                accepted += len(pipeline.ingest(values, limited=False).accepted)
            last_read = day.end_isp
            batcher.close_day(day)
            while (report := publisher.publish()).sent or report.waiting or report.failed:
                queue.advance()
                clock.advance_to(clock.now() + timedelta(seconds=1))
            line = {
                "day": DAYS.index(day),
                "process": os.getpid(),
                "resumed": resumed,
                "accepted": accepted,
                "seconds_wall": round(time.perf_counter() - wall, 2),
                "seconds_cpu": round(time.process_time() - cpu, 2),
            }
            progress.write(json.dumps(line | usage(folder)) + "\n")
            progress.flush()


def read_progress(folder: Path) -> list[dict]:
    path = folder / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def replay_and_kill(folder: Path, url: str, over: float) -> int:
    """Have the year replayed until ``over`` [monotonic s], and kill the process in the middle of days; how often."""
    rng, killed, process = random.Random(20150101), 0, None
    days_to_kill_in = [day for day in KILLED_ON if day > len(read_progress(folder))]
    moment = None
    try:
        while time.monotonic() < over:
            if process is None:
                process = subprocess.Popen([sys.executable, __file__, "--replay", url, "--folder", str(folder)])
            time.sleep(0.2)
            lines = read_progress(folder)
            if process.poll() is not None:
                if process.returncode:
                    raise SystemExit(f"the replay ended with {process.returncode} after {len(lines)} days")
                break
            if moment is None and days_to_kill_in and len(lines) == days_to_kill_in[0]:
                moment = time.monotonic() + lines[-1]["seconds_wall"] * rng.uniform(0.1, 0.9)
                del days_to_kill_in[0]
            if moment is not None and time.monotonic() > moment:
                process.kill()
                process.wait()
                process, moment, killed = None, None, killed + 1
    finally:
        if process is not None:
            process.kill()
            process.wait()
    return killed


def count_on_chain(folder: Path, url: str) -> dict[str, int]:
    """Compare the chain with the registers, and the store with the chain.

    Raises
    ------
    AssertionError
        A day is on chain twice, or its root or the data behind it is not what the registers lead to.
    """
    suite = Suite.open(Chain(url), DeploymentRecord.read(folder / "deployment.json"))
    anchored = [event.args for event in read_events(suite.chain, suite) if event.name == "DayAnchored"]
    if not anchored:
        raise SystemExit("not a whole day was replayed: give it more minutes")
    times = Counter(args["firstIsp"] for args in anchored)
    roots = {args["firstIsp"]: args for args in anchored}
    assert list(times) == [day.first_isp for day in DAYS[: len(times)]], "days are missing or out of order"
    assert set(times.values()) <= {1}, "a day is on chain more than once"
    on_chain = 0
    with open_store(folder / "year.db", create=False) as store:
        evidence = Evidence(store)
        for day in DAYS[: len(times)]:
            packed = [values.tobytes() for values in energies_wh(day).astype(">u4")]
            leaves = [
                meter_day_leaf(meter_id, day.first_isp, day.isp_count, values_hash(values))
                for meter_id, values in zip(METER_IDS, packed, strict=True)
            ]
            args = roots[day.first_isp]
            assert args["root"] == MerkleTree(leaves).root, f"{day.first_isp}: not the root of the registers"
            assert args["leafCount"] == METERS
            content = b"".join(evidence.data_behind(args["dataHash"]).parts)
            signed = zip(METER_IDS, packed, strict=True)
            size = len(content) // METERS
            for start, (meter_id, values) in zip(range(0, len(content), size), signed, strict=True):
                assert content[start : start + size - 65] == meter_id + values, "other data behind the root"
            on_chain += METERS * day.isp_count
        end_isp = DAYS[len(times) - 1].end_isp
        with store.read() as connection:
            query = select(func.count()).where(readings_table.c.isp < end_isp)
            in_store = connection.execute(query).scalar_one()
    assert in_store == on_chain, f"{in_store} readings in the store, {on_chain} on chain"
    return {"days_on_chain": len(times), "readings_on_chain_once": on_chain, "readings_in_store": in_store}


def grown(lines: list[dict]) -> dict:
    """Memory and open files of each process over its days."""
    found = []
    for process in dict.fromkeys(line["process"] for line in lines):
        own = [line for line in lines if line["process"] == process]
        warm = own[WARM_DAYS:] or own[-1:]
        days, memory_kb = [line["day"] for line in warm], [line["memory_mb"] * 1024 for line in warm]
        found.append(
            {
                "days": len(own),
                "memory_mb_warm_and_last": [warm[0]["memory_mb"], warm[-1]["memory_mb"]],
                "memory_mb_most": max(line["memory_mb"] for line in own),
                "memory_kb_per_day": round(float(np.polyfit(days, memory_kb, 1)[0]), 1) if len(warm) > 1 else None,
                "open_files_warm_and_last": [warm[0]["files"], warm[-1]["files"]],
            }
        )
    return found


def pace(lines: list[dict]) -> dict[str, float]:
    """Cost of a reading, over days that were replayed from start to end."""
    whole = [line for line in lines if not line["resumed"]]
    accepted = sum(line["accepted"] for line in whole)
    wall, cpu = (sum(line[f"seconds_{kind}"] for line in whole) for kind in ("wall", "cpu"))
    per_day = sorted(line["seconds_cpu"] for line in whole)
    written = [
        (after["written_mb"] - before["written_mb"]) * 2**20 / after["accepted"]
        for before, after in pairwise(lines)
        if before["process"] == after["process"]
    ]
    return {
        "readings_per_second_wall": round(accepted / wall),
        "readings_per_second_cpu": round(accepted / cpu),
        "cpu_us_per_reading": round(cpu / accepted * 1e6, 1),
        "seconds_cpu_per_day": {
            "median": statistics.median(per_day),
            "p05": per_day[len(per_day) // 20],
            "p95": per_day[-1 - len(per_day) // 20],
            "first_10_days": round(statistics.mean(line["seconds_cpu"] for line in whole[:10]), 2),
            "last_10_days": round(statistics.mean(line["seconds_cpu"] for line in whole[-10:]), 2),
        },
        "bytes_written_per_reading": round(statistics.median(written)) if written else None,
        "load_1min_median": statistics.median(line["load_1min"] for line in lines),
    }


def measure(folder: Path, minutes: float) -> dict:
    over = time.monotonic() + minutes * 60
    with Anvil(timestamp=siteworld.AFTER, state=folder / "chain.json") as node:
        if not (folder / "deployment.json").exists():
            siteworld.deploy(node, folder)
        killed = replay_and_kill(folder, node.url, over)
        counted = count_on_chain(folder, node.url)
    lines = read_progress(folder)
    paced = pace(lines)
    size = sum(path.stat().st_size for path in folder.glob("year.db*"))
    year = METERS * sum(day.isp_count for day in DAYS)
    return {
        "run": {
            "meters": METERS,
            "days": len(lines),
            **counted,
            "processes": len({line["process"] for line in lines}),
            "killed_in_this_run": killed,
            "hours_wall": round(sum(line["seconds_wall"] for line in lines) / 3_600, 2),
            "hours_cpu": round(sum(line["seconds_cpu"] for line in lines) / 3_600, 2),
            **paced,
            "store_gb": round(size / 2**30, 2),
            "store_bytes_per_reading": round(size / counted["readings_in_store"]),
            "by_process": grown(lines),
            "store_mb_every_30_days": [line["store_mb"] for line in lines[29::30]],
            "memory_mb_every_30_days": [line["memory_mb"] for line in lines[29::30]],
        },
        "estimate_of_a_year": {
            "readings": year,
            "hours_at_this_pace_wall": round(year / paced["readings_per_second_wall"] / 3_600, 2),
            "hours_at_this_pace_cpu": round(year / paced["readings_per_second_cpu"] / 3_600, 2),
            "store_gb": round(year * size / counted["readings_in_store"] / 2**30, 1),
        },
    }


def main(minutes: float, folder: Path) -> None:
    results = measure(folder, minutes)
    report = {
        "question": "a year of a 1,000-meter site replayed: each reading on chain once, pace, memory, size",
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
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", type=float, nargs="?", default=15)
    parser.add_argument("--folder", type=Path, help="where the store and the chain stay")
    parser.add_argument("--replay", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replay:
        replay(arguments.folder, arguments.replay)
    elif arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        main(arguments.minutes, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(arguments.minutes, Path(temporary))
