"""A strategy of one's own: the images in which the model sees most small objects."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage


class SmallObjects:
    """Ranks images by how many confident boxes cover less than `below` of the image."""

    needs_model = True  # it looks at boxes, so there must be a trained model
    needs_labelled = False  # it does not ask for the embeddings of labelled images

    def __init__(self, below: float = 0.01, score: float = 0.25) -> None:
        """Take the parameters of `custom:small_objects:below=0.02`."""
        if not 0 < below <= 1:
            msg = f"below is a share of the image, in (0, 1], not {below}"
            raise ValueError(msg)
        self._below = below
        self._score = score

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return the number of small boxes: all that is kept of the image's boxes."""
        sides = image.xyxy[:, 2:] - image.xyxy[:, :2]
        small = sides.prod(axis=1) < self._below
        return np.array([np.count_nonzero(small & (image.scores >= self._score))], np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the images with most small boxes first, ties in random order."""
        del n
        counts = pool.summaries[:, 0]
        ties = np.random.default_rng(seed).permutation(len(pool))
        for row in np.lexsort((ties, -counts)).tolist():
            reason = f"{counts[row]:.0f} boxes smaller than {self._below:.2%} of the image"
            yield Choice(row, float(counts[row]), reason)
