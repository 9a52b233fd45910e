"""What a strategy chooses from, and what it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


class Choice(NamedTuple):
    """A chosen image: its row in the pool, the value it was ranked by, and why, in words."""

    row: int
    value: float | None
    reason: str


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
            pool: what to choose from, with this strategy's own summaries.
            n: about how many will be taken; more are when near-duplicates are passed over.
            seed: of every random draw.
        """
        ...
