"""``gridpact baseline``: baselines, how good they are, and whether load before an event was moved."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result

if TYPE_CHECKING:
    from offchain.baseline.history import History
    from offchain.domain.isp import MarketDay

app = typer.Typer(no_args_is_help=True, help="Baselines: compute, evaluate, recommend.")

Readings = Annotated[Path, typer.Argument(help="CSV or Parquet: prosumer, start, net_wh or import_wh and export_wh.")]
Zone = Annotated[str, typer.Option(help="Time zone of the market day.")]
Country = Annotated[
    str | None, typer.Option(help="Country of the public holidays, such as IT or DE-BY; default: German nationwide.")
]
Excluded = Annotated[
    Path | None,
    typer.Option(help="CSV of days not to use: day, reason (event, outage, meter change), prosumer or none for all."),
]
FindOutages = Annotated[
    bool, typer.Option("--find-outages", help="Leave out days with an hour of zeros where that is rare.")
]
Group = Annotated[bool, typer.Option("--group", help="All connections of the file as one group.")]
Event = Annotated[str, typer.Option(help="Local time of the event, such as 17:00-19:00.")]
Out = Annotated[Path | None, typer.Option(help="Result as .csv, .json or .parquet.")]
Plot = Annotated[Path | None, typer.Option(help="Picture as .png, .svg or .pdf.")]
Day = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Market day.")]


@app.command()
def methods(as_json: JsonOption = False) -> None:
    """List the methods with what they need and their hashes."""
    from rich.console import Console
    from rich.table import Table

    from offchain.baseline.method import BASELINE_METHODS, method_hash

    rows = {
        name: {
            "same_day": method.same_day,
            "least_days": method.least_days,
            "most_days": method.most_days,
            "hash": method_hash(method),
        }
        for name, method in BASELINE_METHODS.items()
    }
    if as_json:
        result(rows, "", True)
        return
    table = Table("method", "needs the day itself", "similar days", "hash", title="Baseline methods")
    for name, row in rows.items():
        days = (
            f"{row['least_days']}"
            if row["least_days"] == row["most_days"]
            else f"{row['least_days']} to {row['most_days']}"
        )
        table.add_row(name, "yes" if row["same_day"] else "no", days, row["hash"][:16])
    Console().print(table)


@app.command()
def compute(
    readings: Readings,
    day: Day,
    method: Annotated[str, typer.Option(help="As `gridpact baseline methods` names it.")] = "weighted_10@1",
    event: Annotated[str | None, typer.Option(help="Local time of the event, such as 17:00-19:00.")] = None,
    group: Group = False,
    excluded: Excluded = None,
    find_outages: FindOutages = False,
    zone: Zone = "Europe/Berlin",
    country: Country = None,
    out: Out = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the first connection, or of --prosumer.")] = None,
    prosumer: Annotated[str | None, typer.Option(help="Only this connection.")] = None,
    store: Annotated[str | None, typer.Option(help="Store to keep the baselines in, a file or a URL.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute baselines of a market day from the days before it."""
    import pandas as pd

    from offchain.baseline.method import baseline_method, baselines_of, method_hash
    from offchain.domain.errors import DomainError
    from offchain.domain.isp import MarketDay, isp_start
    from offchain.profiling.tables import write_frame

    chosen = baseline_method(method)
    histories, refused = _histories(readings, zone, country, excluded, find_outages, prosumer)
    market_day = MarketDay.of(day.date(), zone)
    isps = None if event is None else _isps(event, market_day, zone)
    if group:
        histories = _group(histories, refused, lambda history: chosen.inputs(history, market_day, isps))
    found = baselines_of(chosen, histories, market_day, isps)
    refused |= {name: str(error) for name, error in found.refused.items()}
    for name, reason in refused.items():
        note(f"{name}: {reason}")
    if not found.net_wh:
        raise DomainError(f"no baseline of {market_day.day}: none of {len(refused)} connections has the history")
    starts = [isp_start(isp).isoformat() for isp in market_day.isps]
    frame = pd.concat(
        [
            pd.DataFrame({"prosumer": name, "start": starts, "baseline_wh": curve})
            for name, curve in found.net_wh.items()
        ]
    )
    if out is not None:
        write_frame(frame, out)
    if store is not None:
        _keep(store, found.net_wh, histories, market_day, method, method_hash(chosen))
    if plot is not None:
        _plot_event(plot, histories, found.net_wh, market_day, isps, zone, method)
    data = {
        "day": str(market_day.day),
        "method": method,
        "method_hash": method_hash(chosen),
        "event": None if isps is None else [isps.start, isps.stop],
        "first_isp": market_day.first_isp,
        "baseline_wh": {str(name): curve.tolist() for name, curve in found.net_wh.items()},
        "refused": refused,
    }
    lines = [f"baselines of {market_day.day} by {method}, {len(found.net_wh)} connections, {len(refused)} without"]
    for name, curve in list(found.net_wh.items())[:20]:
        part = curve if isps is None else curve[isps.start - market_day.first_isp : isps.stop - market_day.first_isp]
        lines.append(f"  {name}: {part.sum() / 1_000:,.3f} kWh {'in the day' if isps is None else 'in the event'}")
    result(data, "\n".join(lines), as_json)


