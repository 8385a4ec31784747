"""``gridpact audit``: rebuilds every balance, verdict and payment, and says whether all is as it should be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.cli.output import JsonOption, QuietOption, progress_bars

if TYPE_CHECKING:
    from rich.table import Table

    from offchain.audit import AuditReport


def audit(
    pilot: Annotated[Path, typer.Option(help="Folder that `gridpact pilot` left.")] = Path("build/pilot"),
    rpc: Annotated[str | None, typer.Option(help="Endpoint of a running chain instead of the pilot's state.")] = None,
    deployments: Annotated[Path | None, typer.Option(help="Deployment file; default is the pilot's.")] = None,
    store: Annotated[str | None, typer.Option(help="Store, a file or a database URL; default is the pilot's.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check chain and store against each other; exit 1 naming the first difference."""
    from rich.console import Console

    from offchain.audit import audit as run_audit
    from offchain.audit.source import Evidence, open_evidence

    evidence = Evidence.of_pilot(pilot, rpc=rpc, deployment=deployments, store=store)
    with progress_bars(quiet) as progress:
        progress("chain and store", 0, 1)
        with open_evidence(evidence) as (chain, records):
            progress("chain and store", 1, 1)
            report = run_audit(chain, records, progress)
    if as_json:
        print(report.to_json(), flush=True)
    else:
        Console().print(report_table(report))
    report.raise_first()


def report_table(report: "AuditReport") -> "Table":
    """What was checked, with counts."""
    from rich.table import Table

    table = Table(title="Audit: " + ("all in order" if report.ok else "differences found"))
    table.add_column("checked")
    table.add_column("checks", justify="right")
    for subject, count in report.checked.items():
        table.add_row(subject, f"{count:,}")
    table.add_section()
    table.add_row("total", f"{sum(report.checked.values()):,}")
    table.add_row("differences", f"{len(report.mismatches):,}")
    return table
