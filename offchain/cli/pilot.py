"""``gridpact pilot``: a whole pilot day from one command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from offchain.cli.output import JsonOption, QuietOption, progress_bars, result


class ScenarioName(StrEnum):
    """Scenarios of the pilot."""

    EVENING = "evening"
    NOON = "noon"


def pilot(
    scenario: Annotated[ScenarioName, typer.Option(help="Which day on which grid.")] = ScenarioName.EVENING,
    seed: Annotated[int, typer.Option(help="The same seed gives the same report.", min=0)] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("build/pilot"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one day on a local chain, from forecast to payout and audit."""
    from offchain.pilot import run, summary

    with progress_bars(quiet) as progress:
        report = run(scenario=scenario.value, seed=seed, out=out, progress=progress)
    result(report, summary(report), as_json)
    if not report["audit"]["ok"]:
        raise typer.Exit(1)
