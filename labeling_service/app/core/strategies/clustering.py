"""k-means on embeddings, of few clusters by Lloyd's iterations and of many by samples."""

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.pool import FloatArray

# 200 clusters of 20,000 images took Lloyd's iterations minutes.
MANY_CLUSTERS = 50


def cluster(points: FloatArray, n: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each point, numbered from 0 without gaps.

    Args:
        points: shape (P, D), P > 0.
        n: how many clusters; fewer where there are fewer distinct points.
        seed: of the start and of the samples.

    Returns:
        Shape (P,).

    Source:
        Lloyd 1982; above `MANY_CLUSTERS` Sculley 2010, "Web-scale k-means clustering".
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    n = min(n, len(np.unique(points, axis=0)))
    if n <= MANY_CLUSTERS:
        kmeans = KMeans(n_clusters=n, random_state=seed, n_init=4)
    else:
        kmeans = MiniBatchKMeans(n_clusters=n, random_state=seed, n_init=1, batch_size=5000)
    _, numbers = np.unique(kmeans.fit_predict(points), return_inverse=True)
    return np.asarray(numbers, np.int64)


def members_of(clusters: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each cluster, in the order of their numbers; rows in rising order."""
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.cumsum(np.bincount(clusters))[:-1])
