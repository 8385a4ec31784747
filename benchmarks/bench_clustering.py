"""Clustering of 100,000 daily curves, a million in a stream, new customers by the network. Run by ``make bench``."""

import resource
import statistics
import time
from pathlib import Path

import numpy as np
from _harness import measure, record

from offchain.clustering.segmentation import train_segmenter
from offchain.clustering.selection import cluster
from offchain.clustering.stream import StreamClusterer
from offchain.grid.simbench_data import load_grid_data

CACHE = Path(__file__).parents[1] / "build" / "simbench"
CODE = "1-LV-rural3--2-sw"
SEED = 1
CURVES, BATCH, STREAMED = 100_000, 20_000, 1_000_000
PACKAGES = ("numpy", "scikit-learn", "scipy", "simbench")
DATA = (
    f"days of the consumers of {CODE} (households, commerce), drawn at random, each of a size between half and double, "
    "every quarter hour times lognormal noise of 0.2"
)


def consumers() -> np.ndarray:
    """Days of all consumers [Wh], shape (n_days, 96)."""
    grid = load_grid_data(CODE, cache_dir=CACHE)
    chosen = [i for i, name in enumerate(grid.profile_name) if name.startswith(("H0", "G"))]
    return grid.profile_p.T[chosen].reshape(-1, 96) * 750


def drawn(days: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    size = rng.uniform(0.5, 2.0, (count, 1))
    return days[rng.integers(0, len(days), count)] * size * rng.lognormal(0.0, 0.2, (count, 96))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


def main() -> None:
    days, rng = consumers(), np.random.default_rng(SEED)

    first = cluster(drawn(days, BATCH, rng), seed=SEED)
    stream, before, seconds = StreamClusterer(first.model), peak_mb(), []
    for _ in range(STREAMED // BATCH):
        batch = drawn(days, BATCH, rng)
        start = time.perf_counter()
        stream.update(batch)
        seconds.append(time.perf_counter() - start)
    streamed = record(
        "clustering_stream",
        question=f"{STREAMED:,} daily curves learned in batches of {BATCH:,}, time of all batches; memory of the "
        "process must not grow with their number",
        data=DATA,
        seed=SEED,
        values=[sum(seconds)],
        unit="s",
        packages=PACKAGES,
        more={
            "batch_median_s": statistics.median(seconds),
            "peak_mb_before": round(before),
            "peak_mb_after": round(peak_mb()),
            "sizes": stream.model.sizes.tolist(),
        },
    )
    print(
        f"stream: {streamed['median']:.1f} s for {STREAMED:,} curves, peak memory {streamed['peak_mb_before']} MB "
        f"before and {streamed['peak_mb_after']} MB after"
    )

    curves = drawn(days, CURVES, rng)
    wall, cpu = measure(lambda: cluster(curves, seed=SEED), n=3)
    found = cluster(curves, seed=SEED)
    result = record(
        "clustering",
        question=f"clustering of {CURVES:,} daily curves, with choice among three algorithms and 2 to 12 clusters",
        data=DATA,
        seed=SEED,
        values=wall,
        unit="s",
        target=30.0,
        packages=PACKAGES,
        more={
            "cpu_median": statistics.median(cpu),
            "chosen": {"algorithm": found.model.algorithm, "clusters": len(found.model.centres)},
            "scores": found.model.scores,
            "model": found.model.identifier,
        },
    )
    print(f"clustering: {result['median']:.1f} s wall, {result['cpu_median']:.1f} s CPU, {result['chosen']}")

    known = cluster(curves[:BATCH], counts=(8,), seed=SEED)
    train, new = slice(0, 5_000), slice(BATCH, BATCH + 50_000)
    seconds, shares = [], []
    for seed in range(3):
        start = time.perf_counter()
        network = train_segmenter(curves[train], known.labels[train], model=known.model.identifier, seed=seed)
        seconds.append(time.perf_counter() - start)
        shares.append(float((network.segment(curves[new]).cluster == known.model.assign(curves[new])).mean()))
    result = record(
        "segmentation",
        question="share of 50,000 new curves that the network, trained on 5,000, puts into the nearest of 8 clusters",
        data=DATA,
        seed=SEED,
        values=shares,
        unit="share",
        packages=PACKAGES,
        more={"training_s": statistics.median(seconds)},
    )
    print(f"segmentation: {result['median']:.1%} right, trained in {result['training_s']:.1f} s")


if __name__ == "__main__":
    main()
