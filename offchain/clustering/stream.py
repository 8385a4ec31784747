"""Clusters that go on learning: batch after batch, in memory that does not grow."""

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from offchain.clustering.model import ClusterModel
from offchain.clustering.vectors import checked, normalised
from offchain.domain.errors import DomainError

ALGORITHM = "mini_batch_kmeans"


class StreamClusterer:
    """Mini-batch k-means from an existing model on: each centre is the mean of all curves it ever got.

    Goes on from a stored model as if it had never stopped: the sizes of its clusters are the weights of its
    centres. Their number stays; cluster anew when new curves fit none (:meth:`ClusterModel.distances`).

    References
    ----------
    .. [1] D. Sculley, "Web-scale k-means clustering", WWW 2010, DOI 10.1145/1772690.1772862.
    """

    def __init__(self, model: ClusterModel):
        if not model.sizes.any():
            raise DomainError("the model has seen no curves", hint="cluster a first batch")
        self._start = model
        self._sizes = model.sizes.copy()
        # never reseeded: a centre that jumps would make results depend on the order of batches
        self._fit = MiniBatchKMeans(
            len(model.centres), init=model.centres, n_init=1, reassignment_ratio=0, random_state=model.seed
        )
        self._update(model.centres, model.sizes.astype(np.float64))

    def update(self, curves: np.ndarray) -> np.ndarray:
        """Learn from more curves, shape (n, width) as metered [Wh]; returns the cluster of each."""
        width = self._start.centres.shape[1]
        rows = normalised(checked(curves, width), self._start.normalisation)
        if not len(rows):
            return np.empty(0, dtype=np.int64)
        labels = self._update(rows, None)
        self._sizes += np.bincount(labels, minlength=len(self._sizes))
        return labels

    def _update(self, rows: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        # one thread: sums of several come in no fixed order, and the same data would give other last digits
        with threadpool_limits(1):
            self._fit.partial_fit(rows.astype(np.float32), sample_weight=weight)
            return self._fit.labels_.astype(np.int64)

    @property
    def model(self) -> ClusterModel:
        """Clusters as of now; numbers of clusters stay what they were."""
        start = self._start
        centres = self._fit.cluster_centers_.astype(np.float32)
        return ClusterModel(centres, self._sizes.copy(), start.scale, start.normalisation, ALGORITHM, start.seed, {})
