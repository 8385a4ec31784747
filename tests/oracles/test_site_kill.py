"""kill -9 at random moments while readings flow and the chain reorganises: every reading is on chain exactly once."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offchain.chain.anvil import Anvil
from tests.oracles import nursery
from tests.oracles.siteworld import AFTER, DAY, METER_IDS, count_on_chain, deploy, load, write_site

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kills", "seconds"), [(20, 20), pytest.param(120, 120, marks=pytest.mark.long)], ids=["20 kills", "120 kills"]
)
def test_site_puts_every_reading_on_chain_once_when_killed_at_random(tmp_path, kills, seconds):
    rng = random.Random(kills)
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("evm_setIntervalMining", 1)
        write_site(tmp_path, [node.url], confirmations=3)
        arguments = [sys.executable, nursery.__file__, str(tmp_path), str(seconds), str(kills), "1"]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        try:
            reorgs = 0
            deadline = time.monotonic() + seconds + 60
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(rng.uniform(1, 3))
                suite.chain.request("anvil_reorg", rng.randint(1, 2), [])
                reorgs += 1
        finally:
            process.kill()
        said = process.stdout.read().decode()
        assert f"killed {kills} times, last life ended with 0" in said
        assert reorgs >= 5
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)
