"""How commands talk: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def result(data: Any, text: str, as_json: bool) -> None:
    """Prints the result of a command, for a program or for a person."""
    print(json.dumps(data, indent=2) if as_json else text, flush=True)


def columns(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for a person, under their names; lists as their items, what there is not as a dash."""
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def note(text: str) -> None:
    """Says something on the way."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """One bar per stage on stderr; plain lines where stderr is no terminal, nothing when ``quiet``."""
    if quiet:
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
                if not console.is_terminal:
                    note(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
