"""Forecasts of a finished pilot day made again from its store, and compared with what the chain was told."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_hash.auto import keccak

from offchain.audit.source import Evidence, open_evidence
from offchain.chain.events import Event
from offchain.domain.errors import PermanentError
from offchain.flexibility.commitments import RUN_DOCUMENT, CommitmentKind
from offchain.forecasting.panel import Panel
from offchain.forecasting.verification import Run, verify_run
from offchain.market.open_position import METHOD
from offchain.pilot.foresight import INPUTS_DOCUMENT
from offchain.store import Store
from offchain.store.documents import documents_of
from offchain.store.series import read_measurements

FORECASTS = (CommitmentKind.FORECAST, CommitmentKind.D_PROGNOSIS)


@dataclass(frozen=True)
class VerifiedRun:
    """A forecast run, the commitments on chain that name it, and what differs."""

    run: Run
    commitments: tuple[int, ...]
    differences: tuple[str, ...]


def verify_forecasts(
    folder: Path, progress: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> list[VerifiedRun]:
    """Make every forecast run of a pilot again.

    Parameters
    ----------
    folder : Path
        What ``gridpact pilot`` left; nothing in it is changed.

    Returns
    -------
    list of VerifiedRun
        A run differs when readings, settings or results are not those of its record, or when no commitment names it.

    Raises
    ------
    PermanentError
        The folder misses a file, or the chain has a forecast whose record is not in the store.
    """
    with open_evidence(Evidence.of_pilot(folder)) as (chain, store):
        committed = _committed(chain.events)
        runs, inputs = _records(store)
        # Open positions are what trading left of the forecasts; no model made them.
        known = {METHOD, *(run.method_id for run in runs)}
        unknown = set(committed) - {keccak(method.encode()) for method in known}
        if unknown:
            first = min(commitment for method in unknown for commitment in committed[method])
            raise PermanentError(f"commitment {first}: the record of its forecast run is not in the store")
        found = []
        for done, run in enumerate(runs):
            progress("making the forecasts again", done, len(runs))
            commitments = tuple(committed.get(keccak(run.method_id.encode()), ()))
            differences = [] if commitments else [f"no commitment on chain names run {run.digest().hex()}"]
            if run.inputs in inputs:
                differences += verify_run(run, _panel(store, inputs[run.inputs]))
            else:
                differences.append(f"inputs: the store does not say which readings {run.inputs} are")
            found.append(VerifiedRun(run, commitments, tuple(differences)))
        progress("making the forecasts again", len(runs), len(runs))
    return found


def _committed(events: Sequence[Event]) -> dict[bytes, list[int]]:
    """Commitments of forecasts by the hash of their method."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for event in events:
        if event.name == "Committed" and event.args["kind"] in FORECASTS:
            found[event.args["method"]].append(event.args["commitmentId"])
    return dict(found)


def _records(store: Store) -> tuple[list[Run], dict[str, dict]]:
    """Runs by time and digest, and what their readings are by the digest of these."""
    with store.read() as connection:
        runs = [Run.from_json(document.content.decode()) for document in documents_of(connection, RUN_DOCUMENT)]
        inputs = [json.loads(document.content) for document in documents_of(connection, INPUTS_DOCUMENT)]
    return sorted(runs, key=lambda run: (run.issued_at, run.inputs)), {record["inputs"]: record for record in inputs}


def _panel(store: Store, record: dict) -> Panel:
    """Readings of a run as they were known when it was made."""
    count = record["end_isp"] - record["first_isp"]
    with store.read() as connection:
        block = read_measurements(connection, record["ids"], record["quantity"], record["first_isp"], count)
    panel = Panel(tuple(record["ids"]), record["first_isp"], block.values, record["zone"], record["country"])
    return panel if record["groups"] is None else panel.groups(record["groups"])
