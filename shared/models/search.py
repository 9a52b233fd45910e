"""Search by likeness, the map of embeddings, and groups of near-duplicates."""

from typing import Literal

from pydantic import AwareDatetime, Field

from shared.models.data import ImageView, Split
from shared.models.geometry import MAX_INTEGER, Frozen, Xyxy

MapMethod = Literal["umap", "pca"]


class SimilarImage(Frozen):
    """A stored image near what was asked for."""

    image_id: str
    split: Split
    distance: float = Field(description="Cosine distance of the embeddings, in [0, 2].")


class SimilarImages(Frozen):
    """The nearest images, nearest first."""

    model_version: int = Field(description="Whose embeddings; 0: the base model's.")
    n_searched: int = Field(description="Images that this version has embedded.")
    images: tuple[SimilarImage, ...]


class SimilarObject(SimilarImage):
    """A predicted box near what was asked for."""

    box: int = Field(description="Its number among the image's predicted boxes, from 0.")
    class_id: int
    score: float
    xyxy: Xyxy


class SimilarObjects(Frozen):
    """The nearest predicted boxes, nearest first."""

    model_version: int = Field(description="Whose embeddings.")
    n_searched: int = Field(description="Boxes that this version has embedded.")
    objects: tuple[SimilarObject, ...]


class MapCreate(Frozen):
    """Lay the embeddings of a project's images out on a plane."""

    model_version: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INTEGER,
        description="Whose embeddings, 0: the base model's; unset: the version that saw most.",
    )
    method: MapMethod = "umap"


class MapPoint(Frozen):
    """One image on the map."""

    image_id: str
    x: float
    y: float
    split: Split
    class_id: int | None = Field(description="Of its best box; null: none is good enough.")
    uncertainty: float = Field(description="Entropy of its most uncertain box, in nats.")


class EmbeddingMap(Frozen):
    """A project's images on a plane: near each other where their embeddings are."""

    project: str
    model_version: int
    method: MapMethod
    made_at: AwareDatetime
    n_images: int = Field(description="That the version has embedded; a map shows 20,000 at most.")
    points: tuple[MapPoint, ...]


class MapResult(Frozen):
    """Result of a map's job."""

    project: str
    model_version: int
    method: MapMethod
    n_images: int
    n_shown: int


class DuplicateGroup(Frozen):
    """Images that look the same, by name."""

    name: str
    images: tuple[ImageView, ...]
    crosses: bool = Field(description="They lie in different splits.")


class DuplicateGroups(Frozen):
    """Some groups in the order of their names, and where the next page starts."""

    groups: tuple[DuplicateGroup, ...]
    next_cursor: str | None
