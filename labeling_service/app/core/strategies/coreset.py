"""k-center greedy core-set: images far from everything labelled or chosen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.candidates import Candidate, Choice, embeddings_of

FloatArray64 = NDArray[np.float64]


def choose_coreset(
    candidates: Sequence[Candidate], labelled: Sequence[Candidate], n: int
) -> list[Choice]:
    """Return `n` images, each the farthest from all labelled and chosen ones; ties by image id.

    Without labelled images the first is the one nearest to the mean of the pool.
    """
    if not candidates:
        return []
    pool = sorted(candidates, key=lambda c: c.image_id)
    centres = embeddings_of(labelled) if labelled else None
    picked = farthest_first(embeddings_of(pool), centres, n)
    choices = []
    for position, (i, distance) in enumerate(picked):
        if position == 0 and centres is None:
            reason = f"nearest to the mean of {len(pool)} images (distance {distance:.3f})"
        else:
            reason = f"distance {distance:.3f} to the nearest labelled or chosen image"
        choices.append(Choice(pool[i].image_id, distance, reason))
    return choices


def farthest_first(
    points: FloatArray64, centres: FloatArray64 | None, n: int
) -> list[tuple[int, float]]:
    """Return `n` points by k-center greedy, each with the distance it was chosen for.

    The radius of the cover is at most twice the best possible one.

    Args:
        points: shape (P, D).
        centres: shape (L, D), covered already; None starts at the point nearest to the mean.
        n: how many; at most P are returned.

    Returns:
        Index into `points` and Euclidean distance, in the order of choice; ties by lower index.

    Source:
        Sener and Savarese 2018 (arXiv:1708.00489), algorithm 1.
    """
    nearest = np.full(len(points), np.inf)
    for centre in () if centres is None else centres:
        nearest = np.minimum(nearest, _distances(points, centre))
    picked: list[tuple[int, float]] = []
    for _ in range(min(n, len(points))):
        if picked or centres is not None:
            i = int(np.argmax(nearest))
            picked.append((i, float(nearest[i])))
        else:
            to_mean = _distances(points, points.mean(axis=0))
            i = int(np.argmin(to_mean))
            picked.append((i, float(to_mean[i])))
        nearest = np.minimum(nearest, _distances(points, points[i]))
        nearest[i] = -1.0  # chosen: below every distance, also below that of an exact copy
    return picked


def _distances(points: FloatArray64, centre: FloatArray64) -> FloatArray64:
    return np.asarray(np.linalg.norm(points - centre, axis=1))
