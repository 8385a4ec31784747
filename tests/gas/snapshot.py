"""Gas snapshots: what a scenario costs is kept in ``snapshots.json``, so that a change is a reviewed diff.

``check("anchor a day batch of 10,000 readings", tx.gas_used)`` compares; ``GAS_UPDATE=1`` writes instead.
"""

import json
import os
from pathlib import Path

from offchain.chain.compile import EVM_VERSION, OPTIMIZER_RUNS, SOLC_VERSION

SNAPSHOTS = Path(__file__).with_name("snapshots.json")
COMPILER = {"solc": SOLC_VERSION, "evmVersion": EVM_VERSION, "optimizerRuns": OPTIMIZER_RUNS}


def check(scenario: str, value: int, path: Path = SNAPSHOTS) -> None:
    """Compares a measured number with the one kept, or keeps it under ``GAS_UPDATE=1``.

    Parameters
    ----------
    scenario : str
        What was measured, in plain words with its size; unique.
    value : int
        Gas, or bytes where the scenario says so.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    scenarios = kept.get("scenarios", {})
    if os.environ.get("GAS_UPDATE") == "1":
        scenarios[scenario] = value
        content = {"compiler": COMPILER, "scenarios": dict(sorted(scenarios.items()))}
        path.write_text(json.dumps(content, indent=2) + "\n")
        return
    hint = "GAS_UPDATE=1 keeps the new number"
    assert scenario in scenarios, f"{scenario}: no number kept, measured {value} ({hint})"
    assert kept["compiler"] == COMPILER, f"kept with {kept['compiler']}, compiled with {COMPILER} ({hint})"
    old = scenarios[scenario]
    assert value == old, f"{scenario}: was {old}, is {value} ({value - old:+}; {hint})"
