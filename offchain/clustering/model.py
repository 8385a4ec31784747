"""Clusters that are kept: centres and what made them, as arrays and JSON, never as pickled objects."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from offchain.clustering.vectors import Normalisation, Scale, checked, normalised
from offchain.domain.errors import PermanentError

FORMAT = 1
"""Version of the files; a change of what they hold is a new one."""


@dataclass(frozen=True)
class ClusterModel:
    """Clusters of curves.

    Attributes
    ----------
    centres : ndarray of float32, shape (n_clusters, width)
        Normalised mean curves, largest cluster first.
    sizes : ndarray of int64, shape (n_clusters,)
        Curves of the training in each cluster.
    scale : Scale
        What one curve is.
    normalisation : Normalisation
        Applied to curves before they are compared.
    algorithm : str
        Of :data:`offchain.clustering.selection.ALGORITHMS`, or ``"mini_batch_kmeans"``.
    seed : int
    scores : dict of str to float
        Validity indices of the training.
    """

    centres: np.ndarray
    sizes: np.ndarray
    scale: Scale
    normalisation: Normalisation
    algorithm: str
    seed: int
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def identifier(self) -> str:
        """Name that changes with any content: ``clusters@`` and the start of a SHA-256."""
        return f"clusters@{_digest(self._arrays(), self._meta())}"

    def assign(self, curves: np.ndarray) -> np.ndarray:
        """Nearest cluster of each curve.

        Parameters
        ----------
        curves : ndarray of float, shape (n, width)
            As metered [Wh].

        Returns
        -------
        ndarray of int, shape (n,)
        """
        return nearest(normalised(checked(curves, self.centres.shape[1]), self.normalisation), self.centres)[0]

    def distances(self, curves: np.ndarray) -> np.ndarray:
        """Distance of each curve to its nearest centre, in normalised units: large ones fit no cluster."""
        return nearest(normalised(checked(curves, self.centres.shape[1]), self.normalisation), self.centres)[1]

    def save(self, path: Path | str) -> None:
        """Write to one ``.npz``."""
        write_arrays(path, "clusters", self._arrays(), self._meta())

    @classmethod
    def load(cls, path: Path | str) -> "ClusterModel":
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises
        ------
        PermanentError
            Missing, unreadable, changed, or of another format.
        """
        arrays, meta = read_arrays(path, "clusters")
        return cls(
            arrays["centres"],
            arrays["sizes"],
            Scale(meta["scale"]),
            Normalisation(meta["normalisation"]),
            meta["algorithm"],
            meta["seed"],
            meta["scores"],
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"centres": self.centres, "sizes": self.sizes}

    def _meta(self) -> dict:
        return {
            "scale": self.scale.value,
            "normalisation": self.normalisation.value,
            "algorithm": self.algorithm,
            "seed": self.seed,
            "scores": self.scores,
        }


def nearest(rows: np.ndarray, centres: np.ndarray, *, block: int = 65_536) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centre and the distance to it, in blocks so that memory stays bounded."""
    labels = np.empty(len(rows), dtype=np.int64)
    distance = np.empty(len(rows), dtype=np.float64)
    norms = (centres.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(rows), block):
        part = rows[start : start + block].astype(np.float64)
        squared = norms - 2 * part @ centres.T.astype(np.float64) + (part**2).sum(axis=1, keepdims=True)
        labels[start : start + block] = squared.argmin(axis=1)
        distance[start : start + block] = np.sqrt(np.maximum(squared.min(axis=1), 0.0))
    return labels, distance


def write_arrays(path: Path | str, kind: str, arrays: dict[str, np.ndarray], meta: dict) -> None:
    """Arrays, and JSON about them with their digest, as one ``.npz``."""
    head = {"kind": kind, "format": FORMAT, "digest": _digest(arrays, meta), "meta": meta}
    stream = io.BytesIO()
    np.savez_compressed(stream, head=np.array(json.dumps(head, sort_keys=True)), **arrays)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_bytes(stream.getvalue())
    temporary.replace(target)


def read_arrays(path: Path | str, kind: str) -> tuple[dict[str, np.ndarray], dict]:
    """Inverse of :func:`write_arrays`, refusing what is not whole and of this kind and format."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        head = json.loads(str(arrays.pop("head")))
        found, version, digest, meta = head["kind"], head["format"], head["digest"], head["meta"]
    except FileNotFoundError as exc:
        raise PermanentError(f"{path} does not exist") from exc
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as exc:
        raise PermanentError(f"{path} is not a stored model", hint="train it again") from exc
    if (found, version) != (kind, FORMAT):
        raise PermanentError(f"{path} holds {found} of format {version}, expected {kind} of format {FORMAT}")
    if digest != _digest(arrays, meta):
        raise PermanentError(f"{path} was changed after it was written", hint="train it again")
    return arrays, meta


def _digest(arrays: dict[str, np.ndarray], meta: dict) -> str:
    content = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return content.hexdigest()[:16]
