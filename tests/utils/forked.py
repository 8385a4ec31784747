"""Runs pytest again and again, each time in a fork of one process that has loaded what all runs need.

Reads one line of JSON per run, ``{"arguments": [...], "limit_s": ..., "log": path}``, and answers each with pytest's
exit code, or with ``limit`` when the run took longer and was ended.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import hypothesis.stateful  # noqa: F401
import pytest

import tests.market.pooling  # noqa: F401

POLL_S = 0.01


def run(arguments: list[str], limit_s: float, log: Path) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    until = time.monotonic() + limit_s
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            # Ended by a signal is as good as a failed test: something went badly wrong.
            return str(os.WEXITSTATUS(status) if os.WIFEXITED(status) else int(pytest.ExitCode.TESTS_FAILED))
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "limit"
        time.sleep(POLL_S)


def main() -> None:
    for line in sys.stdin:
        wanted = json.loads(line)
        print(run(wanted["arguments"], wanted["limit_s"], Path(wanted["log"])), flush=True)


if __name__ == "__main__":
    main()
