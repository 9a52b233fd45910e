"""TypiClust: typical images of regions without labels; for small budgets and a cold start."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage

MAX_CLUSTERS = 500
N_NEIGHBOURS = 20
# Clusters of so few images are outliers: they come after all others.
LARGEST_OUTLIER = 5
# From here on k-means looks at samples of the pool.
MANY_CLUSTERS = 50


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
        n_labelled = len(pool.labelled)
        points = np.concatenate([pool.embeddings, pool.labelled])
        clusters = _cluster(points, min(n_labelled + n, MAX_CLUSTERS), seed)
        in_pool, covered = clusters[: len(pool)], clusters[len(pool) :]
        sizes = np.bincount(clusters)
        typical = {c: _by_typicality(pool.embeddings, in_pool, c) for c in set(in_pool.tolist())}
        waiting = [
            (bool(sizes[c] <= LARGEST_OUTLIER), int((covered == c).sum()), -int(sizes[c]), c)
            for c in typical
        ]
        heapq.heapify(waiting)
        while waiting:
            small, n_covered, size, c = heapq.heappop(waiting)
            found = next(typical[c], None)
            if found is None:
                continue
            row, typicality = found
            labels = "no" if n_covered == 0 else str(n_covered)
            cluster = f"a cluster of {-size} images, {labels} of them labelled or chosen"
            yield Choice(row, typicality, f"typicality {typicality:.3f} in {cluster}")
            heapq.heappush(waiting, (small, n_covered + 1, size, c))


def _cluster(points: FloatArray, n: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each point, shape (P,)."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    n = min(n, len(np.unique(points, axis=0)))
    if n <= MANY_CLUSTERS:
        kmeans = KMeans(n_clusters=n, random_state=seed, n_init=4)
    else:
        kmeans = MiniBatchKMeans(n_clusters=n, random_state=seed, n_init=4, batch_size=5000)
    return np.asarray(kmeans.fit_predict(points), np.int64)


def _by_typicality(
    points: FloatArray, clusters: NDArray[np.int64], cluster: int
) -> Iterator[tuple[int, float]]:
    """Yield row and typicality of a cluster's points, the most typical first; found when asked."""
    from sklearn.neighbors import NearestNeighbors

    members = np.flatnonzero(clusters == cluster)
    if len(members) == 1:
        yield int(members[0]), 0.0
        return
    n = min(N_NEIGHBOURS, len(members) - 1)
    index = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(points[members])
    # Without points to look up, no point is its own neighbour.
    distances, _ = index.kneighbors()
    typicality = 1.0 / (distances.mean(axis=1) + 1e-5)
    for i in np.argsort(-typicality, kind="stable"):
        yield int(members[i]), float(typicality[i])
