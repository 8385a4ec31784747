"""``gridpact cluster``: groups of alike connections, kept and extended, and new customers put into them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offchain.cli.output import JsonOption, QuietOption, progress_bars, result
from offchain.cli.profile import KeepOption, ZoneOption, as_text, read_histories, records, say_unusable
from offchain.cli.store import keep_analyses

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from offchain.clustering.model import ClusterModel
    from offchain.clustering.vectors import Scale

app = typer.Typer(help="Clusters of connections, and segments of new ones.", no_args_is_help=True)

ReadingsArgument = Annotated[
    Path, typer.Argument(help="CSV or Parquet: prosumer, start (ISO 8601), net_wh or import_wh and export_wh.")
]
ModelOption = Annotated[Path, typer.Option(help="Stored clusters, .npz.")]
OutOption = Annotated[Path | None, typer.Option(help="File for the assignment: .csv, .json or .parquet.")]


@app.command()
def fit(
    readings: ReadingsArgument,
    model: ModelOption = Path("clusters.npz"),
    scale: Annotated[
        str, typer.Option(help="day: every day of everybody; daily, weekly, monthly: one curve per prosumer.")
    ] = "daily",
    normalisation: Annotated[str, typer.Option(help="shape, spread or none.")] = "shape",
    least: Annotated[int, typer.Option(help="Smallest number of clusters tried.", min=2)] = 2,
    most: Annotated[int, typer.Option(help="Largest number of clusters tried.", min=2)] = 12,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="kmeans, ward or gaussian_mixture; all of them when absent.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clusters.", min=0)] = 0,
    out: OutOption = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the centres.")] = None,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cluster curves; validity indices choose algorithm and number."""
    from offchain.clustering.plots import plot_centres
    from offchain.clustering.selection import ALGORITHMS, cluster
    from offchain.clustering.vectors import Normalisation, normalised

    kind = _member(normalisation, Normalisation, "normalisation")
    chosen = _scale(scale)
    keys, rows, unusable = _rows(readings, chosen, zone)
    with progress_bars(quiet) as progress:
        found = cluster(
            rows,
            scale=chosen,
            normalisation=kind,
            counts=range(least, most + 1),
            algorithms=algorithm or tuple(ALGORITHMS),
            seed=seed,
            progress=progress,
        )
        found.model.save(model)
        if plot is not None:
            plot_centres(found.model, plot, rows=normalised(rows, kind), labels=found.labels)
    _write(keys, found.labels, found.model, rows, out)
    say_unusable(unusable)
    data = {
        "model": found.model.identifier,
        "file": str(model),
        "algorithm": found.model.algorithm,
        "scale": chosen.value,
        "sizes": found.model.sizes.tolist(),
        "scores": found.model.scores,
        "candidates": records(found.table),
        "unusable": unusable,
    }
    text = (
        as_text(found.table.head(8))
        + f"\n{found.model.algorithm}, {len(found.model.sizes)} clusters of {found.model.sizes.tolist()} curves"
        + f"\n{found.model.identifier}: {model}"
    )
    result(data, text, as_json)


