"""``gridpact profile``: what consumption looks like, what it is made of, how it answers to orders, how plants age."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result
from offchain.cli.store import keep_analyses

if TYPE_CHECKING:
    import pandas as pd

    from offchain.profiling.disaggregation import Appliance

app = typer.Typer(help="Load profiles, appliances, response to orders, degradation of plants.", no_args_is_help=True)

ReadingsArgument = Annotated[
    Path, typer.Argument(help="CSV or Parquet: prosumer, start (ISO 8601), net_wh or import_wh and export_wh.")
]
ZoneOption = Annotated[str, typer.Option(help="Time zone of local days.")]
OutOption = Annotated[Path | None, typer.Option(help="File for the result: .csv, .json or .parquet.")]
PlotOption = Annotated[
    Path | None, typer.Option(help="Picture, .png, .svg or .pdf; of the prosumer chosen, or the first.")
]
KeepOption = Annotated[str | None, typer.Option(help="Store to keep the result in, a file or a database URL.")]
ProsumerOption = Annotated[str | None, typer.Option(help="Only this prosumer.")]


def read_histories(readings: Path, zone: str, prosumer: str | None = None) -> tuple[dict, dict[str, str]]:
    """Histories of a file, and who cannot be read."""
    from offchain.domain.errors import DomainError
    from offchain.domain.isp import zone_of
    from offchain.profiling.tables import read_readings

    zone_of(zone)  # a wrong name is the command's fault, not that of every prosumer
    histories, unusable = read_readings(readings, zone=zone)
    if prosumer is not None:
        if prosumer in unusable:
            raise DomainError(unusable[prosumer])
        if prosumer not in histories:
            raise DomainError(f"{readings}: no prosumer {prosumer!r}", hint=f"there are {len(histories)} others")
        histories, unusable = {prosumer: histories[prosumer]}, {}
    return histories, unusable


def none_left(results: dict, unusable: dict[str, str]) -> None:
    """Ends the command where no prosumer could be used."""
    from offchain.domain.errors import DomainError

    if not results:
        name, reason = next(iter(unusable.items()))
        raise DomainError(f"no prosumer can be used, the first is {name}: {reason}")


def say_unusable(unusable: dict[str, str], shown: int = 10) -> None:
    """Names on stderr who was left out, and why."""
    for name, reason in list(unusable.items())[:shown]:
        note(f"left out {name}: {reason}")
    if len(unusable) > shown:
        note(f"left out {len(unusable) - shown} more; --json lists all")


def as_text(frame: "pd.DataFrame") -> str:
    """Rows for people."""
    return frame.to_string(index=False, float_format=lambda v: f"{v:,.3f}".rstrip("0").rstrip("."))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows for programs: nothing but what JSON has."""
    import json

    return json.loads(frame.to_json(orient="records", date_format="iso"))


