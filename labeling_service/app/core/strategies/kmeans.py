"""k-means on embeddings: one image for each region of the pool; needs no trained model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.candidates import Candidate, Choice, embeddings_of
from labeling_service.app.core.strategies.coreset import farthest_first


def choose_kmeans(candidates: Sequence[Candidate], n: int, seed: int) -> list[Choice]:
    """Return for each of `n` centroids the nearest image of its cluster, the largest cluster first.

    Where the pool has fewer than `n` distinct embeddings, copies fill the rest. The same images, in
    any order, with the same seed give the same choice.
    """
    pool = sorted(candidates, key=lambda c: c.image_id)
    if n >= len(pool):
        reason = f"the whole pool of {len(pool)} images fits the budget"
        return [Choice(c.image_id, None, reason) for c in pool]
    points = embeddings_of(pool)
    picked = _nearest_to_centroids(points, n, seed)
    choices = [
        Choice(
            pool[i].image_id,
            distance,
            f"nearest to the centre of a cluster of {size} images (distance {distance:.3f})",
        )
        for i, distance, size in picked
    ]
    return choices + _fill(pool, points, [i for i, _, _ in picked], n - len(picked))


def _nearest_to_centroids(
    points: NDArray[np.float64], n: int, seed: int
) -> list[tuple[int, float, int]]:
    """Return index, distance to the centroid and cluster size, the largest cluster first."""
    from sklearn.cluster import KMeans

    n_distinct = len(np.unique(points, axis=0))
    kmeans = KMeans(n_clusters=min(n, n_distinct), random_state=seed, n_init=4).fit(points)
    picked = []
    for cluster, centre in enumerate(kmeans.cluster_centers_):
        members = np.flatnonzero(kmeans.labels_ == cluster)
        if len(members) == 0:
            continue
        distances = np.linalg.norm(points[members] - centre, axis=1)
        nearest = int(np.argmin(distances))
        picked.append((int(members[nearest]), float(distances[nearest]), len(members)))
    return sorted(picked, key=lambda p: (-p[2], p[0]))


def _fill(
    pool: Sequence[Candidate], points: NDArray[np.float64], chosen: Sequence[int], n: int
) -> list[Choice]:
    rest = [i for i in range(len(pool)) if i not in set(chosen)]
    filled = farthest_first(points[rest], points[list(chosen)], n)
    return [
        Choice(pool[rest[i]].image_id, d, f"distance {d:.3f} to the nearest chosen image")
        for i, d in filled
    ]
