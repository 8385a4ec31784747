"""``gridpact audit``: rebuilds every balance, verdict and payment, and says whether all is as it should be."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from offchain.audit import AuditReport
from offchain.audit import audit as run_audit
from offchain.audit.source import Evidence, open_evidence
from offchain.domain.errors import FlexError


def audit(
    pilot: Annotated[Path, typer.Option(help="Folder that `gridpact pilot` left.")] = Path("build/pilot"),
    rpc: Annotated[str | None, typer.Option(help="Endpoint of a running chain instead of the pilot's state.")] = None,
    deployments: Annotated[Path | None, typer.Option(help="Deployment file; default is the pilot's.")] = None,
    store: Annotated[str | None, typer.Option(help="Store, a file or a database URL; default is the pilot's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON, with every difference.")] = False,
) -> None:
    """Check chain and store against each other; exit 1 naming the first difference."""
    target = Path(store) if store is not None and "://" not in store else store
    evidence = Evidence.of_pilot(pilot, rpc=rpc, deployment=deployments, store=target)
    errors = Console(stderr=True, soft_wrap=True)
    try:
        report = _run(evidence, errors)
        if as_json:
            typer.echo(report.to_json())
        else:
            Console().print(report_table(report))
        report.raise_first()
    except FlexError as exc:
        errors.print(f"audit: {exc}", style="bold red", markup=False, highlight=False)
        raise typer.Exit(exc.exit_code) from exc


def report_table(report: AuditReport) -> Table:
    """What was checked, with counts."""
    table = Table(title="Audit" + (": all in order" if report.ok else ": differences found"))
    table.add_column("checked")
    table.add_column("checks", justify="right")
    for subject, count in report.checked.items():
        table.add_row(subject, f"{count:,}")
    table.add_section()
    table.add_row("total", f"{sum(report.checked.values()):,}")
    table.add_row("differences", f"{len(report.mismatches):,}")
    return table


def _run(evidence: Evidence, console: Console) -> AuditReport:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        opening = bars.add_task("chain and store", total=None)
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        with open_evidence(evidence) as (chain, store):
            bars.update(opening, total=1, completed=1)
            return run_audit(chain, store, show)
