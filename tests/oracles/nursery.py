"""Kills a running site again and again, then lets one live until the day is on chain.

Usage: ``python nursery.py FOLDER SECONDS KILLS SEED``. A process that has loaded everything forks each life, so that a
life can be as short as a tenth of a second; the killed process is the whole daemon: intake, batching, publishing,
HTTP. Prints what it did.
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time
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
    for number in range(kills):
        pid = fork(folder, started, speed)
        time.sleep(rng.uniform(0.05, 2 * seconds / kills - 0.05))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or finished(load(folder)), f"life {number} ended by itself: {status}"
    _, status = os.waitpid(fork(folder, started, speed), 0)
    print(f"killed {kills} times, last life ended with {status}", flush=True)
    sys.exit(status != 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
