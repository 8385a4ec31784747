"""``gridpact forecast``: train models, forecast with them, test them on the past, make a committed run again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from offchain.cli.connection import (
    DEFAULT_RPC,
    ChainIdOption,
    DeploymentOption,
    DevOption,
    KeystoreOption,
    RpcOption,
    choose_signer,
    connect,
)
from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result
from offchain.cli.store import moment, moment_s, opened

if TYPE_CHECKING:
    from offchain.chain.contracts import Suite
    from offchain.forecasting.forecast import Forecast
    from offchain.forecasting.panel import Panel
    from offchain.forecasting.verification import Run
    from offchain.forecasting.weather import Weather

app = typer.Typer(help="Forecasts of consumption, production and flexibility.", no_args_is_help=True)

DataArgument = Annotated[
    Path | None,
    typer.Argument(
        help="CSV or Parquet of readings: event_start with its UTC offset, values in _wh, _kwh, _w or _kw. "
        "Without it readings come from --store."
    ),
]
HorizonOption = Annotated[str, typer.Option(help="day_ahead, intraday or hour_ahead.")]
TargetOption = Annotated[
    str, typer.Option(help="net_consumption, consumption, production, flexibility_up or flexibility_down.")
]
ZoneOption = Annotated[str, typer.Option(help="Time zone of the market day.")]
CountryOption = Annotated[str, typer.Option(help="Public holidays: country or country-state, for example DE-BY.")]
SiteOption = Annotated[str | None, typer.Option(help="Latitude,longitude in degrees: for photovoltaics.")]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same forecast.", min=0)]
WorkersOption = Annotated[int, typer.Option(help="Processes.", min=1)]
ClusterOption = Annotated[
    str | None, typer.Option(help="Scheduler of a Dask cluster instead of processes, such as tcp://10.0.0.5:8786.")
]
StoreOption = Annotated[
    str | None, typer.Option(help="Store, a file or a database URL: for readings without a file, and for runs.")
]
WeatherOption = Annotated[
    Path | None, typer.Option(help="File of weather with the time since when it was known, laid out as --mapping says.")
]
MappingOption = Annotated[str, typer.Option(help="Layout of the weather: external_csv, open_meteo, or a file.")]
StationOption = Annotated[str | None, typer.Option(help="Station whose weather in the store is used.")]
ModelsOption = Annotated[Path, typer.Option(help="Folder of the trained models.")]
OutOption = Annotated[Path | None, typer.Option(help="File to write: .csv, .json or .parquet.")]
PlotOption = Annotated[Path | None, typer.Option(help="Picture to draw, for example forecast.png.")]


@app.command()
def train(
    data: DataArgument = None,
    name: Annotated[str, typer.Option(help="Name of the model; a new version of it is stored.")] = "all",
    horizon: HorizonOption = "day_ahead",
    target: TargetOption = "net_consumption",
    models: ModelsOption = Path("build/models"),
    until: Annotated[str | None, typer.Option(help="Only readings before this time, ISO 8601 with offset.")] = None,
    zone: ZoneOption = "Europe/Berlin",
    country: CountryOption = "DE",
    site: SiteOption = None,
    seed: SeedOption = 1,
    store: StoreOption = None,
    weather: WeatherOption = None,
    mapping: MappingOption = "external_csv",
    station: StationOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model of a group on its readings and store it."""
    from offchain.domain.isp import isp_of, isp_start
    from offchain.forecasting.experts import Settings
    from offchain.forecasting.forecaster import train as train_model
    from offchain.forecasting.horizons import horizon as horizon_of
    from offchain.forecasting.model_store import save_model

    end = None if until is None else moment(until)
    panel = _panel(data, store, target, zone, country, site, quiet, None if end is None else int(end.timestamp()))
    outside = _weather(weather, mapping, store, station)
    if end is not None and isp_of(end) < panel.end_isp:
        panel = panel.until(isp_of(end))
    with progress_bars(quiet) as progress:
        progress("training", 0, 1)
        model = train_model(panel, horizon_of(horizon), target=target, weather=outside, settings=Settings(seed=seed))
        progress("training", 1, 1)
    path = save_model(models, name, model)
    important = model.explain(8)
    answer = {
        "model": model.model_id,
        "file": str(path),
        "series": len(model.ids),
        "trained_until": isp_start(model.trained_until_isp).isoformat(),
        "inputs_sha256": model.inputs_sha256,
        "importance": {feature: round(share, 4) for feature, share in important},
    }
    lines = [f"{feature:32} {share:6.1%}" for feature, share in important]
    text = "\n".join([f"{model.model_id} of {len(model.ids)} series: {path}", "what it looks at most:", *lines])
    result(answer, text, as_json)


