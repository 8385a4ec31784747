"""`gridpact forecast verify --pilot`: the forecasts of a finished day made again from its store, against its chain."""

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
from hashlib import sha256

import pytest
from eth_hash.auto import keccak

from offchain.market.open_position import METHOD


@pytest.fixture
def copy(noon, tmp_path):
    return shutil.copytree(noon.folder, tmp_path / "pilot")


def verify(folder, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "offchain.cli.main", "forecast", "verify", "--pilot", str(folder), "--quiet"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)


def test_verify_makes_the_runs_of_a_pilot_again(noon, copy):
    done = verify(copy, "--json")
    assert done.returncode == 0, done.stderr
    runs = {run["run_sha256"]: run for run in json.loads(done.stdout)}
    assert set(runs) == {run["sha256"] for run in noon.report["forecast"]["runs"].values()}
    assert all(run["ok"] and run["differences"] == [] for run in runs.values())
    of_trades = keccak(METHOD.encode())
    committed = {e["commitmentId"] for e in noon.named("Committed") if e["kind"] in (0, 2) and e["method"] != of_trades}
    assert {number for run in runs.values() for number in run["commitments"]} == committed


def one_reading(db):
    series, first, values = db.execute('SELECT series, first_isp, "values" FROM measurements').fetchone()
    changed = struct.pack("<d", struct.unpack_from("<d", values)[0] + 1) + values[8:]
    db.execute('UPDATE measurements SET "values" = ? WHERE series = ? AND first_isp = ?', (changed, series, first))
    return "inputs: the readings at hand"


def other_settings(db):
    """A record that says something else, under the key of its content, so that only the chain can tell."""
    key, content = db.execute("SELECT key, content FROM documents WHERE kind = 'forecast_run'").fetchone()
    changed = content.replace(b'"seed":', b'"seed":1')
    db.execute("UPDATE documents SET content = ?, key = ? WHERE key = ?", (changed, sha256(changed).digest(), key))
    return "is not in the store"


@pytest.mark.parametrize("change", [one_reading, other_settings], ids=lambda change: change.__name__)
def test_verify_fails_in_one_line_when_something_was_changed(copy, change):
    with sqlite3.connect(copy / "store.db") as db:
        says = change(db)
    db.close()
    done = verify(copy)
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert says in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_verify_says_what_it_needs_when_both_or_nothing_is_given(copy):
    command = [sys.executable, "-m", "offchain.cli.main", "forecast", "verify"]
    for options in ([], ["readings.csv", "--pilot", str(copy)]):
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert "hint: give" in done.stderr
