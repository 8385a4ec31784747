"""Kills a running site again and again, then lets one live until the day is on chain.

Usage: ``python nursery.py FOLDER SECONDS KILLS SEED``. A process that has loaded everything forks each life, so that a
life can be as short as a hundredth of a second; the killed process is the whole daemon: intake, batching, publishing,
HTTP. Prints what it did as JSON: kills (lives that SIGKILL ended, no others), how many of these lives had stored
readings, how many left transactions behind that were not final, and how the last life ended.
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
from contextlib import closing
from pathlib import Path

from oracles.site import Site
from tests.oracles.siteworld import DAY, FastClock, PatientSender, finished, load


def live(folder: Path, started: float, speed: float) -> None:
    """One life of the daemon; ends when the day is on chain, if nobody kills it."""

    async def main() -> None:
        config = load(folder)
        clock = FastClock(started, speed)
        site = Site(config, clock=clock, sources={"meters": PatientSender(clock, folder / "progress")})
        stop = asyncio.Event()
        running = asyncio.create_task(site.run(stop))
        while not finished(config):
            await asyncio.sleep(0.2)
        stop.set()
        await running

    asyncio.run(main())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(2)


def fork(folder: Path, started: float, speed: float) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        # Nobody is left behind when the test itself is stopped.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        try:
            live(folder, started, speed)
            status = 0
        finally:
            os._exit(status)
    return pid


def main(folder: Path, seconds: float, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    started, speed = time.time(), DAY.isp_count * 900 / seconds
    said = {"kills": 0, "stored": 0, "on_their_way": 0}
    held = 0
    while said["kills"] < kills and time.time() < started + 2 * seconds:
        pid = fork(folder, started, speed)
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
    _, said["last"] = os.waitpid(fork(folder, started, speed), 0)
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
