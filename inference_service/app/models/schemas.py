"""Requests and responses of the inference service alone."""

from pydantic import Field

from shared.models.geometry import Frozen


class StoredImageRef(Frozen):
    """A stored image to predict."""

    image_id: str = Field(min_length=1)


class SimilarImage(Frozen):
    """A stored image near another; `distance` is the cosine distance of their embeddings."""

    image_id: str
    distance: float
    split: str


class ReindexCreate(Frozen):
    """Rebuild the vector index of every version that has shards."""


class ReindexResult(Frozen):
    """Result of a reindexing job."""

    project: str
    n_versions: int
    n_vectors: int
