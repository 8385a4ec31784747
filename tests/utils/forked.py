"""Runs pytest again and again, each time in a fork of one process that has loaded what all runs need.

``python -m tests.utils.forked MODULE ...`` loads modules, reads one line of JSON per run, ``{"arguments": [...],
"limit_s": ..., "log": path}``, and answers each with pytest's exit code, or with ``limit`` when the run took longer
than that (``null``: no limit). A run leaves no process behind.
"""

import importlib
import json
import math
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

POLL_S = 0.01


def run(arguments: list[str], limit_s: float | None, log: Path) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    until = time.monotonic() + (math.inf if limit_s is None else limit_s)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            # Ended by a signal is as good as a failed test: something went badly wrong.
            answer = str(os.WEXITSTATUS(status) if os.WIFEXITED(status) else int(pytest.ExitCode.TESTS_FAILED))
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            answer = "limit"
            break
        time.sleep(POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # a chain that the run started
    return answer


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(run(wanted["arguments"], wanted["limit_s"], Path(wanted["log"])), flush=True)


if __name__ == "__main__":
    main()
