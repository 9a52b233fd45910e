"""Class-balanced sampling: images that are expected to even out the labels of the classes."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.expectation import expected
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage


class ClassBalanced:
    """Takes the image that adds most to the sum over classes of log(1 + labels of the class).

    The logarithm makes one more label worth the more, the fewer there are, so that the sum is
    largest where labels are even; the chosen images' expected boxes count like labels.

    Source:
        Class balance as an aim of selection: Bengar et al. 2022 (arXiv:2110.04543), there by an
        integer program over classified images. The sum is submodular, so that greedy choice
        reaches 1 - 1/e of the best: Nemhauser, Wolsey and Fisher 1978; lazily: Minoux 1978.
    """

    def __init__(self, classes: Classes) -> None:
        """Start from the labels so far."""
        self._classes = classes

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return the expected boxes of each class, shape (C,)."""
        return np.asarray(self._classes.shares(image)[expected(image)].sum(axis=0), np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the image with the largest gain over what is there, ties by image id."""
        del n, seed
        labels = np.array(self._classes.n_labels, np.float64)
        gains = _gains(pool.summaries, labels).tolist()
        # A gain only falls as labels are added: an old one that is beaten need not be renewed.
        waiting = [(-gain, row) for row, gain in enumerate(gains)]
        heapq.heapify(waiting)
        while waiting:
            _, row = heapq.heappop(waiting)
            gain = float(_gains(pool.summaries[row : row + 1], labels)[0])
            if waiting and (-gain, row) > waiting[0]:
                heapq.heappush(waiting, (-gain, row))
                continue
            yield Choice(row, gain, self._reason(pool.summaries[row], labels))
            labels += pool.summaries[row]

    def _reason(self, added: FloatArray, labels: NDArray[np.float64]) -> str:
        if not added.any():
            return "gain 0.000: no box is expected"
        gains = np.log1p(added / (1 + labels))
        top = int(gains.argmax())
        boxes = f"about {added[top]:.1f} boxes of {self._classes.names[top]!r}"
        so_far = f"of which {labels[top]:.0f} are labelled or chosen"
        return f"gain {gains.sum():.3f}: {boxes}, {so_far}"


def _gains(added: FloatArray, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each image adds to the sum, shape (P,), of its boxes (P, C) over labels (C,)."""
    return np.asarray(np.log1p(added / (1 + labels)).sum(axis=1))
