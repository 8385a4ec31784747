"""``gridpact pilot`` as a person or a script starts it.

good → exit code 0, JSON alone on stdout, stages on stderr
bad input → one line with a hint, exit code of its own, what was there before is still there
Ctrl-C, SIGTERM → ends, and so does the chain that it started
"""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.days import run_pilot_command

COMMAND = [sys.executable, "-m", "offchain.cli.main", "pilot", "--scenario", "noon"]


def test_pilot_prints_json_alone_and_its_stages_on_stderr(noon_by_command):
    folder, done = noon_by_command
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == 1
    stages = done.stderr.splitlines()
    for stage in ("loading the grid", "deploying", "enrolling", "planning the day", "metering the day", "settling"):
        assert stage in stages
    assert stages[-1] == f"report: {folder / 'report.html'}"
    left = {path.name for path in folder.iterdir()}
    assert {"chain.state", "deployment.json", "store.db", "report.html", "report.json"} <= left


# ------------------------------------------------------------------ bad input


@pytest.fixture
def earlier(days_root, tmp_path):
    """A folder with what an earlier day left."""
    folder = days_root / f"earlier-{tmp_path.name}"
    folder.mkdir()
    for name in ("chain.state", "deployment.json", "store.db", "report.json", "report.html"):
        (folder / name).write_text(f"earlier {name}")
    return folder


def digest(folder):
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (("--scenario", "morning"), "unknown scenario 'morning'", "noon"),
        (("--day", "2017-05-20"), "2017-05-20", "2016-02-06 to 2016-12-31"),
        (("--day", "2016-02-05"), "2016-02-05", "2016-02-06 to 2016-12-31"),
    ],
)
def test_pilot_fails_in_one_line_and_keeps_what_was_there_when_the_input_is_wrong(earlier, options, message, hint):
    before = digest(earlier)
    _, done = run_pilot_command(earlier, "--quiet", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    error, advice = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert advice.startswith("hint: ")
    assert hint in advice
    assert digest(earlier) == before


@pytest.mark.parametrize(
    "options",
    [("--seed", "-1"), ("--seed", "one"), ("--day", "20.5.2016"), ("--participation", "1.5")],
    ids=" ".join,
)
def test_pilot_names_the_option_when_its_value_is_wrong(earlier, options):
    before = digest(earlier)
    _, done = run_pilot_command(earlier, "--quiet", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert digest(earlier) == before


def test_pilot_fails_in_one_line_when_the_folder_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    _, done = run_pilot_command(path, "--quiet")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [f"error: folder {path}: File exists", "hint: choose another with --out"]
    assert path.read_text() == "mine"


def test_pilot_fails_in_one_line_when_the_folder_cannot_be_made():
    _, done = run_pilot_command(Path("/proc/pilot"), "--quiet")
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: folder /proc/pilot: ")
    assert hint == "hint: choose another with --out"


# ------------------------------------------------------------------ interrupted


def descendants(pid: int) -> set[int]:
    """Processes below one, from /proc."""
    below: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            below |= {int(child)} | descendants(int(child))
    return below


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_pilot_leaves_no_chain_running_when_interrupted(days_root, signal_number):
    process = subprocess.Popen(
        [*COMMAND, "--out", str(days_root / f"interrupted-{signal_number}")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in process.stderr:
            if line.strip() == "metering the day":
                break
        children = descendants(process.pid)
        assert len(children) >= 2  # the chain and what watches over it
        process.send_signal(signal_number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (128 + signal_number, -signal_number)
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if alive(pid)]
