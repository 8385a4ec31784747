"""What the day is expected to be: ensemble forecasts of every connection, the portfolios and the congestion point."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np
from eth_hash.auto import keccak

from offchain.domain.errors import DomainError
from offchain.domain.isp import SECONDS_PER_ISP
from offchain.forecasting.backtest import REFERENCES, GroupBacktest, backtest
from offchain.forecasting.experts import Settings
from offchain.forecasting.forecast import Forecast
from offchain.forecasting.forecaster import Model
from offchain.forecasting.horizons import DAY_AHEAD_ISP, HOUR_AHEAD, INTRADAY, Horizon
from offchain.forecasting.panel import Panel
from offchain.forecasting.parallel import PART
from offchain.forecasting.scores import span
from offchain.forecasting.verification import Run, run_forecast
from offchain.grid.scenario import ZONE
from offchain.grid.simbench_data import YEAR_FIRST_ISP
from offchain.pilot.world import World
from offchain.store.documents import Document, put_document
from offchain.store.series import ForecastRow, SeriesBlock, pack, put_forecasts, put_measurements

CONGESTION_POINT = "congestion point"
CONNECTIONS = "connections"
TARGET = "net_consumption"
QUANTITY = "net_wh"
HISTORY_SOURCE = "meter operator"
INPUTS_DOCUMENT = "forecast_inputs"
MODEL = {
    "linear_rows": 400_000,
    "boosted_rows": 50_000,
    "spread_rows": 25_000,
    "trees": 80,
    "spread_trees": 40,
    "learning_rate": 0.12,
}
"""Settings of the ensemble: a third of the usual effort, with the same errors on the pilot's grids."""
MODEL_OF_ONE = MODEL | {"linear_rows": 100_000, "boosted_rows": 15_000, "spread_rows": 10_000}
"""The same for a single series."""


@dataclass(frozen=True)
class ForecastRun:
    """A forecast, the model behind it, what it was made of, and the record that is committed."""

    run: Run
    model: Model
    forecast: Forecast
    panel: Panel


