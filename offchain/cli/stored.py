"""Between the store and forecasts: readings and weather out of it, runs into it and out of it again."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from offchain.domain.errors import DomainError
from offchain.forecasting.forecast import per_isp_wh
from offchain.forecasting.panel import Panel, Site
from offchain.forecasting.parallel import ManyForecasts
from offchain.forecasting.verification import Run
from offchain.forecasting.weather import Weather, WeatherRun
from offchain.store.documents import Document, get_document, put_document
from offchain.store.series import (
    ForecastRow,
    forecasts_of_run,
    measured_span,
    pack,
    put_forecasts,
    read_measurements,
    series_ids,
    unpack,
    weather_quantities,
    weather_runs,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from offchain.store import Store

QUANTITY = {
    "net_consumption": "net_wh",
    "consumption": "import_wh",
    "production": "export_wh",
    "flexibility_up": "flexibility_up_wh",
    "flexibility_down": "flexibility_down_wh",
}
"""Quantity in the store per target."""


def stored_panel(
    store: "Store", target: str, zone: str, country: str, site: Site | None, *, known_at: int | None
) -> Panel:
    """All series of a target as they were known at ``known_at`` [UTC s]."""
    if target not in QUANTITY:
        raise DomainError(f"unknown target {target!r}", hint=f"one of {', '.join(QUANTITY)}")
    quantity = QUANTITY[target]
    with store.read() as connection:
        span = measured_span(connection, quantity, known_at=known_at)
        if span is None:
            raise DomainError(
                f"store {store.name}: no {quantity} was known then", hint="gridpact store import; see --known-since"
            )
        ids = series_ids(connection, quantity, known_at=known_at)
        block = read_measurements(connection, ids, quantity, span.start, len(span), known_at=known_at)
    return Panel(block.ids, block.first_isp, block.values, zone, country, site)


def stored_weather(connection: "Connection", station: str) -> Weather:
    """Every run of weather at a station, with all of its quantities."""
    names = weather_quantities(connection, station)
    pieces: dict[int, dict[str, list[tuple[int, np.ndarray]]]] = {}
    for name in names:
        for belief, first, values in weather_runs(connection, station, name):
            pieces.setdefault(belief, {}).setdefault(name, []).append((first, values))
    if not pieces:
        raise DomainError(f"no weather of station {station!r}", hint="gridpact store import-weather")
    return Weather([_run(belief, found, names) for belief, found in pieces.items()])


def _run(belief: int, found: dict[str, list[tuple[int, np.ndarray]]], names: list[str]) -> WeatherRun:
    every = [piece for pieces in found.values() for piece in pieces]
    first, end = min(f for f, _ in every), max(f + v.size for f, v in every)
    values = {name: np.full(end - first, np.nan) for name in names}
    for name, pieces in found.items():
        for start, part in pieces:
            values[name][start - first : start - first + part.size] = part
    return WeatherRun(belief, first, values)


def weather_of_file(path: Path, mapping: str) -> Weather:
    """Weather of a file in a layout of the oracles' external sources."""
    from offchain.cli.store import external_values
    from offchain.store import open_store
    from oracles.external import store_external

    with TemporaryDirectory() as folder, open_store(Path(folder) / "weather.db") as store:
        store_external(store, external_values(path, "file", mapping))
        with store.read() as connection:
            return stored_weather(connection, "file")


def keep_forecasts(store: "Store", many: ManyForecasts, run: Run | None) -> int:
    """Store forecasts, and the record of their run; returns how many series are new."""
    digest = None if run is None else run.digest()
    rows = [
        ForecastRow(
            name,
            forecast.target,
            forecast.horizon,
            forecast.first_isp,
            forecast.issued_at,
            forecast.model_id,
            forecast.step_isps,
            len(forecast.p50),
            *(pack(quantile[:, column]) for quantile in (forecast.p10, forecast.p50, forecast.p90)),
            forecast.basis[column],
            digest,
        )
        for forecast in many.forecasts
        for column, name in enumerate(forecast.ids)
    ]
    with store.write() as connection:
        if run is not None:
            put_document(connection, Document("forecast_run", digest, run.to_json().encode(), run.issued_at))
        return put_forecasts(connection, rows)


def stored_run(store: "Store", digest: str) -> tuple[Run, list[ForecastRow]]:
    """Record and forecasts of a run by its digest, hex."""
    try:
        key = bytes.fromhex(digest.removeprefix("0x"))
    except ValueError as exc:
        raise DomainError(
            f"{digest!r} is not a digest", hint="64 hexadecimal digits, as `forecast predict` says"
        ) from exc
    with store.read() as connection:
        document = get_document(connection, "forecast_run", key)
        if document is None:
            raise DomainError(f"store {store.name}: no run {digest}", hint="forecast predict --store keeps one")
        return Run.from_json(document.content.decode()), forecasts_of_run(connection, key)


def curve_of(row: ForecastRow) -> np.ndarray:
    """P50 of a stored forecast per ISP, whole Wh."""
    return per_isp_wh(np.floor(unpack(row.p50) + 0.5).astype(np.int64), row.step_isps)