@app.command()
def predict(
    issued_at: Annotated[str, typer.Option(help="Moment of issue, ISO 8601 with offset; later readings are not used.")],
    data: DataArgument = None,
    name: Annotated[str | None, typer.Option(help="Stored model to use; without it one is trained on the way.")] = None,
    version: Annotated[int | None, typer.Option(help="Version of the stored model; the latest without.", min=1)] = None,
    models: ModelsOption = Path("build/models"),
    horizon: HorizonOption = "day_ahead",
    target: TargetOption = "net_consumption",
    zone: ZoneOption = "Europe/Berlin",
    country: CountryOption = "DE",
    site: SiteOption = None,
    seed: SeedOption = 1,
    workers: WorkersOption = 1,
    cluster: ClusterOption = None,
    store: StoreOption = None,
    weather: WeatherOption = None,
    mapping: MappingOption = "external_csv",
    station: StationOption = None,
    out: OutOption = None,
    record: Annotated[
        Path | None, typer.Option(help="Where to keep the record of the run that `verify` needs (without --name).")
    ] = None,
    plot: PlotOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forecast what follows a moment, with what was known by then."""
    from offchain.domain.errors import DomainError
    from offchain.forecasting.experts import Settings
    from offchain.forecasting.forecaster import predict as predict_with
    from offchain.forecasting.horizons import horizon as horizon_of
    from offchain.forecasting.model_store import load_model
    from offchain.forecasting.parallel import PART, ManyForecasts
    from offchain.forecasting.verification import run_forecast

    issued_s = moment_s(issued_at)
    panel = _panel(data, store, target, zone, country, site, quiet, issued_s)
    outside = _weather(weather, mapping, store, station)
    run = None
    if name is not None:
        if record is not None:
            raise DomainError("a stored model leaves no record", hint="leave --name out to train on the way")
        model = load_model(models, name, version)
        forecast = predict_with(model, panel, issued_s, weather=outside)
        many = ManyForecasts([forecast], [model], forecast.problems)
    else:
        with progress_bars(quiet) as progress, _executor(workers, cluster) as executor:
            run, many = run_forecast(
                panel,
                horizon_of(horizon),
                issued_s,
                target=target,
                settings=Settings(seed=seed),
                part=PART,
                weather=outside,
                executor=executor,
                progress=progress,
            )
    table = many.to_frame()
    for series, reason in many.problems.items():
        note(f"no forecast of {series}: {reason}")
    if record is not None and run is not None:
        _write_text(record, run.to_json() + "\n")
    if store is not None:
        from offchain.cli.stored import keep_forecasts

        with opened(store, create=True) as target_store:
            note(f"{keep_forecasts(target_store, many, run)} forecasts new in {store}")
    if out is not None:
        _write(many.forecasts, table, out)
    if plot is not None:
        from offchain.forecasting.plots import plot_forecast

        note(f"plot: {plot_forecast(many.forecasts[0], plot, zone=zone)}")
    answer = {
        "forecasts": [f.to_dict() for f in many.forecasts],
        "problems": many.problems,
        "run_sha256": run.digest().hex() if run else None,
    }
    total = table.groupby("event_start")[["p10_wh", "p50_wh", "p90_wh"]].sum().reset_index()
    lines = [f"{'start':25} {'P50 of all, kWh':>16}"]
    lines += [
        f"{row.event_start.tz_convert(zone).isoformat():25} {row.p50_wh / 1_000:16.2f}" for row in total.itertuples()
    ]
    lines.append(f"{table.series.nunique()} series" + (f", run {run.digest().hex()}" if run else ""))
    result(answer, "\n".join(lines), as_json)


@app.command()
def backtest(
    test_from: Annotated[str, typer.Option(help="Start of the test period, ISO 8601 with offset.")],
    data: DataArgument = None,
    horizon: Annotated[list[str] | None, typer.Option(help="Horizon; may be given several times. All without.")] = None,
    target: TargetOption = "net_consumption",
    groups: Annotated[
        Path | None, typer.Option(help='JSON file of groups: {"homes": ["h1", "h2"], ...}; one group without.')
    ] = None,
    every: Annotated[int, typer.Option(help="Use every so-many-th moment of issue.", min=1)] = 1,
    retrain_days: Annotated[int | None, typer.Option(help="Train again after so many days.", min=1)] = None,
    zone: ZoneOption = "Europe/Berlin",
    country: CountryOption = "DE",
    site: SiteOption = None,
    seed: SeedOption = 1,
    store: StoreOption = None,
    weather: WeatherOption = None,
    mapping: MappingOption = "external_csv",
    station: StationOption = None,
    out: OutOption = None,
    plot: Annotated[Path | None, typer.Option(help="Folder for pictures, one per group and horizon.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forecast a past period as it would have been done, and compare with weekly naive and persistence."""
    from rich.console import Console
    from rich.table import Table

    from offchain.domain.isp import isp_of
    from offchain.forecasting import backtest as module
    from offchain.forecasting.experts import Settings
    from offchain.forecasting.horizons import HORIZONS
    from offchain.forecasting.horizons import horizon as horizon_of

    panel = _panel(data, store, target, zone, country, site, quiet, None)
    outside = _weather(weather, mapping, store, station)
    members = _groups(groups) or {"all": list(panel.ids)}
    results = []
    with progress_bars(quiet) as progress:
        for name in horizon or HORIZONS:
            results += module.backtest(
                panel,
                horizon_of(name),
                test_from_isp=isp_of(moment(test_from)),
                groups=members,
                targets=dict.fromkeys(members, target),
                every=every,
                retrain_days=retrain_days,
                weather=outside,
                settings=Settings(seed=seed),
                progress=progress,
            )
    scores = module.table(results)
    if out is not None:
        _write_table(scores, out)
    if plot is not None:
        from offchain.forecasting.plots import plot_backtest

        for one in results:
            path = plot / f"{one.group}_{one.horizon.name}.png"
            note(f"plot: {plot_backtest(one, path, zone=zone)}")
    if as_json:
        result(json.loads(scores.to_json(orient="records")), "", True)
        return
    table = Table(title="Backtest, medians over the series")
    columns = (
        "relative_mae",
        "relative_mae_weekly_naive",
        "relative_mae_persistence",
        "relative_pinball",
        "rcrps",
        "coverage",
    )
    for title in ("horizon", "group", "series", "MAE", "weekly naive", "persistence", "pinball", "rCRPS", "P10-P90"):
        table.add_column(title, justify="left" if title in ("horizon", "group") else "right")
    for row in scores.to_dict("records"):
        numbers = [f"{row[c]:.4f}" for c in columns[:-1]] + [f"{row['coverage']:.1%}"]
        table.add_row(row["horizon"], row["group"], str(row["series"]), *numbers)
    Console().print(table)


@app.command()
def verify(
    data: DataArgument = None,
    record: Annotated[Path | None, typer.Option(help="Record of the run, as `predict --record` wrote it.")] = None,
    run_digest: Annotated[
        str | None, typer.Option("--run", help="Digest of a run that `predict --store` kept, instead of a record.")
    ] = None,
    pilot: Annotated[
        Path | None, typer.Option(help="Folder that `gridpact pilot` left: all its runs, from its store and chain.")
    ] = None,
    committed: Annotated[
        str | None, typer.Option(help="What the chain holds: method hash of the commitment, hex; or digest of the run.")
    ] = None,
    zone: ZoneOption = "Europe/Berlin",
    country: CountryOption = "DE",
    site: SiteOption = None,
    workers: WorkersOption = 1,
    cluster: ClusterOption = None,
    store: StoreOption = None,
    weather: WeatherOption = None,
    mapping: MappingOption = "external_csv",
    station: StationOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a forecast run again from the readings and compare; exit 1 naming the first difference."""
    from eth_hash.auto import keccak

    from offchain.domain.errors import AuditMismatchError, DomainError
    from offchain.forecasting.verification import verify_run

    if pilot is not None:
        if (data, record, run_digest, store) != (None,) * 4:
            raise DomainError("--pilot and something else to verify", hint="give one of them")
        _verify_pilot(pilot, quiet, as_json)
        return
    run = _recorded(record, run_digest, store)
    differences = []
    method_hash = keccak(run.method_id.encode())
    if committed is not None and committed.removeprefix("0x").lower() not in (run.digest().hex(), method_hash.hex()):
        differences.append(
            f"record: digest {run.digest().hex()}, method hash {method_hash.hex()}, but committed was {committed}"
        )
    if not differences:
        panel = _panel(data, store, run.target, zone, country, site, quiet, run.issued_at)
        outside = _weather(weather, mapping, store, station)
        with progress_bars(quiet) as progress, _executor(workers, cluster) as executor:
            differences = verify_run(run, panel, weather=outside, executor=executor, progress=progress)
    answer = {
        "run_sha256": run.digest().hex(),
        "method_hash": method_hash.hex(),
        "ok": not differences,
        "differences": differences,
    }
    if as_json or not differences:
        result(
            answer, f"the same: run {run.digest().hex()}, method hash {method_hash.hex()}, inputs {run.inputs}", as_json
        )
    if differences:
        raise AuditMismatchError(f"forecast run differs: {differences[0]}")


def _verify_pilot(folder: Path, quiet: bool, as_json: bool) -> None:
    from offchain.domain.errors import AuditMismatchError
    from offchain.pilot.verifying import verify_forecasts

    with progress_bars(quiet) as progress:
        found = verify_forecasts(folder, progress)
    answer = [
        {
            "run_sha256": one.run.digest().hex(),
            "horizon": one.run.horizon,
            "commitments": one.commitments,
            "ok": not one.differences,
            "differences": one.differences,
        }
        for one in found
    ]
    lines = [
        f"{'differs' if one.differences else 'the same'}: run {one.run.digest().hex()}, {one.run.horizon}, "
        f"commitments {', '.join(map(str, one.commitments)) or 'none'}"
        for one in found
    ]
    result(answer, "\n".join(lines), as_json)
    for one in found:
        for difference in one.differences:
            raise AuditMismatchError(f"forecast run {one.run.digest().hex()} differs: {difference}")


@app.command()
def commit(
    run_digest: Annotated[str, typer.Argument(metavar="RUN", help="Digest of a run that `predict --store` kept.")],
    scope: Annotated[str, typer.Option(help="Congestion point that it is about: 64 hexadecimal digits, or its name.")],
    store: Annotated[str, typer.Option(help="Store with the run, a file or a database URL.")],
    zone: ZoneOption = "Europe/Berlin",
    rpc: RpcOption = DEFAULT_RPC,
    chain_id: ChainIdOption = None,
    deployment: DeploymentOption = None,
    keystore: KeystoreOption = None,
    dev: DevOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the root of a stored day-ahead run on chain, bound to its inputs, settings and outputs."""
    from eth_hash.auto import keccak

    from offchain.cli.stored import curve_of, stored_run
    from offchain.domain.curves import pack_baseline
    from offchain.domain.errors import DomainError
    from offchain.domain.isp import MarketDay, isp_start
    from offchain.flexibility.commitments import commit_forecast_run

    with opened(store) as kept:
        run, rows = stored_run(kept, run_digest)
        curves = {key_of(row.series): pack_baseline(curve_of(row)) for row in rows}
        day = MarketDay.of(isp_start(rows[0].first_isp).astimezone(ZoneInfo(zone)).date(), zone)
        if any((row.first_isp, row.count * row.step_isps) != (day.first_isp, day.isp_count) for row in rows):
            raise DomainError(f"run {run_digest[:16]} does not cover a market day", hint="commit day_ahead runs")
        suite = _suite(rpc, chain_id, deployment)
        done = commit_forecast_run(
            suite,
            kept,
            choose_signer(suite.chain, keystore, dev),
            record=run.to_json(),
            scope=key_of(scope),
            day=day,
            curves=curves,
            made_at=run.issued_at,
        )
    data = {
        "commitment": done.commitment_id,
        "day": day.day.isoformat(),
        "curves": len(curves),
        "method_hash": keccak(run.method_id.encode()).hex(),
    }
    result(data, f"commitment {done.commitment_id}: {len(curves)} curves of {day.day} by {run.method_id}", as_json)


def key_of(name: str) -> bytes:
    """32 bytes that stand for a series or a congestion point on chain: its id in hex, or the hash of its name."""
    from eth_hash.auto import keccak

    digits = name.removeprefix("0x")
    if len(digits) == 64 and all(c in "0123456789abcdefABCDEF" for c in digits):
        return bytes.fromhex(digits)
    return keccak(name.encode())


def _suite(rpc: str, chain_id: int | None, deployment: Path | None) -> "Suite":
    from offchain.chain.contracts import Suite
    from offchain.chain.deployment import DEPLOYMENTS

    chain = connect(rpc, chain_id)
    return Suite.open(chain, deployment or DEPLOYMENTS / f"{chain.chain_id}.json")


def _recorded(record: Path | None, digest: str | None, store: str | None) -> "Run":
    """Record of a run, out of a file or the store."""
    from offchain.cli.stored import stored_run
    from offchain.domain.errors import DomainError, PermanentError
    from offchain.forecasting.verification import Run

    if (record is None) == (digest is None):
        raise DomainError("which run?", hint="give either --record FILE, --run DIGEST with --store, or --pilot FOLDER")
    if record is not None:
        if not record.exists():
            raise PermanentError(f"{record}: no such file", hint="forecast predict --record writes it")
        return Run.from_json(record.read_text(encoding="utf-8"))
    if store is None:
        raise DomainError("--run needs --store")
    with opened(store) as kept:
        return stored_run(kept, digest)[0]


def _panel(
    data: Path | None,
    store: str | None,
    target: str,
    zone: str,
    country: str,
    site: str | None,
    quiet: bool,
    known_at: int | None,
) -> "Panel":
    from offchain.cli.stored import stored_panel
    from offchain.domain.errors import DomainError
    from offchain.forecasting.panel import Panel, Site
    from offchain.store.importing import read_series

    place = None
    if site is not None:
        try:
            latitude, longitude = (float(part) for part in site.split(","))
        except ValueError as exc:
            raise DomainError(f"site {site!r} is not latitude,longitude", hint="for example 51.2,10.4") from exc
        place = Site(latitude, longitude)
    if data is None:
        if store is None:
            raise DomainError("no readings", hint="give a file, or --store")
        with opened(store) as kept:
            return stored_panel(kept, target, zone, country, place, known_at=known_at)
    block, report = read_series(data, negative=target == "net_consumption")
    if not quiet:
        for line in report.lines():
            note(line)
    return Panel(block.ids, block.first_isp, block.values, zone, country, place)


def _weather(weather: Path | None, mapping: str, store: str | None, station: str | None) -> "Weather | None":
    from offchain.cli.stored import stored_weather, weather_of_file
    from offchain.domain.errors import DomainError

    if weather is not None:
        return weather_of_file(weather, mapping)
    if station is None:
        return None
    if store is None:
        raise DomainError("--station needs --store", hint="or give --weather FILE")
    with opened(store) as kept, kept.read() as connection:
        return stored_weather(connection, station)


def _executor(workers: int, cluster: str | None):
    from contextlib import nullcontext

    from offchain.forecasting.parallel import InProcess, dask_cluster, process_pool

    if cluster is not None:
        return dask_cluster(cluster)
    return process_pool(workers) if workers > 1 else nullcontext(InProcess())


def _groups(path: Path | None) -> dict[str, list[str]] | None:
    from offchain.domain.errors import DomainError, PermanentError

    if path is None:
        return None
    if not path.exists():
        raise PermanentError(f"{path}: no such file")
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(m) for m in members] for name, members in groups.items()}
    except (ValueError, AttributeError, TypeError) as exc:
        raise DomainError(f"{path}: not a JSON object of lists of series", hint='{"homes": ["h1", "h2"]}') from exc


def _write(forecasts: "list[Forecast]", table, path: Path) -> None:
    if path.suffix == ".json":
        _write_text(path, json.dumps([f.to_dict() for f in forecasts], indent=2) + "\n")
    else:
        _write_table(table, path)


def _write_table(table, path: Path) -> None:
    from offchain.domain.errors import DomainError

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".json":
        _write_text(path, table.to_json(orient="records", indent=2) + "\n")
    else:
        raise DomainError(f"{path}: no such format", hint="end its name in .csv, .json or .parquet")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
