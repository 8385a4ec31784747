"""New customers into existing clusters by a neural network, without clustering again."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from offchain.clustering.model import read_arrays, write_arrays
from offchain.clustering.vectors import Normalisation, Scale, checked, normalised
from offchain.domain.errors import DomainError

HIDDEN = (64,)
WEIGHT_DECAY = 1.0
"""Its share falls with the number of customers: a few hundred must not be learned by heart."""
MOST_ROUNDS = 300
HELD_OUT = 0.2
LEAST_PER_CLUSTER = 5


@dataclass(frozen=True)
class Segments:
    """Where new customers belong.

    Attributes
    ----------
    cluster : ndarray of int, shape (n,)
    probability : ndarray of float, shape (n,)
        Of that cluster; below about 0.6 the customer is between clusters.
    """

    cluster: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Segmenter:
    """A trained network of one or more hidden layers (ReLU) with a softmax at its end.

    Attributes
    ----------
    weights : tuple of ndarray, each of shape (n_in, n_out)
    biases : tuple of ndarray, each of shape (n_out,)
    mean, spread : ndarray of float, shape (n_inputs,)
        Inputs are standardised by them.
    clusters : ndarray of int, shape (n_clusters,)
        Meaning of the outputs.
    scale : Scale
        What one curve is.
    normalisation : Normalisation
    curve_width : int
        Inputs that are a curve; the rest are attributes.
    model : str
        :attr:`offchain.clustering.model.ClusterModel.identifier` of the clusters it was trained on.
    accuracy : float
        Share of held-out customers put into their cluster, 0 to 1; none of them took part in the training.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    mean: np.ndarray
    spread: np.ndarray
    clusters: np.ndarray
    scale: Scale
    normalisation: Normalisation
    curve_width: int
    model: str
    accuracy: float

    def segment(self, curves: np.ndarray, attributes: np.ndarray | None = None) -> Segments:
        """Cluster of each new customer.

        Parameters
        ----------
        curves : ndarray of float, shape (n, curve_width)
            As metered [Wh].
        attributes : ndarray of float, shape (n, n_attributes), optional
            As in the training.
        """
        values = _inputs(curves, attributes, self.normalisation, self.curve_width)
        if values.shape[1] != self.mean.size:
            raise DomainError(
                f"{values.shape[1] - self.curve_width} attributes, trained with {self.mean.size - self.curve_width}"
            )
        layer = (values - self.mean) / self.spread
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layer = np.maximum(layer @ weight + bias, 0.0)
        score = layer @ self.weights[-1] + self.biases[-1]
        score = np.exp(score - score.max(axis=1, keepdims=True))
        score /= score.sum(axis=1, keepdims=True)
        return Segments(self.clusters[score.argmax(axis=1)], score.max(axis=1))

    def save(self, path: Path | str) -> None:
        """Write to one ``.npz``, no pickled objects."""
        arrays = {"mean": self.mean, "spread": self.spread, "clusters": self.clusters}
        arrays |= {f"weight{i}": w for i, w in enumerate(self.weights)}
        arrays |= {f"bias{i}": b for i, b in enumerate(self.biases)}
        meta = {
            "scale": self.scale.value,
            "normalisation": self.normalisation.value,
            "curve_width": self.curve_width,
            "layers": len(self.weights),
            "model": self.model,
            "accuracy": self.accuracy,
        }
        write_arrays(path, "segmenter", arrays, meta)

    @classmethod
    def load(cls, path: Path | str) -> "Segmenter":
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises
        ------
        PermanentError
            Missing, unreadable, changed, or of another format.
        """
        arrays, meta = read_arrays(path, "segmenter")
        return cls(
            tuple(arrays[f"weight{i}"] for i in range(meta["layers"])),
            tuple(arrays[f"bias{i}"] for i in range(meta["layers"])),
            arrays["mean"],
            arrays["spread"],
            arrays["clusters"],
            Scale(meta["scale"]),
            Normalisation(meta["normalisation"]),
            meta["curve_width"],
            meta["model"],
            meta["accuracy"],
        )


def train_segmenter(
    curves: np.ndarray,
    labels: np.ndarray,
    *,
    model: str,
    scale: Scale = Scale.DAY,
    normalisation: Normalisation = Normalisation.SHAPE,
    attributes: np.ndarray | None = None,
    seed: int = 0,
) -> Segmenter:
    """Train a network on customers whose clusters are known.

    Parameters
    ----------
    curves : ndarray of float, shape (n, width)
        As metered [Wh].
    labels : ndarray of int, shape (n,)
        Cluster of each customer.
    model : str
        Identifier of the clusters, kept with the network.
    attributes : ndarray of float, shape (n, n_attributes), optional
        Further figures of each customer, for example of its response to orders.
    seed : int
        The same seed gives the same network.

    Raises
    ------
    DomainError
        Fewer than two clusters, or a cluster with fewer than five customers.
    """
    values = _inputs(curves, attributes, normalisation, None)
    labels = np.asarray(labels)
    if labels.shape != (len(values),):
        raise DomainError(f"{len(values)} curves but labels of shape {labels.shape}")
    clusters, counts = np.unique(labels, return_counts=True)
    if clusters.size < 2 or counts.min() < LEAST_PER_CLUSTER:
        raise DomainError(
            f"clusters of {counts.tolist()} customers: two or more are needed with {LEAST_PER_CLUSTER} each",
            hint="use fewer clusters or more customers",
        )
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    inputs = (values - mean) / spread
    held_out = _held_out(labels, clusters, np.random.default_rng(seed))
    network = MLPClassifier(HIDDEN, alpha=WEIGHT_DECAY, max_iter=MOST_ROUNDS, random_state=seed)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(inputs[~held_out], labels[~held_out])
    accuracy = float((network.predict(inputs[held_out]) == labels[held_out]).mean())
    weights, biases = list(network.coefs_), list(network.intercepts_)
    if clusters.size == 2:
        # two classes have one logistic output, which is a softmax against zero
        weights[-1] = np.concatenate([np.zeros_like(weights[-1]), weights[-1]], axis=1)
        biases[-1] = np.concatenate([np.zeros_like(biases[-1]), biases[-1]])
    return Segmenter(
        weights=tuple(weights),
        biases=tuple(biases),
        mean=mean,
        spread=spread,
        clusters=clusters,
        scale=scale,
        normalisation=normalisation,
        curve_width=np.shape(curves)[1],
        model=model,
        accuracy=accuracy,
    )


def _inputs(
    curves: np.ndarray, attributes: np.ndarray | None, normalisation: Normalisation, width: int | None
) -> np.ndarray:
    rows = normalised(checked(curves, width), normalisation).astype(np.float64)
    if attributes is None:
        return rows
    more = checked(attributes)
    if len(more) != len(rows):
        raise DomainError(f"{len(rows)} curves but {len(more)} rows of attributes")
    return np.concatenate([rows, more], axis=1)


def _held_out(labels: np.ndarray, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fifth of each cluster, at least one of its customers."""
    chosen = np.zeros(labels.size, dtype=bool)
    for cluster in clusters:
        members = rng.permutation(np.flatnonzero(labels == cluster))
        chosen[members[: max(1, int(HELD_OUT * members.size))]] = True
    return chosen
