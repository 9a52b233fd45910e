"""Requests and responses of the inference service alone."""

from datetime import datetime

from pydantic import Field

from shared.models.data import Split
from shared.models.geometry import Frozen, Unit, Xyxy


class StoredImageRef(Frozen):
    """A stored image to predict."""

    image_id: str = Field(min_length=1)


class Refused(Frozen):
    """A model version that is not served, although it should be, and why."""

    model_version: int
    reason: str


class ServingView(Frozen):
    """Which model version serves a project on this machine."""

    project: str
    model_version: int
    calibrated: bool
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...]
    nms_iou: float
    loaded_at: datetime
    n_waiting: int = Field(description="Requests in the model's queue.")
    refused: Refused | None
    registry_error: str | None = Field(description="The registry did not answer; the copy serves.")


class ScoredBox(Frozen):
    """One box of a scored image, with what the passes say about it."""

    class_id: int
    xyxy: Xyxy
    score: Unit
    class_scores: tuple[Unit, ...]
    entropy: float
    margin: float
    bald: float


class ScoredImageView(Frozen):
    """What a model version saw in a stored image."""

    image_id: str
    model_version: int
    split: Split
    detections: tuple[ScoredBox, ...]
    brightness: float
    contrast: float
    sharpness: float


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
