"""``gridpact store``: readings, weather and results into the store, and what it holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from offchain.store import Store

app = typer.Typer(help="Readings, weather and results of analytics in the store.", no_args_is_help=True)

StoreOption = Annotated[str, typer.Option(help="Store: a file or a database URL.")]
DEFAULT_STORE = "gridpact.db"


def opened(store: str, *, create: bool = False) -> "Store":
    """The store of an option; a missing file is an error unless it may be made."""
    from offchain.store import open_store

    return open_store(store, create=create)


def keep_analyses(store: str, kind: str, source: str, contents: "Mapping[str, dict[str, Any]]") -> None:
    """Findings of a command by prosumer into the store, known from now on."""
    import time

    from offchain.store.analyses import Analysis, put_analyses

    now = int(time.time())
    with opened(store, create=True) as target, target.write() as connection:
        put_analyses(connection, [Analysis(name, kind, now, source, content) for name, content in contents.items()])
    note(f"{len(contents)} of kind {kind} kept in {store}")


def moment_s(text: str) -> int:
    """Time of an option [UTC s]."""
    return int(moment(text).timestamp())


def moment(text: str) -> "datetime":
    """Time of an option, refused without its offset."""
    from datetime import datetime

    from offchain.domain.errors import DomainError

    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise DomainError(f"{text!r} is not a time", hint="write 2016-10-31T11:00:00+01:00") from exc
    if found.tzinfo is None:
        raise DomainError(f"{text!r} has no time zone", hint="write 2016-10-31T11:00:00+01:00")
    return found


@app.command("import")
def import_readings(
    readings: Annotated[
        Path,
        typer.Argument(help="CSV or Parquet: event_start with its UTC offset, values in _wh, _kwh, _w or _kw."),
    ],
    store: StoreOption = DEFAULT_STORE,
    quantity: Annotated[
        str, typer.Option(help="net_wh, import_wh, export_wh, flexibility_up_wh or flexibility_down_wh.")
    ] = "net_wh",
    known_since: Annotated[
        str | None, typer.Option(help="Since when the readings are known, ISO 8601 with offset; now without.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a file of readings over; what is there already stays, what differs is a correction."""
    import time

    from offchain.domain.errors import DomainError
    from offchain.store.importing import read_series
    from offchain.store.series import put_changes

    known = ("net_wh", "import_wh", "export_wh", "flexibility_up_wh", "flexibility_down_wh")
    if quantity not in known:
        raise DomainError(f"unknown quantity {quantity!r}", hint=f"one of {', '.join(known)}")
    belief = int(time.time()) if known_since is None else moment_s(known_since)
    block, report = read_series(readings, negative=quantity == "net_wh")
    with opened(store, create=True) as target, target.write() as connection:
        new, corrected = put_changes(
            connection, block, quantity=quantity, belief_time=belief, source=f"file:{readings.name}"[:128]
        )
    data = {"series": len(block.ids), "new": new, "corrected": corrected, "cleaning": report.to_dict()}
    for line in report.lines():
        note(line)
    result(data, f"{len(block.ids)} series: {new:,} values new, {corrected:,} corrected", as_json)


