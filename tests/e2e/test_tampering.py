"""One byte, one row of a finished day changed: `gridpact audit` exits 1 and names the place."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from offchain.pilot import PilotConfig, PilotDay
from tests.e2e.days import FinishedDay

ORDERS = "prosumer_order_quantities"
DAY_BATCH = "(SELECT id FROM batches WHERE kind = 'day')"


def flip(value: bytes, position: int = 0) -> bytes:
    return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


def reading(db):
    meter, isp, wh = db.execute("SELECT meter_id, isp, import_wh FROM readings ORDER BY import_wh DESC").fetchone()
    db.execute("UPDATE readings SET import_wh = ? WHERE meter_id = ? AND isp = ?", (wh ^ 1, meter, isp))
    return "stored reading changed", meter.hex(), str(isp)


def reading_signature(db):
    meter, isp, signature = db.execute("SELECT meter_id, isp, signature FROM readings").fetchone()
    db.execute("UPDATE readings SET signature = ? WHERE meter_id = ? AND isp = ?", (flip(signature, 5), meter, isp))
    return "signature of a stored reading", meter.hex(), str(isp)


def deleted_reading(db):
    meter, isp = db.execute("SELECT meter_id, isp FROM readings").fetchone()
    db.execute("DELETE FROM readings WHERE meter_id = ? AND isp = ?", (meter, isp))
    return "reading missing in the store", meter.hex(), str(isp)


def added_reading(db):
    meter, isp = db.execute("SELECT meter_id, max(isp) FROM readings GROUP BY meter_id").fetchone()
    db.execute(
        "INSERT INTO readings SELECT isp + 1, meter_id, import_wh, export_wh, quality, signature, belief_time, source"
        " FROM readings WHERE meter_id = ? AND isp = ?",
        (meter, isp),
    )
    return meter.hex(), str(isp + 1)


def metered_day(db):
    meter, values = db.execute('SELECT meter_id, "values" FROM meter_days').fetchone()
    db.execute('UPDATE meter_days SET "values" = ? WHERE meter_id = ?', (flip(values, 8 * 50 + 3), meter))
    return "stored value of a metered day changed", meter.hex()


def metered_day_signature(db):
    meter, signature = db.execute("SELECT meter_id, signature FROM meter_days").fetchone()
    db.execute("UPDATE meter_days SET signature = ? WHERE meter_id = ?", (flip(signature, 40), meter))
    return "signature of a stored metered day", meter.hex()


def deleted_metered_day(db):
    (meter,) = db.execute("SELECT meter_id FROM meter_days").fetchone()
    db.execute("DELETE FROM meter_days WHERE meter_id = ?", (meter,))
    return ("batch",)


def batch_root(db):
    (root,) = db.execute(f"SELECT root FROM batches WHERE id = {DAY_BATCH}").fetchone()
    db.execute(f"UPDATE batches SET root = ? WHERE id = {DAY_BATCH}", (flip(root, 31),))
    return "root", root.hex()[:8]


def baseline(db):
    row, values = db.execute(
        """SELECT id, "values" FROM curves WHERE kind = 'baseline' AND commitment_id IS NOT NULL"""
    ).fetchone()
    db.execute('UPDATE curves SET "values" = ? WHERE id = ?', (flip(values, 203), row))
    return ("commitment",)


def deleted_curve(db):
    (row,) = db.execute("SELECT id FROM curves WHERE commitment_id IS NOT NULL").fetchone()
    db.execute("DELETE FROM curves WHERE id = ?", (row,))
    return ("commitment",)


def commitment_root(db):
    commitment_id, root = db.execute("SELECT commitment_id, root FROM commitments").fetchone()
    db.execute("UPDATE commitments SET root = ? WHERE commitment_id = ?", (flip(root), commitment_id))
    return "commitment", str(commitment_id)


def document(db):
    key, content = db.execute(f"SELECT key, content FROM documents WHERE kind = '{ORDERS}'").fetchone()
    db.execute("UPDATE documents SET content = ? WHERE key = ?", (flip(content, 3), key))
    return ("document",)


def forecast_run(db):
    key, content = db.execute("SELECT key, content FROM documents WHERE kind = 'forecast_run'").fetchone()
    db.execute("UPDATE documents SET content = ? WHERE key = ?", (flip(content, 40), key))
    return "document", "forecast_run"


def deleted_document(db):
    (key,) = db.execute(f"SELECT key FROM documents WHERE kind = '{ORDERS}'").fetchone()
    db.execute("DELETE FROM documents WHERE key = ?", (key,))
    return ("order",)


CHANGES = (
    reading,
    reading_signature,
    deleted_reading,
    added_reading,
    metered_day,
    metered_day_signature,
    deleted_metered_day,
    batch_root,
    baseline,
    deleted_curve,
    commitment_root,
    document,
    forecast_run,
    deleted_document,
)


@pytest.fixture
def copy(noon, tmp_path):
    return shutil.copytree(noon.folder, tmp_path / "pilot")


def gridpact_audit(folder, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "offchain.cli.main", "audit", "--pilot", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_audit_exits_0_when_nothing_was_changed(copy):
    done = gridpact_audit(copy, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_audit_exits_1_naming_the_place_when_one_thing_was_changed(copy, change):
    with sqlite3.connect(copy / "store.db") as db:
        names = change(db)
    db.close()
    done = gridpact_audit(copy, "--quiet")
    assert done.returncode == 1, done.stderr
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: ")
    for name in names:
        assert name in first, first


def test_audit_names_the_contract_when_the_chain_state_is_of_another_day(noon: FinishedDay, copy, days_root):
    """Another seed has other keys, so its contracts stand elsewhere."""
    with PilotDay(PilotConfig(scenario="noon", seed=99, out=days_root / "deployed-only")):
        pass
    shutil.copyfile(days_root / "deployed-only" / "chain.state", copy / "chain.state")
    done = gridpact_audit(copy, "--quiet")
    assert done.returncode not in (0, 1)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2
    assert "0x" in done.stderr


def test_audit_refuses_the_store_of_another_day(copy, quiet):
    done = gridpact_audit(copy, "--quiet", "--store", str(quiet.folder / "store.db"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
