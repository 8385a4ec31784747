"""Kills a running site again and again, then lets one live until the day is on chain.

Usage: ``python nursery.py FOLDER SECONDS KILLS SEED``. A process that has loaded everything forks each life, so that a
life can be as short as a hundredth of a second; the killed process is the whole daemon: intake, batching, publishing,
HTTP. While it lives its disk is full now and then and its machine's clock jumps. Prints what it did as JSON: kills
(lives that SIGKILL ended, no others), how many of these lives had stored readings, how many left transactions behind
that were not final, what befell them, and how the last life ended. The file ``kills`` counts them meanwhile.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from oracles.site import Site
from tests.oracles.misfortunes import JUMPS_S, FastSteadyClock, fill_disk
from tests.oracles.siteworld import DAY, PatientSender, finished, load

PAUSE_S = 0.4
"""Between two misfortunes of a life, on average."""
LONGEST_S = 1.0
"""How long a disk stays full."""


def live(folder: Path, began: float, speed: float, seed: int | None) -> None:
    """One life of the daemon, with misfortunes by ``seed``; ends when the day is on chain, if nobody kills it."""

    async def main() -> None:
        config = load(folder)
        clock = FastSteadyClock(speed, began)
        site = Site(config, clock=clock, sources={"meters": PatientSender(clock, folder / "progress")})
        stop = asyncio.Event()
        running = [asyncio.create_task(site.run(stop))]
        if seed is not None:
            running.append(asyncio.create_task(befall(site, clock, random.Random(seed), folder / "befallen")))
        # Once through the chain at least: what was final may be gone.
        while site.chain_seen_at is None or not finished(config):
            await asyncio.sleep(0.2)
        stop.set()
        running[0].add_done_callback(lambda _: [task.cancel() for task in running[1:]])
        await running[0]

    asyncio.run(main())


async def befall(site: Site, clock: FastSteadyClock, rng: random.Random, diary: Path) -> None:
    """Fill the disk and set the clock of a site, in turn and at random moments; write down what it noticed."""
    while True:
        await asyncio.sleep(rng.expovariate(1 / PAUSE_S))
        if rng.random() < 0.5:
            fill_disk(site, True)
            deadline = time.monotonic() + LONGEST_S
            while time.monotonic() < deadline and not (refused := _store_failed(site)):
                await asyncio.sleep(0.02)
            fill_disk(site, False)
            if refused:
                _note(diary, "disk full")
        else:
            clock.jump_s = rng.choice(JUMPS_S)
            await asyncio.sleep(rng.uniform(0.05, 0.5))
            if clock.jumped:
                _note(diary, "clock jumped")
            clock.jump_s = 0.0


def _store_failed(site: Site) -> bool:
    return any(alarm.kind == "store" or "full" in alarm.text for alarm in site.alarms)


def _note(diary: Path, what: str) -> None:
    with diary.open("a") as file:
        file.write(what + "\n")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(2)


def fork(folder: Path, began: float, speed: float, seed: int | None = None) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        # Nobody is left behind when the test itself is stopped.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        try:
            live(folder, began, speed, seed)
            status = 0
        finally:
            os._exit(status)
    return pid


def main(folder: Path, seconds: float, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    began, speed = time.monotonic(), DAY.isp_count * 900 / seconds
    said = {"kills": 0, "stored": 0, "on_their_way": 0}
    held = 0
    while said["kills"] < kills and time.monotonic() < began + 2 * seconds:
        pid = fork(folder, began, speed, rng.getrandbits(32))
        # Most lives are short, some long enough to get something done.
        time.sleep(min(rng.expovariate(kills / (0.8 * seconds)), 4.0))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert finished(load(folder)), f"a life ended by itself: {status}"
            break
        before, (held, waiting) = held, state(folder)
        said["kills"] += 1
        said["stored"] += held > before
        said["on_their_way"] += waiting > 0
        (folder / "kills").write_text(str(said["kills"]))
    _, said["last"] = os.waitpid(fork(folder, began, speed), 0)
    said |= Counter((folder / "befallen").read_text().splitlines())
    print(json.dumps(said), flush=True)
    sys.exit(said["last"] != 0)


def state(folder: Path) -> tuple[int, int]:
    """Readings on disk, and transactions that are not final."""
    with closing(sqlite3.connect(folder / "site.db")) as connection:
        try:
            (held,) = connection.execute("SELECT count(*) FROM readings").fetchone()
            (waiting,) = connection.execute("SELECT count(*) FROM chain_transactions WHERE status = 'open'").fetchone()
        except sqlite3.OperationalError:
            return 0, 0  # killed before it had made its tables
    return held, waiting


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