@app.command("import-oracle")
def import_oracle(
    oracle: Annotated[str, typer.Argument(help="Store of a site, a file or a database URL.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take the readings of an oracle over, with quality flags and the time since when they were known."""
    from dataclasses import asdict

    from offchain.store.from_oracle import import_readings as take

    with opened(oracle) as source, opened(store, create=True) as target, progress_bars(quiet) as progress:
        done = asdict(take(source, target, progress=progress))
    result(done, "\n".join(f"{name:12} {count:>12,}" for name, count in done.items()), as_json)


@app.command("import-weather")
def import_weather(
    weather: Annotated[Path, typer.Argument(help="File of weather and prices, laid out as the mapping says.")],
    station: Annotated[str, typer.Option(help="Name of the place, or of the price zone.")],
    store: StoreOption = DEFAULT_STORE,
    mapping: Annotated[str, typer.Option(help="external_csv, open_meteo, awattar, or a file.")] = "external_csv",
    as_json: JsonOption = False,
) -> None:
    """Take weather and prices over, each value with the time since when it was known."""
    values = external_values(weather, station, mapping)
    from oracles.external import store_external

    with opened(store, create=True) as target:
        new = store_external(target, values)
    result({"values": len(values), "new_runs": new}, f"{len(values):,} values, {new:,} runs new", as_json)


def external_values(path: Path, station: str, mapping: str) -> list:
    """Values of a file of the oracles' external sources."""
    import asyncio

    from pydantic import ValidationError

    from offchain.domain.errors import DomainError, PermanentError
    from oracles.clock import SystemClock
    from oracles.sources.exogenous import ExternalSourceConfig

    if not path.exists():
        raise PermanentError(f"{path}: no such file")
    try:
        config = ExternalSourceConfig(series=station, mapping=mapping, file=path.resolve(), every_s=None)
    except ValidationError as exc:
        raise DomainError(f"{path}: {exc.errors()[0]['msg']}", hint="see oracles/sources/mappings") from exc

    async def everything() -> list:
        return [value async for value in config.source(SystemClock()).values()]

    return asyncio.run(everything())


@app.command()
def show(
    store: StoreOption = DEFAULT_STORE,
    kind: Annotated[
        str | None, typer.Option(help="Findings to list: load_profile, segment or cluster. A summary without.")
    ] = None,
    prosumer: Annotated[list[str] | None, typer.Option(help="Only of this one; may be given several times.")] = None,
    known_at: Annotated[str | None, typer.Option(help="What was known then, ISO 8601 with offset.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What the store holds, and what analytics found about each prosumer."""
    from offchain.store.analyses import latest_analyses

    then = None if known_at is None else moment_s(known_at)
    with opened(store) as source, source.read() as connection:
        if kind is None:
            data = _summary(connection, then)
            lines = [
                f"{name:24} {row['series']:>8,} series  {row['from']} to {row['to']}" for name, row in data.items()
            ]
            result(data, "\n".join(lines) or "nothing", as_json)
            return
        found = latest_analyses(connection, kind, prosumer, known_at=then)
    rows = {name: a._asdict() | {"belief_time": _iso(a.belief_time)} for name, a in found.items()}
    lines = [f"{name}: {_short(a.content)} ({a.source}, {_iso(a.belief_time)})" for name, a in found.items()]
    result(rows, "\n".join(lines) or f"no {kind}", as_json)


@app.command()
def series(
    quantity: Annotated[str, typer.Argument(help="net_wh, quality, flexibility_up_wh ...; `show` lists them.")],
    store: StoreOption = DEFAULT_STORE,
    prosumer: Annotated[list[str] | None, typer.Option(help="Only of this one; may be given several times.")] = None,
    known_at: Annotated[str | None, typer.Option(help="What was known then, ISO 8601 with offset.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write: .csv, .json or .parquet.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Values of a quantity per quarter hour, as they are known now or were then."""
    import pandas as pd

    from offchain.domain.errors import DomainError
    from offchain.domain.isp import SECONDS_PER_ISP
    from offchain.profiling.tables import write_frame
    from offchain.store.series import measured_span, read_measurements, series_ids

    then = None if known_at is None else moment_s(known_at)
    with opened(store) as source, source.read() as connection:
        span = measured_span(connection, quantity, known_at=then)
        if span is None:
            raise DomainError(f"{store}: no values of {quantity!r}", hint="gridpact store show lists what there is")
        ids = prosumer or series_ids(connection, quantity, known_at=then)
        block = read_measurements(connection, ids, quantity, span.start, len(span), known_at=then)
    start = pd.to_datetime((span.start + pd.RangeIndex(len(span))) * SECONDS_PER_ISP, unit="s", utc=True)
    table = pd.DataFrame(block.values, columns=list(ids)).assign(event_start=start).set_index("event_start")
    table = table.dropna(how="all")
    if out is not None:
        write_frame(table.reset_index(), out)
    data = {
        "quantity": quantity,
        "event_start": [moment.isoformat() for moment in table.index],
        "series": {name: [None if v != v else v for v in table[name].tolist()] for name in ids},
    }
    lines = [f"{name}: {int(table[name].count()):,} values, sum {table[name].sum():,.0f}" for name in ids]
    result(data, "\n".join(lines), as_json)


def _summary(connection: Any, known_at: int | None) -> dict[str, dict[str, Any]]:
    from offchain.domain.isp import isp_start
    from offchain.store.series import measured_span, quantities, series_ids

    found = {}
    for quantity in quantities(connection):
        span = measured_span(connection, quantity, known_at=known_at)
        if span is not None:
            found[quantity] = {
                "series": len(series_ids(connection, quantity)),
                "from": isp_start(span.start).isoformat(),
                "to": isp_start(span.stop).isoformat(),
            }
    return found


def _iso(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _short(content: dict[str, Any]) -> str:
    plain = {name: value for name, value in content.items() if not isinstance(value, list | dict)}
    return ", ".join(f"{name} {value}" for name, value in list(plain.items())[:6])
