"""Commands of the energy market on a chain where people are enrolled; time is moved by the test."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime

from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.terms import SessionTimes
from offchain.pilot import PilotDay
from offchain.pilot.trading import session_terms

AT_150 = 40
"""Tick of 0.150 token/kWh on the pilot's grid."""


class Operated:
    """A chain with a finished enrolment, and commands that go to it."""

    def __init__(self, day: PilotDay, folder):
        self.world, self.folder = day.world, folder
        self.terms = replace(
            session_terms(self.world),
            period_count=1,
            gate_lead_seconds=1_800,
            acceptance_seconds=900,
            surplus_budget=0,
            reward_budget=0,
        )
        self.first_isp = self.world.clock.now() // SECONDS_PER_ISP + 8
        self.times = SessionTimes.of(self.terms, self.first_isp)

    def run(self, *arguments, key=None):
        chain = ("--rpc", self.world.chain.url, "--deployment", str(self.world.config.out / "deployment.json"))
        environment = {**os.environ}
        if key is not None:
            environment["GRIDPACT_PRIVATE_KEY"] = "0x" + bytes(key.key).hex()
        command = [sys.executable, "-m", "offchain.cli.main", "market", *map(str, arguments), *chain]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def json(self, *arguments, key=None):
        done = self.run(*arguments, "--json", key=key)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def write_terms(self, **changed):
        path = self.folder / "terms.toml"
        fields = asdict(self.terms) | {"congestion_point_id": self.terms.congestion_point_id.hex()} | changed
        lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in fields.items() if v is not None]
        path.write_text("\n".join(lines))
        return path

    def open(self, path, **kwargs):
        delivery = datetime.fromtimestamp(self.first_isp * SECONDS_PER_ISP, UTC).isoformat()
        return self.run("open", path, "--delivery", delivery, "--json", key=self.world.cast.market_operator, **kwargs)
