"""What a strategy chooses from, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """What is known of one scored image: N boxes, D features.

    Attributes:
        image_id: SHA-256 of the image.
        scores: shape (N,), each box's best class score in [0, 1].
        entropy: shape (N,), nats; high is uncertain.
        margin: shape (N,), in [0, 1]; low is uncertain.
        bald: shape (N,), nats; high is uncertain.
        embedding: shape (D,).
    """

    image_id: str
    scores: FloatArray
    entropy: FloatArray
    margin: FloatArray
    bald: FloatArray
    embedding: FloatArray


@dataclass(frozen=True)
class Choice:
    """A chosen image: the value it was ranked by, and why, in words and numbers."""

    image_id: str
    value: float | None
    reason: str


def embeddings_of(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return the embeddings, shape (n, D), in double precision: sums must not depend on order.

    Raises:
        ValueError: the embeddings have different lengths.
    """
    return np.stack([c.embedding for c in candidates]).astype(np.float64)
