"""Spreading over the embeddings: the next image is always the farthest from what is covered."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.kcenter import k_center
from labeling_service.app.core.strategies.pool import FloatArray


def farthest_first(points: FloatArray, centres: FloatArray, n: int) -> Iterator[tuple[int, float]]:
    """Yield the rows of all points, each the farthest from the centres and the rows before it.

    The first `n` are chosen at once; then as many again, for whoever passes some of them over.

    Args:
        points: shape (P, D).
        centres: shape (L, D), covered already; L = 0 starts at the point nearest to the mean.
        n: how many are likely to be taken.

    Yields:
        Row, and Euclidean distance to the nearest centre or row before (of the first without
        centres: to the mean); ties by lower row.
    """
    rows = np.arange(len(points))
    while len(rows) > 0:
        picked, distances = k_center(points[rows], centres, max(n, 1))
        yield from zip(rows[picked].tolist(), distances.tolist(), strict=True)
        centres = np.concatenate([centres, points[rows[picked]]])
        rows = np.delete(rows, picked)
