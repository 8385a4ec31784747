"""Runs the test suite as two pytest processes side by side, one per core.

Contract tests run under Brownie's pytest plugin, which compiles the contracts and starts a chain; all others
run without it. The log of the contract tests is printed after the others, both closing lines come last. Ends
with 1 when either fails. An interrupt stops both and everything that they started.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
CONTRACT_TESTS = ("tests/contracts", "tests/stateful", "tests/gas")
NO_TESTS_COLLECTED = 5
CLOSING_LINE = re.compile(r"^(\x1b\[[\d;]*m)*=+ .* in [\d.]+s.* ?=*")


def start(arguments: list[str], **streams) -> subprocess.Popen:
    # A home of its own: what the user keeps in ~/.brownie must not change a test.
    home = BUILD / "home"
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **streams,
    )


def stop(process: subprocess.Popen) -> None:
    """Ends a test run with all that it started: gently first, then for sure."""
    for signal_number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def show(lines) -> list[str]:
    """Prints a log as it comes, keeps the closing line back."""
    closing = []
    for line in lines:
        if CLOSING_LINE.match(line):
            closing.append(line)
        else:
            print(line, end="", flush=True)
    return closing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="tests marked long too, hypothesis profile `long`")
    options = parser.parse_args()
    chosen = ["--hypothesis-profile=long"] if options.long else ["-m", "not long"]
    chosen.append(f"--color={'yes' if sys.stdout.isatty() else 'no'}")
    contract_tests = [path for path in CONTRACT_TESTS if any((ROOT / path).rglob("test_*.py"))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    log_path = BUILD / "test-contracts.log"
    BUILD.mkdir(exist_ok=True)
    running = []
    try:
        with log_path.open("w+", encoding="utf-8") as log:
            if contract_tests:
                print(f"contract tests run beside, log in {log_path.relative_to(ROOT)}", flush=True)
                running.append(start([*contract_tests, *chosen], stdout=log, stderr=subprocess.STDOUT))
            others = start(
                [
                    "-p",
                    "no:pytest-brownie",
                    "tests",
                    *(f"--ignore={path}" for path in CONTRACT_TESTS),
                    *chosen,
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            running.append(others)
            closing = show(others.stdout)
            codes = [process.wait() for process in running]
            log.seek(0)
            closing += show(log)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        for process in running:
            stop(process)
    print(*closing, sep="", end="", flush=True)
    return int(any(code not in (0, NO_TESTS_COLLECTED) for code in codes))


if __name__ == "__main__":
    sys.exit(main())
