"""TypiClust: typical images of regions without labels; for small budgets and a cold start."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.clustering import cluster, members_of
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage

MAX_CLUSTERS = 500
N_NEIGHBOURS = 20
# Clusters of so few images are outliers: they come after all others.
LARGEST_OUTLIER = 5


class TypiClust:
    """Takes the most typical image of the largest cluster that has the fewest labels, and so on.

    An image is typical where it is near to its neighbours: typicality is 1 over the mean distance
    to the 20 nearest of its cluster.

    Source:
        Hacohen et al. 2022 (arXiv:2202.02794), the variant with k-means (their TPC_RP), with their
        numbers. Here the nearest neighbours of a cluster are not looked for again after each
        choice, and embeddings are those of the detector.
    """

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return nothing: the embedding is kept of every image."""
        del image
        return np.zeros(0, np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the most typical image of each cluster in turn, ties by image id."""
        if len(pool) == 0:
            return
        n_clusters = min(len(pool.labelled) + n, MAX_CLUSTERS)
        clusters = cluster(np.concatenate([pool.embeddings, pool.labelled]), n_clusters, seed)
        in_pool, covered = np.split(clusters, [len(pool)])
        sizes = np.bincount(clusters).tolist()
        n_covered = np.bincount(covered, minlength=len(sizes)).tolist()
        typical = [_by_typicality(pool.embeddings, members) for members in members_of(in_pool)]
        waiting = [
            (sizes[c] <= LARGEST_OUTLIER, n_covered[c], -sizes[c], c) for c in range(len(typical))
        ]
        heapq.heapify(waiting)
        while waiting:
            small, labels, size, c = heapq.heappop(waiting)
            found = next(typical[c], None)
            if found is None:
                continue
            row, typicality = found
            where = f"a cluster of {-size} images, {labels or 'no'} of them labelled or chosen"
            yield Choice(row, typicality, f"typicality {typicality:.3f} in {where}")
            heapq.heappush(waiting, (small, labels + 1, size, c))


def _by_typicality(points: FloatArray, members: NDArray[np.int64]) -> Iterator[tuple[int, float]]:
    """Yield row and typicality of a cluster's members, the most typical first; found when asked."""
    from sklearn.neighbors import NearestNeighbors

    if len(members) < 2:
        yield from ((row, 0.0) for row in members.tolist())
        return
    n = min(N_NEIGHBOURS, len(members) - 1)
    index = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(points[members])
    # Without points to look up, no point is its own neighbour.
    distances, _ = index.kneighbors()
    typicality = 1.0 / (distances.mean(axis=1) + 1e-5)
    for i in np.argsort(-typicality, kind="stable"):
        yield int(members[i]), float(typicality[i])
