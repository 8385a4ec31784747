"""``gridpact flexibility``: how much a portfolio can move, when, for how long and at what cost."""

from pathlib import Path
from typing import Annotated, Any

import typer

from offchain.cli.output import JsonOption, QuietOption, note, progress_bars, result


def flexibility(
    portfolio: Annotated[Path, typer.Argument(help="Prosumers and their assets, JSON.")],
    series: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with start and a column per series that the portfolio names.")
    ] = None,
    readings: Annotated[
        Path | None, typer.Option(help="Readings for the baselines of prosumers that bring none; CSV or Parquet.")
    ] = None,
    method: Annotated[str, typer.Option(help="Baseline method, see `gridpact baseline methods`.")] = "weighted_10@1",
    isps: Annotated[int, typer.Option(help="Length of the block that the column sustained_wh is for.", min=1)] = 4,
    by_asset: Annotated[bool, typer.Option("--by-asset", help="Rows for every asset as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="Result as .csv, .json or .parquet.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the first prosumer, or of --prosumer.")] = None,
    prosumer: Annotated[str | None, typer.Option(help="Only this prosumer.")] = None,
    store: Annotated[str | None, typer.Option(help="Store to keep the margins in, a file or a database URL.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Estimate margins up and down per quarter hour, with cost and how long they last."""
    import pandas as pd

    from offchain.domain.errors import DomainError, FlexError
    from offchain.domain.isp import MarketDay
    from offchain.domain.units import Direction
    from offchain.potential.portfolio import prosumers_of, read_portfolio
    from offchain.potential.prosumer import potential
    from offchain.profiling.tables import write_frame

    model = read_portfolio(portfolio)
    day = MarketDay.of(model.day, model.zone)
    baselines, refused = _baselines(readings, method, day, model.zone)
    people, unusable = prosumers_of(model, _columns(series, day), baselines.get)
    refused = {name: reason for name, reason in refused.items() if name in {p.id for p in model.prosumers}}
    refused |= {name: str(error) for name, error in unusable.items()}
    if prosumer is not None:
        people = [p for p in people if p.id == prosumer]
    found: dict[str, dict[Direction, Any]] = {}
    with progress_bars(quiet) as progress:
        for done, person in enumerate(people, start=1):
            try:
                found[person.id] = {direction: potential(person, direction) for direction in Direction}
            except FlexError as error:
                refused[person.id] = str(error)
            progress("prosumers", done, len(people))
    for by_direction in found.values():
        for name, error in next(iter(by_direction.values())).refused.items():
            note(f"{name}: {error}")
    for name, reason in refused.items():
        note(f"{name}: {reason}")
    if not found:
        raise DomainError(f"{portfolio}: no prosumer whose flexibility can be estimated")
    rows = pd.concat(
        [
            _rows(person, "", potential_, day, isps)
            for person, by_direction in found.items()
            for potential_ in by_direction.values()
        ]
        + [
            _rows(person, name, asset, day, isps)
            for person, by_direction in found.items()
            if by_asset
            for potential_ in by_direction.values()
            for name, asset in potential_.assets.items()
        ]
    )
    if out is not None:
        write_frame(rows, out)
    if store is not None:
        _keep(store, found, day, portfolio.name, by_asset)
    if plot is not None:
        from offchain.potential.plots import plot_potential

        person = next(p for p in people if p.id in found)
        plot_potential(plot, day, person.baseline_wh, found[person.id], zone=model.zone, title=person.id)
    totals = {
        person: {direction.name.lower(): _summary(p, day, model.zone) for direction, p in by_direction.items()}
        for person, by_direction in found.items()
    }
    lines = [f"flexibility of {len(found)} prosumers on {model.day}, {len(refused)} without"]
    for person, both in list(totals.items())[:20]:
        up, down = both["up"], both["down"]
        lines.append(
            f"  {person}: up to {up['highest_w'] / 1_000:.2f} kW less from {up['highest_at']}, "
            f"{down['highest_w'] / 1_000:.2f} kW more from {down['highest_at']}"
        )
    if as_json:
        result({"prosumers": totals, "rows": rows.to_dict(orient="records"), "refused": refused}, "", True)
    else:
        result(None, "\n".join(lines), False)


def _keep(store: str, found: dict[str, dict[Any, Any]], day: Any, source: str, by_asset: bool) -> None:
    """Margins as series, so that they can be forecast: by prosumer, and by prosumer/asset."""
    import time

    import numpy as np

    from offchain.cli.store import opened
    from offchain.store.series import SeriesBlock, put_measurements

    columns: dict[str, dict[str, Any]] = {}
    for person, by_direction in found.items():
        for direction, whole in by_direction.items():
            name = direction.name.lower()
            limits = {person: whole} | ({f"{person}/{a}": e for a, e in whole.assets.items()} if by_asset else {})
            for series, limit in limits.items():
                for quantity, values in (
                    (f"flexibility_{name}_wh", limit.margin_wh),
                    (f"{name}_longest_isps", limit.longest_isps),
                    (f"{name}_cost_utoken_per_kwh", limit.cost_utoken_per_kwh),
                    (f"{name}_comfort_utoken_per_kwh", limit.comfort_utoken_per_kwh),
                ):
                    columns.setdefault(quantity, {})[series] = np.broadcast_to(values, day.isp_count).astype(float)
    now, source = int(time.time()), f"flexibility:{source}"[:128]
    with opened(store, create=True) as target, target.write() as connection:
        for quantity, by_series in columns.items():
            block = SeriesBlock(tuple(by_series), day.first_isp, np.stack(list(by_series.values()), axis=1))
            put_measurements(
                connection, block, quantity=quantity, belief_time=now, source=f"flexibility:{source}"[:128]
            )
    note(f"margins of {len(found)} prosumers kept in {store}")


def _columns(series: Path | None, day: Any) -> Any:
    """Values of named columns on the day."""
    from offchain.domain.errors import DomainError
    from offchain.profiling.tables import read_series

    def column(name: str) -> Any:
        if series is None:
            raise DomainError(f"series {name!r} is named, but there is no table of series", hint="give --series FILE")
        return read_series(series, day.first_isp, day.isp_count, [name])[:, 0]

    return column


def _baselines(readings: Path | None, method: str, day: Any, zone: str) -> tuple[dict, dict[str, str]]:
    from offchain.baseline.method import baseline_method, baselines_of
    from offchain.profiling.tables import read_readings

    chosen = baseline_method(method)
    if readings is None:
        return {}, {}
    histories, refused = read_readings(readings, zone=zone)
    found = baselines_of(chosen, histories, day)
    return dict(found.net_wh), dict(refused) | {name: str(error) for name, error in found.refused.items()}


def _rows(person: str, asset: str, limits: Any, day: Any, isps: int) -> Any:
    import pandas as pd

    from offchain.domain.isp import isp_start

    last = day.isp_count - isps
    return pd.DataFrame(
        {
            "prosumer": person,
            "asset": asset,
            "start": [isp_start(isp).isoformat() for isp in day.isps],
            "direction": limits.direction.name.lower(),
            "margin_wh": limits.margin_wh,
            "longest_isps": limits.longest_isps,
            "sustained_wh": [limits.sustained_wh(n, isps) if n <= last else 0 for n in range(day.isp_count)],
            "cost_utoken_per_kwh": limits.cost_utoken_per_kwh,
            "comfort_utoken_per_kwh": limits.comfort_utoken_per_kwh,
        }
    )


def _summary(found: Any, day: Any, zone: str) -> dict[str, Any]:
    from zoneinfo import ZoneInfo

    from offchain.domain.isp import isp_start

    margin = found.margin_wh
    at = int(margin.argmax())
    return {
        "highest_w": int(margin[at]) * 4,
        "highest_at": isp_start(day.first_isp + at).astimezone(ZoneInfo(zone)).strftime("%H:%M"),
        "longest_isps": int(found.longest_isps[at]),
        "cost_utoken_per_kwh": int(found.cost_utoken_per_kwh[at]),
        "comfort_utoken_per_kwh": int(found.comfort_utoken_per_kwh[at]),
        "assets": list(found.assets),
        "refused": {name: str(error) for name, error in found.refused.items()},
    }