@app.command()
def update(
    readings: Annotated[list[Path], typer.Argument(help="Files like those of fit, taken one after the other.")],
    model: ModelOption = Path("clusters.npz"),
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Let stored clusters learn from more curves; memory holds one file at a time."""
    from offchain.clustering.model import ClusterModel
    from offchain.clustering.stream import StreamClusterer

    start = ClusterModel.load(model)
    stream = StreamClusterer(start)
    unusable: dict[str, str] = {}
    with progress_bars(quiet) as progress:
        for done, path in enumerate(readings):
            progress("files", done, len(readings))
            _, rows, left_out = _rows(path, start.scale, zone)
            stream.update(rows)
            unusable |= left_out
            # a model after every file: what was learned is not lost when the next one cannot be read
            stream.model.save(model)
        progress("files", len(readings), len(readings))
    say_unusable(unusable)
    now = stream.model
    data = {
        "model": now.identifier,
        "file": str(model),
        "before": start.identifier,
        "sizes": now.sizes.tolist(),
        "curves": int(now.sizes.sum() - start.sizes.sum()),
        "unusable": unusable,
    }
    result(data, f"{data['curves']:,} curves learned; clusters of {data['sizes']}\n{now.identifier}: {model}", as_json)


@app.command()
def assign(
    readings: ReadingsArgument,
    model: ModelOption = Path("clusters.npz"),
    out: OutOption = None,
    store: KeepOption = None,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
) -> None:
    """Nearest stored cluster of each curve."""
    from offchain.clustering.model import ClusterModel

    clusters = ClusterModel.load(model)
    keys, rows, unusable = _rows(readings, clusters.scale, zone)
    table = _write(keys, clusters.assign(rows), clusters, rows, out)
    _keep(store, "cluster", clusters.identifier, table)
    say_unusable(unusable)
    data = {"model": clusters.identifier, "assigned": records(table), "unusable": unusable}
    result(data, as_text(table), as_json)


@app.command()
def train(
    readings: ReadingsArgument,
    model: ModelOption = Path("clusters.npz"),
    segmenter: Annotated[Path, typer.Option(help="File for the network.")] = Path("segmenter.npz"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same network.", min=0)] = 0,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
) -> None:
    """Train the network that puts new customers into stored clusters."""
    from offchain.clustering.model import ClusterModel
    from offchain.clustering.segmentation import train_segmenter

    clusters = ClusterModel.load(model)
    _, rows, unusable = _rows(readings, clusters.scale, zone)
    network = train_segmenter(
        rows,
        clusters.assign(rows),
        model=clusters.identifier,
        scale=clusters.scale,
        normalisation=clusters.normalisation,
        seed=seed,
    )
    network.save(segmenter)
    say_unusable(unusable)
    data = {
        "model": clusters.identifier,
        "file": str(segmenter),
        "curves": len(rows),
        "accuracy": network.accuracy,
        "unusable": unusable,
    }
    result(data, f"{network.accuracy:.1%} of held-out curves in their cluster; {segmenter}", as_json)


@app.command()
def segment(
    readings: ReadingsArgument,
    segmenter: Annotated[Path, typer.Option(help="Trained network.")] = Path("segmenter.npz"),
    out: OutOption = None,
    store: KeepOption = None,
    zone: ZoneOption = "Europe/Berlin",
    as_json: JsonOption = False,
) -> None:
    """Put new customers into existing clusters, without clustering again."""
    from offchain.clustering.segmentation import Segmenter
    from offchain.profiling.tables import write_frame

    network = Segmenter.load(segmenter)
    keys, rows, unusable = _rows(readings, network.scale, zone)
    found = network.segment(rows)
    table = keys.assign(cluster=found.cluster, probability=found.probability.round(4))
    if out is not None:
        write_frame(table, out)
    _keep(store, "segment", network.model, table)
    say_unusable(unusable)
    result({"model": network.model, "segments": records(table), "unusable": unusable}, as_text(table), as_json)


def _keep(store: str | None, kind: str, model: str, table: "pd.DataFrame") -> None:
    """The group of each prosumer; at scale day one a day."""
    if store is None:
        return
    contents = {}
    for name, rows in table.groupby("prosumer"):
        found = records(rows.drop(columns="prosumer"))
        contents[str(name)] = {"days": found} if "day" in rows else found[0]
    keep_analyses(store, kind, model, contents)


def _member(name: str, kinds: type, what: str):
    from offchain.domain.errors import DomainError

    if name not in list(kinds):
        raise DomainError(f"unknown {what} {name!r}", hint=f"one of {', '.join(kinds)}")
    return kinds(name)


def _scale(name: str) -> "Scale":
    from offchain.clustering.vectors import Scale

    return _member(name, Scale, "scale")


def _rows(readings: Path, scale: "Scale", zone: str) -> tuple["pd.DataFrame", "np.ndarray", dict[str, str]]:
    """Who each row is (``prosumer``, and ``day`` at scale day), the rows, and who was left out."""
    import numpy as np
    import pandas as pd

    from offchain.clustering.vectors import Scale, scale_rows
    from offchain.domain.errors import DomainError
    from offchain.profiling.batch import for_each
    from offchain.profiling.days import day_curves

    histories, unusable = read_histories(readings, zone)
    batch = for_each(histories, day_curves)
    unusable |= batch.unusable
    if not batch.results:
        raise DomainError(f"{readings}: no prosumer has a complete day")
    if scale is not Scale.DAY:
        names, rows, left_out = scale_rows(batch.results, scale)
        return pd.DataFrame({"prosumer": names}), rows, unusable | left_out
    keys = [(name, day.isoformat()) for name, curves in batch.results.items() for day in curves.days]
    rows = np.concatenate([curves.wh for curves in batch.results.values()])
    return pd.DataFrame(keys, columns=["prosumer", "day"]), rows, unusable


def _write(
    keys: "pd.DataFrame", labels: "np.ndarray", model: "ClusterModel", rows: "np.ndarray", out: Path | None
) -> "pd.DataFrame":
    from offchain.profiling.tables import write_frame

    table = keys.assign(cluster=labels, distance=model.distances(rows).round(4))
    if out is not None:
        write_frame(table, out)
    return table
