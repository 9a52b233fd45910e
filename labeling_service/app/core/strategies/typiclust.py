"""TypiClust: typical images of regions without labels; for small budgets and a cold start."""

import heapq
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.clustering import cluster, members_of
from labeling_service.app.core.strategies.pool import Choice, Distinct, FloatArray, Pool
from shared.predictions import ScoredImage

MAX_CLUSTERS = 500
N_NEIGHBOURS = 20
# The search grows with the square of a cluster: 15,000 images took 19 s, and 10 s among these.
MAX_LOOKED_AT = 5000
# Clusters of so few images are outliers: they come after all others.
LARGEST_OUTLIER = 5


class TypiClust:
    """Takes the most typical image of the largest cluster that has the fewest labels, and so on.

    An image is typical where it is near to its neighbours: typicality is 1 over the mean distance
    to the 20 nearest of its cluster; of a cluster with more than `MAX_LOOKED_AT` images, to the 20
    nearest of a random sample of so many. Near-duplicates of a chosen image cover nothing: they
    come after everything else.

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
        typical: list[Iterable[Choice]] = [
            _by_typicality(pool.embeddings, members, seed) for members in members_of(in_pool)
        ]
        for distinct in (Distinct(pool), Distinct(pool.ungrouped())):
            passed: list[list[Choice]] = [[] for _ in typical]
            left = [distinct.among(*each) for each in zip(typical, passed, strict=True)]
            yield from _in_turn(left, sizes, n_covered)
            typical = list(passed)


def _in_turn(
    clusters: Sequence[Iterator[Choice]], sizes: Sequence[int], n_covered: list[int]
) -> Iterator[Choice]:
    """Yield from the clusters until all are empty; `n_covered` counts the images of each."""
    waiting = [
        (sizes[c] <= LARGEST_OUTLIER, n_covered[c], -sizes[c], c) for c in range(len(clusters))
    ]
    heapq.heapify(waiting)
    while waiting:
        small, labels, size, c = heapq.heappop(waiting)
        choice = next(clusters[c], None)
        if choice is None:
            continue
        n_covered[c] += 1
        where = f"a cluster of {-size} images, {labels or 'no'} of them labelled or chosen"
        yield choice._replace(reason=f"{choice.reason} in {where}")
        heapq.heappush(waiting, (small, labels + 1, size, c))


def _by_typicality(points: FloatArray, members: NDArray[np.int64], seed: int) -> Iterator[Choice]:
    """Yield a cluster's members by their typicality, the most typical first; found when asked."""
    if len(members) < 2:
        yield from (Choice(row, 0.0, "typicality 0.000") for row in members.tolist())
        return
    typicality = 1.0 / (neighbour_distances(points, members, seed).mean(axis=1) + 1e-5)
    for i in np.argsort(-typicality, kind="stable"):
        value = float(typicality[i])
        yield Choice(int(members[i]), value, f"typicality {value:.3f}")


def neighbour_distances(
    points: FloatArray, members: NDArray[np.int64], seed: int
) -> NDArray[np.floating]:
    """Return how far each of a cluster's members is from its nearest neighbours, shape (M, K)."""
    from sklearn.neighbors import NearestNeighbors

    n = min(N_NEIGHBOURS, len(members) - 1)
    if len(members) <= MAX_LOOKED_AT:
        index = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(points[members])
        # Without points to look up, no point is its own neighbour.
        return np.asarray(index.kneighbors()[0])
    sample = np.random.default_rng(seed).choice(members, MAX_LOOKED_AT, replace=False)
    index = NearestNeighbors(n_neighbors=n + 1, algorithm="brute").fit(points[sample])
    distances, found = index.kneighbors(points[members])
    distances[sample[found] == members[:, None]] = np.inf
    return np.sort(distances, axis=1)[:, :n]
