"""k-center greedy core-set: images far from everything labelled or chosen."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from labeling_service.app.core.strategies.spreading import farthest_first
from shared.predictions import ScoredImage


class CoreSet:
    """Covers the pool: the farthest image of all is then at most twice as far as it must be.

    Source:
        Sener and Savarese 2018 (arXiv:1708.00489), algorithm 1.
    """

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return nothing: the embedding is kept of every image."""
        del image
        return np.zeros(0, np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the farthest from all labelled and chosen images, ties by image id.

        Without labelled images the first is the one nearest to the mean of the pool.
        """
        del seed
        start = len(pool.labelled) == 0
        for row, distance in farthest_first(pool.embeddings, pool.labelled, n):
            reason = (
                f"nearest to the mean of {len(pool)} images (distance {distance:.3f})"
                if start
                else f"distance {distance:.3f} to the nearest labelled or chosen image"
            )
            start = False
            yield Choice(row, distance, reason)
