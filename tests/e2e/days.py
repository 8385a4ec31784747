"""Pilot days for end-to-end tests: lived through once, looked at by many."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offchain.chain.events import Event
from offchain.chain.indexer import read_events
from offchain.domain.curves import MISSING
from offchain.flexibility.orders import ProsumerOrder
from offchain.pilot import PilotConfig, PilotDay
from offchain.pilot.results import PilotResult
from offchain.store import open_store
from offchain.store.readings import energy_matrix

NOON_SEED = 3
Hook = Callable[[PilotDay], None]


@dataclass(frozen=True)
class FinishedDay:
    """A day that is over: its chain is stopped, its folder complete."""

    pilot: PilotDay
    result: PilotResult
    events: list[Event]

    @property
    def folder(self) -> Path:
        return self.pilot.config.out

    @property
    def report(self) -> dict[str, Any]:
        return self.result.report

    @property
    def orders(self) -> list[ProsumerOrder]:
        return list(self.pilot.book.orders.values())

    def named(self, name: str) -> list[dict[str, Any]]:
        """Arguments of all events of a name."""
        return [event.args for event in self.events if event.name == name]

    def verdicts(self) -> dict[int, dict[str, int]]:
        """First verdict by prosumer order."""
        return {e["prosumerOrderId"]: e["verdict"] for e in self.named("ProsumerSettled")}

    def missing(self) -> np.ndarray:
        """Where readings are missing, shape (connections, ISPs)."""
        world = self.pilot.world
        meter_ids = [p.meter_id for p in world.cast.prosumers]
        with open_store(self.folder / "store.db", create=False) as store, store.read() as connection:
            matrix = energy_matrix(connection, meter_ids, world.day.first_isp, world.day.isp_count)
        return matrix[:, :, 0] == MISSING


def live(config: PilotConfig, *, prepare: Hook = lambda day: None, between: Hook = lambda day: None, **options):
    """Lives through a day.

    Parameters
    ----------
    prepare : callable
        Called once, before the first stage.
    between : callable
        Called after every stage but the audit.
    options
        Further arguments of :class:`PilotDay`.
    """
    with PilotDay(config, **options) as pilot:
        prepare(pilot)
        for stage in (pilot.enrol, pilot.plan, pilot.deliver, pilot.settle):
            stage()
            between(pilot)
        result = pilot.audit()
        events = read_events(pilot.world.chain, pilot.world.suite)
    return FinishedDay(pilot, result, events)


def run_pilot_command(out: Path, *options: str) -> tuple[Path, subprocess.CompletedProcess]:
    """``gridpact pilot`` on noon; the folder and the finished process."""
    command = [sys.executable, "-m", "offchain.cli.main", "pilot", "--scenario", "noon", "--seed", str(NOON_SEED)]
    return out, subprocess.run(
        [*command, "--out", str(out), *(options or ["--json"])],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "COLUMNS": "120"},
    )


def without_wall_time(report: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same whenever the same day is lived through."""
    return {key: value for key, value in report.items() if key != "wall_seconds"}
