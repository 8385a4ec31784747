"""kill -9 at random moments while everything else goes wrong at random too: every reading is on chain exactly once, and
the audit of chain and store agrees.

while it is killed: readings flow; reorgs, also deeper than the confirmations; nodes that hang, lie, die, are of another
chain or of another one with the same id; a full disk; a clock that jumps
at the end: counted by proofs; `gridpact audit` in order → a reading changed or removed in the store → not in order
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.rpc import Rpc
from oracles.keys import SiteKeys
from tests.oracles import nursery
from tests.oracles.misfortunes import LIES, Proxy
from tests.oracles.siteworld import AFTER, DAY, METER_IDS, count_on_chain, deploy, enrol, load, write_site

ROOT = Path(__file__).parents[2]
CONFIRMATIONS = 3
READINGS = DAY.isp_count * len(METER_IDS)
MODES = ("hang", "dead", *LIES, "other chain", "same id")


class World:
    """Two nodes of the chain, which it reorganises and lets fail as the dice fall."""

    def __init__(self, suite, proxies: list[Proxy], seed: int):
        self.suite, self.proxies = suite, proxies
        self.rng = random.Random(seed)
        self.depths: list[int] = []
        # All modes come up whatever the dice say, in an order that they choose.
        self.modes = self.rng.sample(MODES, len(MODES))

    def turn(self, *, calm: bool) -> None:
        """The next thing that happens; when ``calm``, nodes are good and final means final."""
        if self.rng.random() < 0.5:
            self.depths.append(self.rng.randint(1, CONFIRMATIONS - 1 if calm else 3 * CONFIRMATIONS))
            self.suite.chain.request("anvil_reorg", self.depths[-1], [])
        for proxy in self.proxies:
            proxy.mode = "good"
        if calm or self.rng.random() < 0.3:
            return
        preferred, other = self.proxies
        preferred.mode = self.modes[-1] if self.modes else self.rng.choice(MODES)
        if self.rng.random() < 0.3:
            other.mode = self.rng.choice(MODES)  # no node tells the truth then
        asked, deadline = preferred.asked[preferred.mode], time.monotonic() + 5
        while preferred.asked[preferred.mode] == asked and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.modes and preferred.asked[preferred.mode] > asked:
            self.modes.pop()


def killed(folder: Path) -> int:
    """How often so far."""
    try:
        return int((folder / "kills").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def audit(folder: Path, suite, store: Path) -> tuple[int, dict]:
    """Exit code and report of ``gridpact audit``."""
    command = [Path(sys.executable).with_name("gridpact"), "audit", "--json", "--quiet", "--rpc", suite.chain.url]
    command += ["--deployments", folder / "deployment.json", "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def tampered(folder: Path, statement: str) -> Path:
    """A copy of the site's store in which a statement has changed one row."""
    copy = folder / "tampered.db"
    with closing(sqlite3.connect(folder / "site.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        assert target.execute(statement).rowcount == 1
        target.commit()
    return copy


@pytest.mark.parametrize(
    ("kills", "seconds"), [(100, 40), pytest.param(400, 240, marks=pytest.mark.long)], ids=["100 kills", "400 kills"]
)
def test_site_puts_every_reading_on_chain_once_when_killed_at_random_and_everything_fails(tmp_path, kills, seconds):
    with ExitStack() as stack:
        node = stack.enter_context(Anvil(timestamp=AFTER))
        others = {
            "other chain": stack.enter_context(Anvil(timestamp=AFTER, chain_id=1)),
            "same id": stack.enter_context(Anvil(timestamp=AFTER)),
        }
        for other in others.values():
            Rpc(other.url).request("anvil_mine", "0x100")  # further than ours
            Rpc(other.url).request("evm_setIntervalMining", 1)
        suite = deploy(node, tmp_path)
        proxies = [Proxy(node.url, **{mode: other.url for mode, other in others.items()}) for _ in range(2)]
        for proxy in proxies:
            stack.callback(proxy.stop)
        write_site(tmp_path, [proxy.url for proxy in proxies], confirmations=CONFIRMATIONS)
        enrol(suite, SiteKeys(load(tmp_path)).addresses, DAY.first_isp)
        suite.chain.request("anvil_mine", "0x40")  # no reorg reaches the contracts
        suite.chain.request("evm_setIntervalMining", 1)
        arguments = [sys.executable, nursery.__file__, str(tmp_path), str(seconds), str(kills), str(kills)]
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        world = World(suite, proxies, kills)
        try:
            started = time.monotonic()
            while process.poll() is None and time.monotonic() < started + 3 * seconds + 60:
                time.sleep(world.rng.uniform(0.5, 2))
                world.turn(calm=killed(tmp_path) > 0.85 * kills)
            assert process.poll() is not None, f"after {killed(tmp_path)} kills the day is not on chain whole"
        finally:
            process.kill()
        said = process.stdout.read().decode()
        result = json.loads(said.splitlines()[-1])
        assert (result["kills"], result["last"]) == (kills, 0), said
        # How many of each depends on how busy the machine is.
        assert result["stored"] and result["disk full"] and result["clock jumped"], said
        assert len(world.depths) >= 5 and max(world.depths) > CONFIRMATIONS
        asked = proxies[0].asked + proxies[1].asked
        assert asked.keys() == {"good", *MODES}, asked
        assert count_on_chain(load(tmp_path), suite) == READINGS

        code, report = audit(tmp_path, suite, tmp_path / "site.db")
        assert (code, report["ok"]) == (0, True), report["mismatches"][:3]
        assert report["checked"]["readings"] >= READINGS
        one = f"meter_id = x'{METER_IDS[2].hex()}' AND isp = {DAY.first_isp + 50}"
        for statement in (
            f"UPDATE readings SET import_wh = import_wh + 1 WHERE {one}",
            f"DELETE FROM readings WHERE {one}",
        ):
            code, report = audit(tmp_path, suite, tampered(tmp_path, statement))
            assert (code, report["ok"]) == (1, False), statement
            assert str(DAY.first_isp + 50) in report["mismatches"][0]["where"], report["mismatches"][:3]
