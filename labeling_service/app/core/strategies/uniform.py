"""Random choice: the baseline."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage


class Uniform:
    """Every image is as likely as every other, whatever the model sees in it."""

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return nothing: the draw looks at no image."""
        del image
        return np.zeros(0, np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield all images in random order; the same ones with the same seed give the same."""
        del n
        drawn = np.random.default_rng(seed).permutation(len(pool))
        reason = f"random draw from {len(pool)} images (seed {seed})"
        for row in drawn:
            yield Choice(int(row), None, reason)