@dataclass(frozen=True)
class DayForecast:
    """Forecasts of the delivery day, issued at 11:00 of the day before, in ISPs.

    Attributes
    ----------
    connections : ForecastRun
        Every connection by its name.
    groups : ForecastRun
        The congestion point and the portfolio of every aggregator, by name. They are forecast as sums of their own:
        errors of connections cancel, so that quantiles of a sum are not sums of quantiles.
    """

    connections: ForecastRun
    groups: ForecastRun

    @property
    def expected_wh(self) -> np.ndarray:
        """Median of every connection, shape (isp_count, n_connections) [Wh]."""
        return self.connections.forecast.p50

    def of_point_wh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P10, P50 and P90 of the congestion point, shape (isp_count,) each [Wh]."""
        forecast = self.groups.forecast
        column = forecast.ids.index(CONGESTION_POINT)
        return forecast.p10[:, column], forecast.p50[:, column], forecast.p90[:, column]


def forecast_day(world: World) -> DayForecast:
    """Train on what was metered until now, forecast, and keep readings and forecasts in the store."""
    issued_at = world.time_of(world.config.timetable.forecast)
    panel = metered_until(world, issued_at // SECONDS_PER_ISP)
    members = groups_of(world)
    found = DayForecast(
        _run(world, CONNECTIONS, panel, issued_at), _run(world, "groups", panel.groups(members), issued_at)
    )
    with world.store.write() as connection:
        block = SeriesBlock(panel.ids, panel.first_isp, panel.values_wh)
        put_measurements(connection, block, quantity=QUANTITY, belief_time=issued_at, source=HISTORY_SOURCE)
        for part, groups in ((found.connections, None), (found.groups, members)):
            content = _inputs_record(part, panel, groups)
            put_document(connection, Document(INPUTS_DOCUMENT, keccak(content), content, issued_at))
            put_forecasts(connection, _rows(part))
    return found


def metered_until(world: World, isp: int) -> Panel:
    """Net consumption of every connection before an ISP, as far back as the data go."""
    values_wh = world.scenario.net_wh(range(YEAR_FIRST_ISP, isp)).astype(float)
    return Panel(tuple(c.id for c in world.scenario.connections), YEAR_FIRST_ISP, values_wh, ZONE)


def groups_of(world: World) -> dict[str, tuple[str, ...]]:
    """Names of connections by group: all of them, and the members of every aggregator that has any."""
    names = [c.id for c in world.scenario.connections]
    groups = {CONGESTION_POINT: tuple(names)}
    for position, aggregator in enumerate(world.cast.aggregators):
        members = sorted(connection for connection, owner in world.member_of.values() if owner == position)
        if members:
            groups[world.cast.names[aggregator.address]] = tuple(names[m] for m in members)
    return groups


def _run(world: World, what: str, panel: Panel, issued_at: int) -> ForecastRun:
    run, many = run_forecast(
        panel,
        DAY_AHEAD_ISP,
        issued_at,
        target=TARGET,
        settings=Settings(seed=world.config.seed, **MODEL),
        part=PART,
        progress=lambda _, done, total: world.progress(f"forecasting {what}", done, total),
    )
    if many.problems:
        name, reason = next(iter(many.problems.items()))
        raise DomainError(f"no forecast of {name}: {reason}", hint="the pilot needs a forecast of every connection")
    (forecast,), (model,) = many.forecasts, many.models
    return ForecastRun(run, model, forecast, panel)


def _inputs_record(part: ForecastRun, panel: Panel, groups: Mapping[str, tuple[str, ...]] | None) -> bytes:
    """Which stored readings a run was made of; with them anybody can make it again."""
    record = {
        "inputs": part.run.inputs,
        "quantity": QUANTITY,
        "ids": panel.ids,
        "groups": groups,
        "first_isp": panel.first_isp,
        "end_isp": panel.end_isp,
        "zone": panel.zone,
        "country": panel.country,
    }
    return json.dumps(record, separators=(",", ":")).encode()  # in this order: that of the groups is part of the inputs


def _rows(part: ForecastRun) -> list[ForecastRow]:
    forecast, digest = part.forecast, part.run.digest()
    return [
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
        for column, name in enumerate(forecast.ids)
    ]


# ------------------------------------------------------------------ quality of the day


def forecast_quality(world: World, day: DayForecast, undisturbed_wh: np.ndarray) -> list[dict[str, Any]]:
    """Scores of the day by group and horizon, beside those of weekly naive and persistence.

    Parameters
    ----------
    undisturbed_wh : ndarray, shape (isp_count, n_connections)
        Net consumption without orders [Wh], because a forecast knows of no order.

    Returns
    -------
    list of dict
        Medians over the series of a group. Shorter horizons are of the congestion point: issued through the day with
        what was known by then, scored at their last lead.
    """
    known = day.connections.panel
    measured = replace(known, first_isp=world.day.first_isp, values_wh=undisturbed_wh.astype(float))
    of_groups = measured.groups(groups_of(world))
    rows = [_row(CONNECTIONS, _day_ahead(day.connections, range(len(known.ids)), measured.values_wh))]
    for column, name in enumerate(day.groups.forecast.ids):
        rows.append(_row(name, _day_ahead(day.groups, [column], of_groups.values_wh)))
    return rows + [_row(CONGESTION_POINT, _rolling(world, horizon), lead=-1) for horizon in (INTRADAY, HOUR_AHEAD)]


def _day_ahead(part: ForecastRun, columns: Sequence[int], measured_wh: np.ndarray) -> GroupBacktest:
    """The day as a test period of one issue."""
    forecast, columns = part.forecast, list(columns)

    def of(values: np.ndarray) -> np.ndarray:
        return values[None][:, :, columns]

    return GroupBacktest(
        group="",
        horizon=DAY_AHEAD_ISP,
        ids=tuple(forecast.ids[c] for c in columns),
        first_isps=(forecast.first_isp + np.arange(len(forecast.p50)))[None],
        measured=of(measured_wh),
        p10=of(forecast.p10),
        p50=of(forecast.p50),
        p90=of(forecast.p90),
        references={name: of(forecast.references[name]) for name in REFERENCES},
        span_wh=span(part.panel.values_wh[:, columns]),
        models=[part.model],
        problems={},
    )


def _rolling(world: World, horizon: Horizon) -> GroupBacktest:
    """The congestion point forecast through the delivery day, by a model trained until its midnight."""
    panel = metered_until(world, world.day.end_isp)
    point = panel.groups({CONGESTION_POINT: panel.ids})
    settings = Settings(seed=world.config.seed, **MODEL_OF_ONE)
    return backtest(point, horizon, test_from_isp=world.day.first_isp, settings=settings)[0]


def _row(group: str, result: GroupBacktest, *, lead: int | None = None) -> dict[str, Any]:
    scores = {name: None if isnan(score) else round(score, 4) for name, score in result.scores(lead=lead).items()}
    return {"group": group, "horizon": result.horizon.name, "series": len(result.ids), **scores}
