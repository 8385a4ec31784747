"""kill -9 at random moments while readings flow and the chain reorganises, also deeper than the confirmations: every
reading is on chain exactly once."""

import json
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


CONFIRMATIONS = 3


@pytest.mark.parametrize(
    ("kills", "seconds"), [(100, 40), pytest.param(400, 240, marks=pytest.mark.long)], ids=["100 kills", "400 kills"]
)
def test_site_puts_every_reading_on_chain_once_when_killed_at_random(tmp_path, kills, seconds):
    rng = random.Random(kills)
    with Anvil(timestamp=AFTER) as node:
        suite = deploy(node, tmp_path)
        suite.chain.request("anvil_mine", "0x40")  # no reorg reaches the contracts
        suite.chain.request("evm_setIntervalMining", 1)
        write_site(tmp_path, [node.url], confirmations=CONFIRMATIONS)
        arguments = [sys.executable, nursery.__file__, str(tmp_path), str(seconds), str(kills), "1"]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        depths = []
        try:
            started = time.monotonic()
            while process.poll() is None and time.monotonic() < started + 2 * seconds + 60:
                time.sleep(rng.uniform(1, 3))
                # In the end no deeper than the confirmations, so that final means final.
                deepest = 3 * CONFIRMATIONS if time.monotonic() < started + 0.7 * seconds else CONFIRMATIONS - 1
                depths.append(rng.randint(1, deepest))
                suite.chain.request("anvil_reorg", depths[-1], [])
        finally:
            process.kill()
        said = process.stdout.read().decode()
        result = json.loads(said.splitlines()[-1])
        assert (result["kills"], result["last"]) == (kills, 0), said
        assert result["stored"], said  # how many depends on how busy the machine is
        assert len(depths) >= 5 and max(depths) > CONFIRMATIONS
        assert count_on_chain(load(tmp_path), suite) == DAY.isp_count * len(METER_IDS)
