"""Commands of the energy market on a chain where people are enrolled; time is moved by the test."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime

from offchain.audit.roots import day_data_hash
from offchain.chain.indexer import read_events
from offchain.chain.leaves import meter_day_leaf, values_hash
from offchain.chain.merkle import MerkleTree
from offchain.chain.signatures import METER_DAY, READING, metering_domain, sign
from offchain.domain.curves import pack_readings
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.market.operating import relay_bundles, signed_bundle
from offchain.market.orders import pack_bundle
from offchain.market.settlement import bundle_escrow
from offchain.market.terms import SessionTimes
from offchain.pilot import PilotDay
from offchain.pilot.funding import buy_tokens
from offchain.pilot.trading import session_terms
from offchain.store.batches import Batch, BatchKind, BatchStatus, MeterDayRow, insert_batch
from offchain.store.readings import ReadingRow, insert_readings

MARKET_DAY_ISPS = 96
AT_150 = 40
"""Tick of 0.150 token/kWh on the pilot's grid."""


class Operated:
    """A chain with a finished enrolment, and commands that go to it."""

    def __init__(self, day: PilotDay, folder):
        self.world, self.folder = day.world, folder
        self.deployment = self.world.config.out / "deployment.json"
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
        chain = ("--rpc", self.world.chain.url, "--deployment", str(self.deployment))
        return self.gridpact("market", *arguments, *chain, key=key)

    def gridpact(self, *arguments, key=None):
        environment = {**os.environ}
        if key is not None:
            environment["GRIDPACT_PRIVATE_KEY"] = "0x" + bytes(key.key).hex()
        command = [sys.executable, "-m", "offchain.cli.main", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def events(self):
        return read_events(self.world.chain, self.world.suite)

    def json(self, *arguments, key=None):
        done = self.run(*arguments, "--json", key=key)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fund(self, amounts):
        """Tokens by account into the ledger, as the payment service of the prosumers would."""
        buy_tokens(self.world, self.world.cast.relayer, amounts)

    def trade(self, session_id, terms, first_isp, books):
        """Bring orders by prosumer to a session."""
        world, gate = self.world, SessionTimes.of(terms, first_isp).gate_closure
        self.fund({prosumer.address: bundle_escrow(terms, book) for prosumer, book in books.items()})
        signed = [
            signed_bundle(
                world.suite,
                prosumer.wallet,
                session_id=session_id,
                connection_id=prosumer.connection_id,
                bundle=pack_bundle(terms.grid, book),
                deadline=gate,
            )
            for prosumer, book in books.items()
        ]
        relay_bundles(world.suite, world.cast.relayer, session_id, signed)

    def write_terms(self, **changed):
        path = self.folder / "terms.toml"
        fields = asdict(self.terms) | {"congestion_point_id": self.terms.congestion_point_id.hex()} | changed
        lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in fields.items() if v is not None]
        path.write_text("\n".join(lines))
        return path

    def open(self, path, first_isp=None):
        delivery = datetime.fromtimestamp((first_isp or self.first_isp) * SECONDS_PER_ISP, UTC).isoformat()
        return self.run("open", path, "--delivery", delivery, "--json", key=self.world.cast.market_operator)


def anchor_day(world, first_isp: int, readings: dict, version: int = 1) -> None:
    """A metered day from ``first_isp`` on, anchored and confirmed, with its readings in the store."""
    domain = metering_domain(world.chain.chain_id, world.suite.address("MeteringLedger"))
    days, rows, leaves = [], [], []
    for prosumer, values in readings.items():
        packed = pack_readings(values)
        leaves.append(meter_day_leaf(prosumer.meter_id, first_isp, MARKET_DAY_ISPS, values_hash(packed)))
        message = {
            "meterId": prosumer.meter_id,
            "firstIsp": first_isp,
            "ispCount": MARKET_DAY_ISPS,
            "valuesHash": values_hash(packed),
        }
        signature = sign(METER_DAY.digest(domain, message), prosumer.device)
        days.append(MeterDayRow(prosumer.meter_id, first_isp, MARKET_DAY_ISPS, version, packed, signature))
        for isp, reading in enumerate(values, start=first_isp):
            if reading is None:
                continue
            import_wh, export_wh = reading
            message = {"meterId": prosumer.meter_id, "isp": isp, "importWh": import_wh, "exportWh": export_wh}
            signature = sign(READING.digest(domain, message), prosumer.device)
            rows.append(ReadingRow(prosumer.meter_id, isp, import_wh, export_wh, 0, signature, 0, "test"))
    world.clock.advance_to((first_isp + MARKET_DAY_ISPS) * 900)
    tree, data_hash = MerkleTree(leaves), day_data_hash(days)
    receipt = world.send(
        world.cast.operator, "MeteringLedger", "anchorDay", first_isp, MARKET_DAY_ISPS, tree.root, len(days), data_hash
    )
    batch = Batch(
        *(0, BatchKind.DAY, world.cast.operator.address, first_isp, MARKET_DAY_ISPS),
        *(version, tree.root, len(days), data_hash),
        *(BatchStatus.CONFIRMED, receipt.tx_hash, world.clock.now()),
    )
    with world.store.write() as connection:
        insert_readings(connection, rows)
        insert_batch(connection, batch, days)