def _keep(store: str, curves: Any, histories: Any, day: "MarketDay", method: str, method_hash: str) -> None:
    """Baselines with the digest of the readings before the day that they were made of."""
    import hashlib
    import time

    import numpy as np

    from offchain.cli.store import opened
    from offchain.store.series import BaselineRow, pack, put_baselines

    now, rows = int(time.time()), []
    for name, curve in curves.items():
        history = histories[name]
        before = history.net_wh[: max(day.end_isp - history.first_isp, 0)].astype("<i8")
        known = np.ones(before.size, bool) if history.known is None else history.known[: before.size]
        inputs = hashlib.sha256(f"{history.first_isp}".encode() + before.tobytes() + known.tobytes()).digest()
        source = f"{method}:{method_hash[:16]}"
        values = pack(curve.astype(float))
        rows.append(BaselineRow(str(name), method, day.first_isp, now, source, curve.size, values, inputs))
    with opened(store, create=True) as target, target.write() as connection:
        note(f"{put_baselines(connection, rows)} baselines kept in {store}")


@app.command()
def evaluate(
    readings: Readings,
    event: Event = "17:00-19:00",
    method: Annotated[list[str] | None, typer.Option(help="Methods to compare; default: all.")] = None,
    days: Annotated[str, typer.Option(help="working or free days.")] = "working",
    latest: Annotated[int | None, typer.Option(help="Only the latest placebo events.", min=10)] = None,
    unknown_days: Annotated[
        int, typer.Option(help="Days before an event that are not metered yet: 1 for commitment a day ahead.", min=0)
    ] = 0,
    same_day: Annotated[
        bool, typer.Option("--same-day", help="Recommend methods that need readings of the day itself, too.")
    ] = False,
    group: Group = False,
    excluded: Excluded = None,
    find_outages: FindOutages = False,
    zone: Zone = "Europe/Berlin",
    country: Country = None,
    out: Out = None,
    plot: Plot = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure methods by placebo events on the connections' own data, and recommend: bias first, then spread."""
    from rich.console import Console

    from offchain.baseline.evaluation import evaluate as evaluate_methods
    from offchain.baseline.evaluation import placebo_days, recommend
    from offchain.baseline.history import DayType
    from offchain.baseline.method import BASELINE_METHODS, baseline_method
    from offchain.domain.errors import DomainError

    if days not in [kind.value for kind in DayType]:
        raise DomainError(f"no such days: {days!r}", hint="working or free")
    chosen = [baseline_method(name) for name in (method or BASELINE_METHODS)]
    begin, end = _positions(event)
    histories, refused = _histories(readings, zone, country, excluded, find_outages, None)
    kind = DayType(days)
    if group:
        histories = _group(
            histories,
            refused,
            lambda history: placebo_days(chosen, history, kind=kind, at_most=latest, unknown_days=unknown_days),
        )
    with progress_bars(quiet) as progress:
        evaluation = evaluate_methods(
            chosen,
            histories,
            range(begin, end),
            kind=kind,
            at_most=latest,
            unknown_days=unknown_days,
            progress=lambda done, total: progress("connections", done, total),
        )
    refused |= {name: str(error) for name, error in evaluation.refused.items()}
    for name, reason in refused.items():
        note(f"{name}: {reason}")
    if not evaluation.quality:
        raise DomainError(f"none of {len(refused)} connections can be evaluated")
    best = {name: recommend(q, same_day=same_day)[0].method for name, q in evaluation.quality.items()}
    if out is not None:
        _write_quality(out, evaluation.quality, best)
    if plot is not None:
        from offchain.baseline.plots import plot_quality

        name, quality = next(iter(evaluation.quality.items()))
        plot_quality(plot, quality, title=f"{name}: placebo events {event} on {days} days")
    if as_json:
        data = {
            name: {"recommended": best[name], "quality": {m: _finite(q) for m, q in quality.items()}}
            for name, quality in evaluation.quality.items()
        }
        result({"connections": data, "refused": refused}, "", True)
    else:
        Console().print(_quality_table(evaluation.quality, best, event, days))


@app.command()
def check(
    readings: Readings,
    day: Day,
    event: Event,
    direction: Annotated[str, typer.Option(help="up: less consumption was ordered; down: more.")] = "up",
    notice: Annotated[str | None, typer.Option(help="Local time of the notice; default two hours before.")] = None,
    excluded: Excluded = None,
    find_outages: FindOutages = False,
    zone: Zone = "Europe/Berlin",
    country: Country = None,
    as_json: JsonOption = False,
) -> None:
    """Flag connections whose load before an event moved in the way that would raise their payment."""
    from offchain.baseline.gaming import pre_event_movement
    from offchain.domain.errors import DomainError, FlexError
    from offchain.domain.isp import MarketDay
    from offchain.domain.units import Direction

    if direction.upper() not in Direction.__members__:
        raise DomainError(f"no such direction: {direction!r}", hint="up or down")
    histories, refused = _histories(readings, zone, country, excluded, find_outages, None)
    market_day = MarketDay.of(day.date(), zone)
    isps = _isps(event, market_day, zone)
    told = None if notice is None else market_day.first_isp + _local_position(_time(notice), market_day, zone)
    found = {}
    for name, history in histories.items():
        try:
            found[name] = pre_event_movement(history, market_day, isps, Direction[direction.upper()], notice_isp=told)
        except FlexError as error:
            refused[name] = str(error)
            note(f"{name}: {error}")
    lines = [f"{sum(m.suspicious for m in found.values())} of {len(found)} connections moved as gaming would"]
    lines += [
        f"  {name}: {m.moved_wh / 1_000:+,.3f} kWh against {m.usual_wh / 1_000:,.3f} kWh, more than on "
        f"{m.rank_bps / 100:.0f}% of the days"
        for name, m in found.items()
        if m.suspicious
    ]
    result({"movements": {n: asdict(m) for n, m in found.items()}, "refused": refused}, "\n".join(lines), as_json)


def _histories(
    readings: Path, zone: str, country: str | None, excluded: Path | None, find_outages: bool, prosumer: str | None
) -> tuple[dict[str, "History"], dict[str, str]]:
    from offchain.baseline.outages import outage_days
    from offchain.domain.errors import DomainError
    from offchain.profiling.tables import read_readings

    histories, refused = read_readings(readings, zone=zone)
    if prosumer is not None:
        if prosumer not in histories:
            reason = refused.get(prosumer, f"found {', '.join(list(histories)[:10])}")
            raise DomainError(f"{readings}: no usable readings of {prosumer!r}", hint=reason)
        histories = {prosumer: histories[prosumer]}
    left_out = {} if excluded is None else _exclusions(excluded)
    holidays = None if country is None else _holidays(country, histories.values())
    for name, history in histories.items():
        found = outage_days(history) if find_outages else {}
        if found:
            note(f"{name}: no supply on {', '.join(map(str, found))}")
        days = {**found, **left_out.get("", {}), **left_out.get(name, {})}
        histories[name] = replace(history, excluded=days, holidays=holidays)
    return histories, dict(refused)


def _group(
    histories: dict[str, "History"], refused: dict[str, str], require: Callable[["History"], Any]
) -> dict[str, "History"]:
    """The sum of all that can be used on their own; one that is too short would shorten the sum of all."""
    from offchain.baseline.history import group_history
    from offchain.domain.errors import FlexError

    members = []
    for name, history in histories.items():
        try:
            require(history)
        except FlexError as error:
            refused[name] = f"not in the group: {error}"
        else:
            members.append(history)
    return {f"group of {len(members)}": group_history(members)} if members else {}


def _exclusions(path: Path) -> dict[str, dict]:
    """Days not to use by connection; those of all connections under the empty name."""
    from datetime import date

    from offchain.baseline.history import Exclusion
    from offchain.domain.errors import DomainError
    from offchain.profiling.tables import column, read_frame

    frame = read_frame(path)
    names = frame["prosumer"].fillna("").astype(str) if "prosumer" in frame else [""] * len(frame)
    found: dict[str, dict] = {}
    rows = zip(names, column(frame, "day", str(path)), column(frame, "reason", str(path)), strict=True)
    for n, (name, day, reason) in enumerate(rows, start=1):
        try:
            found.setdefault(name, {})[date.fromisoformat(str(day))] = Exclusion(str(reason))
        except ValueError as exc:
            raise DomainError(
                f"{path}: row {n}: {exc}", hint=f"day as 2016-12-14, reason one of {', '.join(Exclusion)}"
            ) from exc
    return found


def _holidays(country: str, histories: Any) -> frozenset:
    from offchain.domain.errors import DomainError, PermanentError
    from offchain.domain.isp import isp_start

    try:
        import holidays
    except ImportError as exc:
        raise PermanentError("the package holidays is not installed", hint="install the extra 'forecasting'") from exc
    years = {
        isp_start(isp).year
        for history in histories
        for isp in (history.first_isp, history.first_isp + history.net_wh.size)
    }
    name, _, state = country.partition("-")
    try:
        found = holidays.country_holidays(name, subdiv=state or None, years=range(min(years), max(years) + 1))
    except NotImplementedError as exc:
        raise DomainError(f"no public holidays known of {country!r}", hint="such as IT, DE or DE-BY") from exc
    return frozenset(found)


def _time(text: str) -> time | None:
    """A local time of day; None for 24:00."""
    from offchain.domain.errors import DomainError

    if text == "24:00":
        return None
    try:
        found = time.fromisoformat(text)
    except ValueError as exc:
        raise DomainError(f"{text!r} is no time of day", hint="such as 17:00") from exc
    if found.minute % 15 or found.second or found.microsecond or found.tzinfo is not None:
        raise DomainError(f"{text} is no beginning of a quarter hour", hint="such as 17:00 or 17:15")
    return found


def _interval(event: str) -> tuple[time | None, time | None]:
    from offchain.domain.errors import DomainError

    begin, dash, end = event.partition("-")
    if not dash:
        raise DomainError(f"{event!r} is no interval", hint="such as 17:00-19:00")
    return _time(begin.strip()), _time(end.strip())


def _positions(event: str) -> tuple[int, int]:
    """Positions in a day of 96 ISPs."""
    from offchain.domain.errors import DomainError

    begin, end = (96 if at is None else at.hour * 4 + at.minute // 15 for at in _interval(event))
    if begin >= end:
        raise DomainError(f"event {event} ends before it begins", hint="events lie within one day")
    return begin, end


def _local_position(at: time | None, day: "MarketDay", zone: str) -> int:
    from zoneinfo import ZoneInfo

    from offchain.domain.isp import isp_of

    if at is None:
        return day.isp_count
    return isp_of(datetime.combine(day.day, at, ZoneInfo(zone))) - day.first_isp


def _isps(event: str, day: "MarketDay", zone: str) -> range:
    """ISPs of an event on a day; a local time that comes twice means the first."""
    _positions(event)
    begin, end = (day.first_isp + _local_position(at, day, zone) for at in _interval(event))
    return range(begin, end)


def _plot_event(
    path: Path, histories: dict, net_wh: dict, day: "MarketDay", isps: range | None, zone: str, method: str
) -> None:
    import numpy as np

    from offchain.baseline.plots import plot_event

    name, curve = next(iter(net_wh.items()))
    history = histories[name]
    metered = np.full(day.isp_count, np.nan)
    first = max(history.first_isp, day.first_isp)
    last = min(history.first_isp + history.net_wh.size, day.end_isp)
    if first < last:
        part = slice(first - history.first_isp, last - history.first_isp)
        values = history.net_wh[part].astype(float)
        metered[first - day.first_isp : last - day.first_isp] = (
            values if history.known is None else np.where(history.known[part], values, np.nan)
        )
    shown = None if np.isnan(metered).all() else metered
    plot_event(path, day, curve, shown, isps, zone=zone, title=f"{name}, {method}")


def _finite(quality: Any) -> dict[str, Any]:
    """Fields of a quality; null where a percentage is infinite, which JSON has no word for."""
    from math import isfinite

    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in asdict(quality).items()}


def _write_quality(path: Path, quality: dict, best: dict[str, str]) -> None:
    import pandas as pd

    from offchain.profiling.tables import write_frame

    rows = [
        {"prosumer": name, **asdict(q), "recommended": q.method == best[name]}
        for name, by_method in quality.items()
        for q in by_method.values()
    ]
    write_frame(pd.DataFrame(rows), path)


def _quality_table(quality: dict, best: dict[str, str], event: str, days: str) -> Any:
    from statistics import median

    from rich.table import Table

    events = sorted({q.events for by_method in quality.values() for q in by_method.values()})
    counted = f"{events[0]}" if len(events) == 1 else f"{events[0]} to {events[-1]}"
    table = Table(
        title=f"Placebo events {event} on {days} days: medians of {len(quality)} connections, {counted} events each"
    )
    for heading in ("method", "bias %", "CV(RMSE) %", "MAPE %", "recommended for"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name in next(iter(quality.values())):
        of = [by_method[name] for by_method in quality.values()]
        table.add_row(
            f"{name} *" if of[0].same_day else name,
            f"{median(q.bias_percent for q in of):+.1f}",
            f"{median(q.cv_rmse_percent for q in of):.1f}",
            f"{median(q.mape_percent for q in of):.1f}",
            str(sum(chosen == name for chosen in best.values()) or ""),
        )
    table.caption = "* needs readings of the day itself"
    return table
