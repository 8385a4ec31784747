"""kill -9 while readings are stored: nothing accepted is lost, nothing doubled, no half transaction."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from offchain.flexibility.metered_days import proven_days
from offchain.store import open_store
from offchain.store.batches import BatchKind, BatchStatus, batches_with_status
from offchain.store.outbox import open_items
from offchain.store.readings import load_register_states, readings_of_meter
from oracles.batching import anchor_topic
from tests.oracles import feeder

ROOT = Path(__file__).parents[2]
KILLS = 8


def run_until(path: Path, first_boundary: int, lines_before_kill: int | None, delay_s: float) -> list[str]:
    """Run the feeder; kill it ``delay_s`` after so many lines, or never. Returns what it said."""
    process = subprocess.Popen(
        [sys.executable, feeder.__file__, str(path), str(first_boundary)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    lines = []
    with process.stdout as output:
        for line in output:
            lines.append(line.strip())
            if len(lines) == lines_before_kill:
                time.sleep(delay_s)
                process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == (-signal.SIGKILL if lines_before_kill else 0)
    return lines


def test_ingest_loses_and_doubles_nothing_when_killed(tmp_path):
    path = tmp_path / "site.db"
    rng = random.Random(20160520)
    day, boundary = feeder.DAY, feeder.DAY.first_isp
    for _ in range(KILLS):
        said = run_until(path, boundary, rng.randint(1, 10), rng.uniform(0, 0.02))
        boundary = int(said[-1])
        with open_store(path) as store, store.read() as connection:
            states = load_register_states(connection)
            assert len({state.boundary for state in states.values()}) == 1  # a poll is stored whole
            assert states[feeder.METER_IDS[0]].boundary >= boundary
            for meter_id in feeder.METER_IDS:
                held = readings_of_meter(connection, meter_id, day.first_isp, day.end_isp)
                assert [row.isp for row in held] == list(range(day.first_isp, states[meter_id].boundary))
    assert run_until(path, boundary, None, 0)[-1] == "closed"

    with open_store(path) as store:
        store.verify()
        with store.read() as connection:
            for number, meter_id in enumerate(feeder.METER_IDS):
                held = readings_of_meter(connection, meter_id, day.first_isp, day.end_isp)
                assert [row.import_wh for row in held] == [feeder.energy_wh(number, isp) for isp in day.isps]
            (batch,) = batches_with_status(connection, BatchKind.DAY, BatchStatus.PENDING)
            intraday = batches_with_status(connection, BatchKind.INTRADAY, BatchStatus.PENDING)
            keys = [item.key for item in open_items(connection, anchor_topic(feeder.OPERATOR))]
        assert [b.first_isp for b in intraday] == list(day.isps)
        assert len(keys) == len(set(keys)) == 97
        assert len(proven_days(store, batch.id)) == len(feeder.METER_IDS)
