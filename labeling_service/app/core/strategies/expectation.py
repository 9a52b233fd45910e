"""How many boxes an image is expected to have, which is what an annotator will draw."""

import numpy as np
from numpy.typing import NDArray

from shared.predictions import ScoredImage

# An annotator starts from these boxes too: below, one costs more clicks than it saves.
EXPECTED_SCORE = 0.25


def expected(image: ScoredImage) -> NDArray[np.bool_]:
    """Return which boxes are expected to be objects, shape (N,)."""
    return np.asarray(image.scores >= EXPECTED_SCORE)
