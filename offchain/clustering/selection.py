"""Which algorithm and how many clusters: the validity indices decide."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from offchain.clustering.model import ClusterModel, nearest
from offchain.clustering.vectors import Normalisation, Scale, checked, normalised
from offchain.domain.errors import DomainError
from offchain.profiling.batch import Progress

SAMPLE = 3_000
"""Curves on which candidates are compared; the chosen one is then fitted to all."""
DEFAULT_COUNTS = tuple(range(2, 13))
LEAST_SHARE = 0.005
"""A cluster with a smaller share of the sample is an outlier, not a group."""


def _kmeans(rows: np.ndarray, counts: list[int], seed: int) -> dict[int, np.ndarray]:
    return {k: KMeans(k, n_init=4, random_state=seed).fit_predict(rows) for k in counts}


def _ward(rows: np.ndarray, counts: list[int], seed: int) -> dict[int, np.ndarray]:
    tree = linkage(rows, "ward")  # one tree serves all numbers
    return {k: fcluster(tree, k, "maxclust") - 1 for k in counts}


def _mixture(rows: np.ndarray, counts: list[int], seed: int) -> dict[int, np.ndarray]:
    # Diagonal covariances over the first principal components, which are uncorrelated: full ones over 96
    # quarter hours would have more parameters than most samples have values.
    centred = rows - rows.mean(axis=0)
    _, strength, axes = np.linalg.svd(centred, full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(strength**2) / max((strength**2).sum(), 1e-300), 0.95)) + 1
    reduced = centred @ axes[: min(kept, 10)].T
    return {
        k: GaussianMixture(k, covariance_type="diag", reg_covar=1e-4, random_state=seed).fit_predict(reduced)
        for k in counts
    }


ALGORITHMS: dict[str, Callable[[np.ndarray, list[int], int], dict[int, np.ndarray]]] = {
    "kmeans": _kmeans,
    "ward": _ward,
    "gaussian_mixture": _mixture,
}
"""Compact groups of like size; a hierarchy; overlapping groups of unlike size."""

INDICES = {"silhouette": 1, "davies_bouldin": -1, "calinski_harabasz": 1}
"""Validity indices, and whether high (1) or low (-1) is good."""


@dataclass(frozen=True)
class Selection:
    """Clusters, and the comparison behind them.

    Attributes
    ----------
    model : ClusterModel
    labels : ndarray of int, shape (n,)
        Cluster of each curve.
    table : pandas.DataFrame
        One row per candidate: ``algorithm``, ``clusters``, the indices, ``smallest_share``, ``rank`` (mean of its
        ranks by the three indices, low is good).
    """

    model: ClusterModel
    labels: np.ndarray
    table: pd.DataFrame


def validity(rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Validity indices of a partition of normalised rows.

    Silhouette (-1 to 1) and Calinski-Harabasz are high for clusters that are tight and far apart, Davies-Bouldin
    is low.
    """
    return {
        "silhouette": float(silhouette_score(rows, labels)),
        "davies_bouldin": float(davies_bouldin_score(rows, labels)),
        "calinski_harabasz": float(calinski_harabasz_score(rows, labels)),
    }


@threadpool_limits.wrap(limits=1)  # sums of several threads come in no fixed order, and with them the last digits
def cluster(
    curves: np.ndarray,
    *,
    scale: Scale = Scale.DAY,
    normalisation: Normalisation = Normalisation.SHAPE,
    counts: Iterable[int] = DEFAULT_COUNTS,
    algorithms: Iterable[str] = tuple(ALGORITHMS),
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Selection:
    """Cluster curves; algorithm and number are those with the best mean rank over the validity indices.

    Every candidate is judged by what is kept of it, the assignment to its nearest centre. Candidates that put
    less than 0.5% of the sample into a cluster come after all others. Candidates see a sample of 3,000 curves;
    a k-means that is chosen goes on over all of them.

    Parameters
    ----------
    curves : ndarray of float, shape (n, width)
        As metered [Wh], no gaps.
    counts : iterable of int
        Numbers of clusters to compare, each at least 2; those not below the number of different curves are left
        out.
    seed : int
        The same seed gives the same clusters.

    Raises
    ------
    DomainError
        Gaps, another shape than a table, an unknown algorithm, or fewer than three different curves.
    """
    rows = normalised(checked(curves), normalisation)
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False)
    sample = rows[np.sort(picked)].astype(np.float64)
    different = len(np.unique(sample.round(6), axis=0))
    wanted = sorted({int(k) for k in counts})
    if not wanted or wanted[0] < 2:
        raise DomainError(f"numbers of clusters {wanted}: each must be at least 2")
    usable = [k for k in wanted if k < different]
    if not usable:
        raise DomainError(f"{different} different curves, too few for {wanted[0]} clusters", hint="load more curves")
    names = list(algorithms)
    for name in names:
        if name not in ALGORITHMS:
            raise DomainError(f"unknown algorithm {name!r}", hint=f"one of {', '.join(ALGORITHMS)}")
    table, candidates = [], {}
    for done, name in enumerate(names):
        progress("algorithms compared", done, len(names))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            labelled = ALGORITHMS[name](sample, usable, seed)
        for k, labels in labelled.items():
            if len(np.unique(labels)) < k:
                continue  # the algorithm found fewer groups than it was asked for
            centres = _centres(sample, labels)
            labels = nearest(sample, centres)[0]
            smallest = np.bincount(labels, minlength=k).min() / len(labels)
            if not smallest:
                continue
            candidates[name, k] = centres
            table.append({"algorithm": name, "clusters": k, **validity(sample, labels), "smallest_share": smallest})
    progress("algorithms compared", len(names), len(names))
    if not table:
        raise DomainError(f"no algorithm finds {usable[0]} groups or more in {different} different curves")
    frame = _ranked(pd.DataFrame(table))
    best = frame.iloc[0]
    centres = candidates[best.algorithm, int(best.clusters)].astype(np.float32)
    progress("all curves", 0, 1)
    if best.algorithm == "kmeans":
        centres = KMeans(len(centres), init=centres, n_init=1, random_state=seed).fit(rows).cluster_centers_
    order = np.argsort(-np.bincount(nearest(rows, centres)[0], minlength=len(centres)), kind="stable")
    centres = np.ascontiguousarray(centres[order].astype(np.float32))
    labels = nearest(rows, centres)[0]
    progress("all curves", 1, 1)
    scores = {index: float(best[index]) for index in INDICES}
    sizes = np.bincount(labels, minlength=len(centres)).astype(np.int64)
    model = ClusterModel(centres, sizes, scale, normalisation, str(best.algorithm), seed, scores)
    return Selection(model, labels, frame)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Best first; candidates with a cluster of outliers after all others, of equal ones the simpler first."""
    ranks = [table[index].rank(ascending=sign < 0) for index, sign in INDICES.items()]
    table = table.assign(rank=sum(ranks) / len(ranks))
    outliers = table.smallest_share < LEAST_SHARE
    return (
        table.assign(_outliers=outliers, _order=table.algorithm.map(list(ALGORITHMS).index))
        .sort_values(["_outliers", "rank", "clusters", "_order"], ignore_index=True)
        .drop(columns=["_outliers", "_order"])
    )


def _centres(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([rows[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