@app.command()
def load(
    readings: ReadingsArgument,
    period: Annotated[str, typer.Option(help="daily (season and day type), weekly or monthly.")] = "daily",
    prosumer: ProsumerOption = None,
    forecast: Annotated[Path | None, typer.Option(help="File like the readings: what is expected after them.")] = None,
    out: OutOption = None,
    plot: PlotOption = None,
    store: KeepOption = None,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Typical curves of each prosumer, with quantiles, and the figures that describe it."""
    import pandas as pd

    from offchain.domain.errors import DomainError
    from offchain.profiling.batch import for_each
    from offchain.profiling.days import day_curves, extended
    from offchain.profiling.plots import plot_profile
    from offchain.profiling.profiles import Period, load_figures, profile_of_days
    from offchain.profiling.tables import write_frame

    if period not in list(Period):
        raise DomainError(f"unknown period {period!r}", hint=f"one of {', '.join(Period)}")
    histories, unusable = read_histories(readings, zone, prosumer)
    if forecast is not None:
        expected, _ = read_histories(forecast, zone)
        histories = {n: extended(h, expected[n]) if n in expected else h for n, h in histories.items()}
    with progress_bars(quiet) as progress:
        curves = for_each(histories, day_curves, progress=progress)
        unusable |= curves.unusable
        none_left(curves.results, unusable)
        profiles = {n: profile_of_days(c, Period(period)) for n, c in curves.results.items()}
        figures = {n: load_figures(c).as_dict() for n, c in curves.results.items()}
        if out is not None:
            frames = [p.frame().assign(prosumer=n) for n, p in profiles.items()]
            table = pd.concat(frames, ignore_index=True)
            write_frame(table[["prosumer", *table.columns.drop("prosumer")]], out)
        if store is not None:
            contents = {n: {"figures": f, "curves": records(profiles[n].frame())} for n, f in figures.items()}
            keep_analyses(store, f"load_profile_{period}", str(readings)[-128:], contents)
        if plot is not None:
            name = next(iter(profiles))
            plot_profile(profiles[name], plot, title=name)
    say_unusable(unusable)
    summary = pd.DataFrame([{"prosumer": n, **f} for n, f in figures.items()])
    days = {n: {d.isoformat(): why for d, why in c.unusable.items()} for n, c in curves.results.items() if c.unusable}
    data = {"period": period, "figures": records(summary), "unusable": unusable, "days_left_out": days}
    result(data, as_text(summary), as_json)


@app.command()
def disaggregate(
    readings: ReadingsArgument,
    prosumer: ProsumerOption = None,
    devices: Annotated[
        Path | None, typer.Option(help="CSV of known appliances: prosumer, kind, power_w. Others are looked for.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="CSV or Parquet: start, and per plant nearby a column of Wh per W rated.")
    ] = None,
    temperature: Annotated[
        Path | None, typer.Option(help="CSV or Parquet: start, temperature_c (outdoors, per quarter hour).")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    out: OutOption = None,
    plot: PlotOption = None,
    plot_day: Annotated[
        int, typer.Option(help="First day of the picture's week, 0 = first of the readings.", min=0)
    ] = 0,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Split each prosumer's net into base load, heating and cooling, vehicle, water heater, other and generation."""
    import pandas as pd

    from offchain.profiling.batch import for_each
    from offchain.profiling.plots import plot_components
    from offchain.profiling.tables import write_frame

    histories, unusable = read_histories(readings, zone, prosumer)
    known = _devices(devices) if devices is not None else {}
    tasks = {name: (history, known.get(name), reference, temperature) for name, history in histories.items()}
    with progress_bars(quiet) as progress:
        batch = for_each(tasks, _disaggregated, workers=workers, progress=progress)
        unusable |= batch.unusable
        none_left(batch.results, unusable)
        if out is not None:
            frames = [parts.frame().assign(prosumer=name) for name, parts in batch.results.items()]
            table = pd.concat(frames, ignore_index=True)
            write_frame(table[["prosumer", *table.columns.drop("prosumer")]], out)
        if plot is not None:
            plot_components(next(iter(batch.results.values())), plot, zone=zone, first=plot_day * 96)
    say_unusable(unusable)
    rows = [{"prosumer": name, **parts.energy_kwh()} for name, parts in batch.results.items()]
    found = {
        name: {
            "appliances": [{"kind": a.kind.value, "power_w": a.power_w} for a in parts.appliances],
            "rated_w": round(parts.rated_w, 1),
        }
        for name, parts in batch.results.items()
    }
    data = {"energy_kwh": rows, "found": found, "unusable": unusable}
    result(data, "energy [kWh]\n" + as_text(pd.DataFrame(rows)), as_json)


def _disaggregated(task: tuple):
    """One prosumer; a function of the module, so that other processes can be handed it."""
    from offchain.domain.errors import DomainError
    from offchain.profiling.disaggregation import disaggregate as split
    from offchain.profiling.tables import read_series

    history, appliances, reference, temperature = task
    yields = warmth = None
    if reference is not None:
        yields = read_series(reference, history.first_isp, history.net_wh.size)
    if temperature is not None:
        warmth = read_series(temperature, history.first_isp, history.net_wh.size, ["temperature_c"])[:, 0]
        if (warmth != warmth).any():
            raise DomainError(f"{temperature} does not cover the readings without gaps")
    return split(history, appliances=appliances, reference_wh_per_w=yields, temperature_c=warmth)


def _devices(path: Path) -> dict[str, list["Appliance"]]:
    from offchain.domain.errors import DomainError
    from offchain.profiling.disaggregation import Appliance, Kind
    from offchain.profiling.tables import column, read_frame

    frame = read_frame(path)
    known: dict[str, list[Appliance]] = {}
    columns = (column(frame, name, str(path)) for name in ("prosumer", "kind", "power_w"))
    for prosumer, kind, power in zip(*columns, strict=True):
        if kind not in list(Kind):
            raise DomainError(f"{path}: unknown kind {kind!r}", hint=f"one of {', '.join(Kind)}")
        known.setdefault(str(prosumer), []).append(Appliance(Kind(kind), float(power)))
    return known


@app.command()
def response(
    orders: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet, a row per quarter hour: prosumer, order, start, direction (UP or DOWN), ordered_wh, "
            "baseline_net_wh, metered_net_wh, tolerance_bps; rows of 0 after an order show its rebound."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File for the KPIs of each prosumer.")] = None,
    history: Annotated[Path | None, typer.Option(help="File for one row per order.")] = None,
    as_json: JsonOption = False,
) -> None:
    """KPIs of a portfolio, and of each prosumer its reliability, delay and how well it follows the ordered curve."""
    from dataclasses import asdict

    from offchain.profiling.response import kpi_frame, portfolio_kpis, responsiveness_history
    from offchain.profiling.tables import write_frame

    responses, unusable = _responses(orders)
    none_left(responses, unusable)
    portfolio, each = portfolio_kpis(responses.values())
    table = kpi_frame(each.values())
    if out is not None:
        write_frame(table, out)
    if history is not None:
        write_frame(responsiveness_history(responses.values()), history)
    say_unusable(unusable)
    shown = ["prosumer", "orders", "delivered_share", "reliability", "adaptability", "mean_delay_isps", "recent_share"]
    text = as_text(table[shown]) + "\n\n" + "\n".join(f"{k:20} {v:,.3f}" for k, v in asdict(portfolio).items())
    result({"portfolio": asdict(portfolio), "prosumers": records(table), "unusable": unusable}, text, as_json)


def _responses(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    import numpy as np

    from offchain.domain.errors import DomainError
    from offchain.domain.units import Direction
    from offchain.profiling.response import Response
    from offchain.profiling.tables import column, isps_of, read_frame

    frame = read_frame(path)
    needed = ("prosumer", "order", "start", "direction", "ordered_wh", "baseline_net_wh", "metered_net_wh")
    for name in needed:
        column(frame, name, str(path))
    made, unusable = {}, {}
    for (prosumer, order), rows in frame.groupby(["prosumer", "order"], sort=False):
        name = f"{prosumer}, order {order}"
        try:
            isps = isps_of(rows["start"], name)
            sequence = np.argsort(isps)
            isps, rows = isps[sequence], rows.iloc[sequence]
            if (np.diff(isps) != 1).any():
                raise DomainError(f"{name}: quarter hours are missing or come twice")
            directions = rows["direction"].unique()
            if len(directions) != 1 or directions[0] not in Direction.__members__:
                raise DomainError(f"{name}: direction {', '.join(map(str, directions))}", hint="UP or DOWN")
            ordered, baseline, metered = (rows[c] for c in needed[4:])
            values = [c.to_numpy() for c in (ordered, baseline, metered)]
            if any(v.dtype.kind == "f" and np.isnan(v).any() for v in values):
                raise DomainError(f"{name}: a value is missing")
            ordered, baseline, metered = (v.astype(np.int64) if (v == v.round()).all() else v for v in values)
            last = np.flatnonzero(ordered).max(initial=-1) + 1
            made[name] = Response(
                str(prosumer),
                Direction[directions[0]],
                int(isps[0]),
                ordered[: max(last, 1)],
                baseline,
                metered,
                int(rows["tolerance_bps"].iloc[0]) if "tolerance_bps" in rows else 0,
            )
        except DomainError as exc:
            unusable[name] = str(exc)
    if not made and not unusable:
        raise DomainError(f"{path} has no rows")
    return made, unusable


@app.command()
def degradation(
    generation: Annotated[
        Path, typer.Argument(help="CSV or Parquet: start, generation_wh, and with weather ghi_w_per_m2, temperature_c.")
    ],
    latitude: Annotated[float, typer.Option(help="North positive [°].")],
    longitude: Annotated[float, typer.Option(help="East positive [°].")],
    rated_w: Annotated[float, typer.Option(help="Rated direct-current power, W.")],
    tilt: Annotated[float, typer.Option(help="Of the modules against the horizontal [°].")] = 30.0,
    azimuth: Annotated[float, typer.Option(help="Direction they face, 180 = south [°].")] = 180.0,
    altitude: Annotated[float, typer.Option(help="Above sea level, m.")] = 0.0,
    inverter_w: Annotated[float | None, typer.Option(help="Limit of the inverter, W.")] = None,
    years: Annotated[int, typer.Option(help="Calendar years to look ahead.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the performance of each day.")] = None,
    outlook: Annotated[Path | None, typer.Option(help="File for the generation of coming years.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture, .png, .svg or .pdf.")] = None,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
) -> None:
    """Year-on-year degradation of a photovoltaic plant, with its interval, and generation of the years to come."""
    from collections import Counter

    import numpy as np
    import pandas as pd

    from offchain.degradation.generation import yearly_outlook
    from offchain.degradation.performance import daily_performance
    from offchain.degradation.plant import PvPlant, Weather, expected_wh
    from offchain.degradation.plots import plot_degradation
    from offchain.degradation.year_on_year import DAYS_PER_YEAR, degradation_rate
    from offchain.domain.errors import DomainError
    from offchain.profiling.tables import column, isps_of, read_frame, read_series, write_frame

    plant = PvPlant(latitude, longitude, rated_w, tilt, azimuth, altitude, inverter_w=inverter_w)
    frame = read_frame(generation)
    isps = isps_of(column(frame, "start", str(generation)), str(generation))
    if not isps.size:
        raise DomainError(f"{generation} has no rows")
    first, count = int(isps.min()), int(isps.max() - isps.min()) + 1
    metered = read_series(generation, first, count, ["generation_wh"])[:, 0]
    weather = None
    if "ghi_w_per_m2" in frame:
        ghi, air = read_series(generation, first, count, ["ghi_w_per_m2", "temperature_c"]).T
        dark = np.isnan(ghi) | np.isnan(air)
        weather = Weather(np.where(dark, 0.0, ghi), np.where(dark, 20.0, air))
        metered = np.where(dark, np.nan, metered)
    expected = expected_wh(plant, first, count, weather)
    performance = daily_performance(
        metered, expected, first, clear_sky=weather is None, inverter_w=inverter_w, zone=zone
    )
    found = degradation_rate(performance, seed=seed)
    # whole years, so that no season counts twice; the same share of missing weather is assumed everywhere
    whole = round(int(count / 96 / DAYS_PER_YEAR) * DAYS_PER_YEAR * 96)
    covered = whole if weather is None else whole - int(dark[:whole].sum())
    per_year = expected[:whole].sum() / covered * 96 * DAYS_PER_YEAR
    ahead = yearly_outlook(per_year, found, performance.days[-1].year + 1, years)
    left_out = {k.value: v for k, v in Counter(performance.left_out.values()).items()}
    if out is not None:
        write_frame(pd.DataFrame({"day": [d.isoformat() for d in performance.days], "index": performance.index}), out)
    if outlook is not None:
        write_frame(ahead, outlook)
    if plot is not None:
        plot_degradation(performance, found, plot)
    data = {
        "rate_per_year": found.rate_per_year,
        "low": found.low,
        "high": found.high,
        "confidence": found.confidence,
        "pairs": found.pairs,
        "reference_index": found.reference_index,
        "first_day": found.first_day.isoformat(),
        "days": len(performance.days),
        "days_left_out": left_out,
        "clear_sky": weather is None,
        "outlook": records(ahead) if weather is not None else [],
    }
    lines = [
        f"degradation {found.rate_per_year:+.2%} a year, {found.confidence:.0%} interval {found.low:+.2%} to "
        f"{found.high:+.2%} ({found.pairs} pairs of days)",
        f"performance at first {found.reference_index:.3f}; {len(performance.days)} days count, left out: "
        + (", ".join(f"{v} {k}" for k, v in left_out.items()) or "none"),
    ]
    lines += [as_text(ahead)] if weather is not None else ["no weather given: clear days only, no outlook in energy"]
    result(data, "\n".join(lines), as_json)
