"""k-means on embeddings: one image for each region of the pool; needs no trained model."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.clustering import cluster, members_of
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from labeling_service.app.core.strategies.spreading import farthest_first
from shared.predictions import ScoredImage


class KMeans:
    """Takes of each of n clusters the image nearest to its centroid.

    Source:
        For the batches of active learning Zhdanov 2019 (arXiv:1901.05954).
    """

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return nothing: the embedding is kept of every image."""
        del image
        return np.zeros(0, np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the image nearest to each of `n` centroids, the largest cluster first.

        The rest of the pool comes after them, farthest first, so that copies come last.
        """
        if n >= len(pool):
            reason = f"the whole pool of {len(pool)} images fits the budget"
            yield from (Choice(row, None, reason) for row in range(len(pool)))
            return
        chosen = []
        for row, distance, size in _nearest_to_centroids(pool.embeddings, n, seed):
            chosen.append(row)
            reason = f"nearest to the centre of a cluster of {size} images"
            yield Choice(row, distance, f"{reason} (distance {distance:.3f})")
        rest = np.delete(np.arange(len(pool)), chosen)
        centres = pool.embeddings[chosen]
        for i, distance in farthest_first(pool.embeddings[rest], centres, n):
            reason = f"distance {distance:.3f} to the nearest chosen image"
            yield Choice(int(rest[i]), distance, reason)


def _nearest_to_centroids(points: FloatArray, n: int, seed: int) -> list[tuple[int, float, int]]:
    """Return row, distance to the centroid and cluster size, the largest cluster first."""
    picked = []
    for members in members_of(cluster(points, n, seed)):
        centroid = points[members].mean(axis=0, dtype=np.float64)
        distances = np.linalg.norm(points[members] - centroid, axis=1)
        nearest = int(np.argmin(distances))
        picked.append((int(members[nearest]), float(distances[nearest]), len(members)))
    return sorted(picked, key=lambda p: (-p[2], p[0]))
