"""Port of the vector store: nearest neighbours by cosine distance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadRequest

Scalar = str | int | float | bool
Vector = NDArray[np.float32]


class WrongDimension(BadRequest):
    """The vector's length differs from the namespace's."""


@dataclass(frozen=True)
class VectorRecord:
    """One vector, shape (D,), with the metadata that queries may filter by."""

    id: str
    vector: Vector
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Neighbour:
    """A record near a query; `distance` is the cosine distance in [0, 2]."""

    id: str
    distance: float
    metadata: Mapping[str, Scalar]


class VectorStore(Protocol):
    """An index derived from the prediction shards; one namespace per project and model version."""

    def upsert(self, namespace: str, records: Sequence[VectorRecord]) -> None:
        """Insert or replace by id.

        Raises:
            WrongDimension: a vector's length differs from what the namespace holds.
        """

    def query(
        self,
        namespace: str,
        vector: Vector,
        k: int,
        where: Mapping[str, Scalar] | None = None,
    ) -> list[Neighbour]:
        """Return the k nearest records (fewer if there are fewer), ties by id.

        Raises:
            WrongDimension: the vector's length differs from what the namespace holds.
        """

    def scan(self, namespace: str, page_size: int = 1000) -> Iterator[list[VectorRecord]]:
        """Yield every record once, in pages, ordered by id."""

    def count(self, namespace: str) -> int:
        """Return how many records there are; 0 for an unknown namespace."""

    def delete(self, namespace: str, ids: Sequence[str]) -> None:
        """Remove records; ids that are not there are fine."""

    def drop(self, namespace: str) -> None:
        """Remove the namespace; one that is not there is fine."""

    def check(self) -> None:
        """Ask the store for an answer.

        Raises:
            BackendUnavailable: it gives none.
        """
