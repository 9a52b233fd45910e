"""From the boxes of an image to one value, and from values to an order."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.pool import FloatArray
from shared.models.strategies import BoxAggregation
from shared.predictions import ScoredImage

# Shards keep boxes down to 0.001: hundreds of them per image, near-uniform noise that would drown
# the boxes anybody would ever see.
MIN_SCORE = 0.05
# An image in which the model sees nothing gives it nothing to be unsure of: it comes last.
NO_BOXES = 0.0


def counted(image: ScoredImage) -> NDArray[np.bool_]:
    """Return which boxes count, shape (N,): those with a score above `MIN_SCORE`."""
    return np.asarray(image.scores > MIN_SCORE)


def aggregate(values: FloatArray, how: BoxAggregation) -> float:
    """Return one image's value from those of its boxes, shape (M,), all at least 0.

    `class_weighted` sums: the weights are in the values already. Fewer than k boxes of `topk` sum
    up to less. Without boxes it is `NO_BOXES`.

    Source:
        Sum, mean and maximum: Brust et al. 2019 (arXiv:1809.09875).
    """
    if len(values) == 0:
        return NO_BOXES
    match how.aggregation:
        case "max":
            return float(values.max())
        case "mean":
            return float(values.mean())
        case "topk":
            return float(np.sort(values)[-(how.k or 1) :].sum())
        case _:
            return float(values.sum())


def over_boxes(how: BoxAggregation, n_boxes: int) -> str:
    """Return in words what was aggregated: `max over 3 boxes`."""
    boxes = "1 box" if n_boxes == 1 else f"{n_boxes} boxes"
    if how.aggregation == "topk":
        return f"top {how.k} of {boxes}"
    name = "class-weighted sum" if how.aggregation == "class_weighted" else how.aggregation
    return f"{name} over {boxes}"


def by_value(values: NDArray[np.floating]) -> Iterator[int]:
    """Yield the rows, the largest value first, of equal values the lower row."""
    yield from np.argsort(-values, kind="stable").tolist()
