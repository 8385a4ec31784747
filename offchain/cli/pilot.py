"""``gridpact pilot``: a whole pilot day from one command."""

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars

if TYPE_CHECKING:
    from rich.table import Table


def pilot(
    scenario: Annotated[str, typer.Option(help="evening, noon or quiet: which day on which grid.")] = "evening",
    seed: Annotated[int, typer.Option(help="The same seed gives the same report.", min=0)] = 1,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Another day of 2016 than the scenario's.")
    ] = None,
    participation: Annotated[
        float, typer.Option(help="Share of the flexible connections with an agreement.", min=0, max=1)
    ] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder of report, store and chain state.")] = Path("build/pilot"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one day on a local chain, from forecast to payout and audit."""
    from rich.console import Console

    from offchain.pilot import PilotConfig, run_pilot
    from offchain.pilot.report import write_report

    config = PilotConfig(
        scenario=scenario, seed=seed, out=out, day=day.date() if day else None, participation=participation
    )
    # What devices do on the day belongs to its record, not between the progress bars.
    logging.basicConfig(
        handlers=[logging.FileHandler(out / "pilot.log", mode="w", delay=True)],
        level=logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
    )
    with progress_bars(quiet) as progress:
        result = run_pilot(config, progress)
        page = write_report(result, out)
    if as_json:
        print((out / "report.json").read_text(encoding="utf-8"), end="", flush=True)
    else:
        Console().print(summary_table(result.report))
    note(f"report: {page}")
    if not result.audit.ok:
        result.audit.raise_first()


def summary_table(report: dict) -> "Table":
    """The day in figures."""
    from rich.table import Table

    energy, money, chain = report["energy_wh"], report["money_utoken"], report["chain"]
    before, after = report["congestion"]["before"], report["congestion"]["after"]
    table = Table(title=f"{report['day']} on {report['grid']['code']}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("transformer loading without flexibility", f"{before['max_loading_percent']} %")
    table.add_row("transformer loading as metered", f"{after['max_loading_percent']} %")
    table.add_row("quarter hours in violation", f"{before['violated_isps']} -> {after['violated_isps']}")
    table.add_section()
    for name in ("requested", "ordered", "delivered", "shortfall", "reassigned"):
        table.add_row(name, f"{energy[name] / 1000:,.1f} kWh")
    table.add_section()
    for name, value in money.items():
        table.add_row(name.replace("_", " "), f"{value / 1_000_000:,.2f} token")
    table.add_section()
    table.add_row("transactions", f"{chain['transactions']:,}")
    table.add_row("gas a reading anchored", str(chain["gas_per_reading"]))
    table.add_row("gas a prosumer settled", f"{chain['gas_per_prosumer_settled'] or 0:,}")
    table.add_row("audit", "all in order" if report["audit"]["ok"] else "differences found")
    table.add_row("wall time", f"{report['wall_seconds']} s")
    return table
