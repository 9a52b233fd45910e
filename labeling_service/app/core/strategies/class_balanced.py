"""Class-balanced sampling: images that are expected to even out the labels of the classes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.expectation import expected
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.predictions import ScoredImage

# So many gains at a time stay within a processor's cache.
BLOCK_ROWS = 10_000


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
        """Yield the image with the largest gain over what is there, ties by image id.

        Near-duplicates of a chosen image add no labels: they come after everything else.
        """
        del n, seed
        labels = np.array(self._classes.n_labels, np.float64)
        left = np.arange(len(pool))
        for groups in (_first_alike(pool), left):
            gains = _Gains(pool.summaries, labels, left)
            passed = [left[:0]]
            while (best := gains.largest()) is not None:
                row, gain = best
                yield Choice(row, gain, self._reason(pool.summaries[row], labels))
                labels += pool.summaries[row]
                alike = np.flatnonzero(groups == groups[row])
                gains.drop(alike)
                passed.append(alike[alike != row])
            left = np.concatenate(passed)

    def _reason(self, added: FloatArray, labels: NDArray[np.float64]) -> str:
        if not added.any():
            return "gain 0.000: no box is expected"
        gains = np.log1p(added / (1 + labels))
        top = int(gains.argmax())
        boxes = f"about {added[top]:.1f} boxes of {self._classes.names[top]!r}"
        so_far = f"of which {labels[top]:.0f} are labelled or chosen"
        return f"gain {gains.sum():.3f}: {boxes}, {so_far}"


class _Gains:
    """What each image adds to the sum; an old gain is renewed only if it could be the largest.

    A gain only falls as labels are added, so that an old one is never too small.
    """

    def __init__(
        self, added: FloatArray, labels: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> None:
        """Start with these rows of `added`, shape (P, C); `labels`, shape (C,), grow outside."""
        self._added = added
        self._labels = labels
        self._gains = np.full(len(added), -np.inf)
        self._renew(rows)

    def largest(self) -> tuple[int, float] | None:
        """Return row and gain of the largest, of equal ones the lowest row; None without any."""
        if len(self._gains) == 0:
            return None
        row = int(self._gains.argmax())
        if self._gains[row] > 0:
            self._renew(np.array([row]))
            self._renew(np.flatnonzero(self._gains >= self._gains[row]))
            row = int(self._gains.argmax())
        return None if self._gains[row] < 0 else (row, float(self._gains[row]))

    def drop(self, rows: NDArray[np.int64]) -> None:
        """Take these out."""
        self._gains[rows] = -np.inf

    def _renew(self, rows: NDArray[np.int64]) -> None:
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            added = self._added[block]
            self._gains[block] = np.log1p(added / (1 + self._labels)).sum(axis=1)


def _first_alike(pool: Pool) -> NDArray[np.int64]:
    """Return for each image the first that it looks like, shape (P,): itself if no other."""
    first: dict[str, int] = {}
    rows = (row if g is None else first.setdefault(g, row) for row, g in enumerate(pool.groups))
    return np.fromiter(rows, np.int64, len(pool))
