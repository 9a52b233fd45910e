"""What a strategy chooses from, and what it answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.predictions import ScoredImage

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """The images to choose from, and all that is kept of them: P images in the order of their ids.

    Attributes:
        ids: SHA-256 of each, P in all.
        groups: what near-duplicates share, P in all; None where an image has none.
        embeddings: shape (P, D); D is 0 where the strategy looks at no image.
        summaries: shape (P, S), what the strategy's own `summarise` returned for each.
        expected_boxes: shape (P,), how many boxes the model expects in each.
        labelled: shape (L, D), embeddings of the labelled images; L is 0 if nobody asked for them.
    """

    ids: Sequence[str]
    groups: Sequence[str | None]
    embeddings: FloatArray
    summaries: FloatArray
    expected_boxes: NDArray[np.int64]
    labelled: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    def ungrouped(self) -> "Pool":
        """Return the pool as if no image looked like another."""
        return replace(self, groups=[None] * len(self))


class Choice(NamedTuple):
    """A chosen image: its row in the pool, the value it was ranked by, and why, in words."""

    row: int
    value: float | None
    reason: str


class Distinct:
    """Images of which no two look alike: of each group of near-duplicates at most one."""

    def __init__(self, pool: Pool) -> None:
        """Start with none of the pool."""
        self._groups = pool.groups
        self._seen: set[str] = set()

    def admit(self, row: int) -> bool:
        """Add an image, and tell so, unless one that it looks like is there."""
        group = self._groups[row]
        if group in self._seen:
            return False
        if group is not None:
            self._seen.add(group)
        return True

    def among(self, choices: Iterable[Choice], passed: list[Choice]) -> Iterator[Choice]:
        """Yield the choices that can be added; the others go to `passed`."""
        for choice in choices:
            if self.admit(choice.row):
                yield choice
            else:
                passed.append(choice)


class Acquisition(Protocol):
    """A strategy at work. It sees each image once, when its shard is read, and then all in short.

    So a pool of any size fits: of the boxes only the summary stays.
    """

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return what to keep of one image, shape (S,), of the same S for all; NaN if unusable."""
        ...

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the images, the best first, each at most once.

        Args:
            pool: what to choose from, with this strategy's own summaries. Whoever reads the order
                passes near-duplicates over; where an image counts for those after it, the strategy
                does so itself and yields them last.
            n: about how many will be taken; more are when near-duplicates are passed over.
            seed: of every random draw.
        """
        ...
