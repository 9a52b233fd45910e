"""What data_service owns: projects, images, dataset versions, ingestion reports."""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.models.geometry import MAX_INTEGER, Annotation, Frozen

Split = Literal["train", "val", "gate", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "gate", "test")
Format = Literal["yolo", "coco", "voc", "images"]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]


class SplitFractions(Frozen):
    """Share of the images drawn at random for each held-out split; the rest is `train`."""

    val: float = Field(default=0.1, ge=0, lt=1)
    gate: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)


class ProjectCreate(Frozen):
    """A new project; without classes they are pinned by the first ingestion that has labels."""

    name: Slug
    classes: tuple[ClassName, ...] = ()
    splits: SplitFractions = SplitFractions()
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)


class ProjectView(Frozen):
    """A project and how much is in it."""

    name: str
    classes: tuple[str, ...]
    splits: SplitFractions
    seed: int
    created_at: datetime
    n_images: int
    n_by_split: dict[Split, int]
    n_labelled: int = Field(description="Labelled images of the train split.")
    latest_version: int | None = Field(description="Newest dataset version.")


class ProjectCopy(Frozen):
    """A copy of a project that starts again from one of its dataset versions."""

    name: Slug
    dataset_version: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="Which labels it starts with; unset: the oldest.",
    )
    hide_labels: bool = Field(
        default=False,
        description="Keep the train labels hidden, for a simulated annotator; held-out ones stay.",
    )


class ImageView(Frozen):
    """One stored image; `id` is the SHA-256 of the bytes it came as."""

    id: str
    name: str
    width: int
    height: int
    split: Split
    labelled: bool = Field(description="Has annotations (or 'nothing here') in the newest version.")
    duplicate_group: str | None = Field(description="Shared by near-duplicates.")
    key: str = Field(description="Object key of the upright 8-bit RGB or grey image to read.")
    thumbnail_key: str
    created_at: datetime


class ImagePage(Frozen):
    """Some images in the order of their ids, and where the next page starts."""

    images: tuple[ImageView, ...]
    next_cursor: str | None


class ManifestItem(Frozen):
    """One labelled image of a dataset version; no annotations means 'nothing here'."""

    image_id: str
    name: str
    key: str
    width: int
    height: int
    split: Split
    annotations: tuple[Annotation, ...]


class DatasetManifest(Frozen):
    """Everything a training needs to know; immutable, equal content has an equal hash."""

    project: str
    classes: tuple[str, ...]
    items: tuple[ManifestItem, ...]

    def content_hash(self) -> str:
        """Return the SHA-256 of classes, splits and annotations; independent of their order."""
        items = sorted(
            (
                item.image_id,
                item.split,
                sorted((a.class_id, *(f"{v:.6f}" for v in a.xyxy)) for a in item.annotations),
            )
            for item in self.items
        )
        body = json.dumps([list(self.classes), items], separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


class DatasetVersionView(Frozen):
    """A dataset version without its content; `manifest_key` is where that lies."""

    project: str
    version: int
    content_hash: str
    parent: int | None
    round_id: str | None
    manifest_key: str
    n_images: dict[Split, int]
    n_boxes: dict[Split, int]
    created_at: datetime


class LabelledImage(Frozen):
    """New labels for one image."""

    image_id: str
    annotations: tuple[Annotation, ...]


class DatasetVersionCreate(Frozen):
    """Labels to add to the newest version; the same `round_id` twice makes one version."""

    round_id: str
    labels: tuple[LabelledImage, ...]


class IngestionCreate(Frozen):
    """What to read: one of a path on the server, an upload, a list of addresses, and S3."""

    path: str | None = Field(default=None, description="Under FOVEA_INGEST_ROOTS.")
    upload_id: str | None = Field(default=None, description="Removed once it is ingested.")
    urls_upload_id: str | None = Field(
        default=None, description="An upload of http or https addresses, one a line."
    )
    s3: str | None = Field(default=None, description="`s3://bucket/prefix` under FOVEA_INGEST_S3.")
    format: Format | Literal["auto"] = "auto"
    as_oracle: bool = Field(
        default=False, description="Keep the train labels hidden, for a simulated annotator."
    )
    split: Split | None = Field(default=None, description="Put every image into this split.")


RejectionReason = Literal[
    "unreadable",
    "truncated",
    "mislabelled",
    "animated",
    "oversized",
    "unsupported",
    "degenerate_box",
    "out_of_range_box",
    "unknown_class",
    "bad_annotation",
    "missing_image",
    "unsafe_path",
    "link",
    "archive_bomb",
    "unreachable",
]


class Rejection(Frozen):
    """One thing that was not taken, and why."""

    name: str
    reason: RejectionReason
    detail: str


class DuplicatePair(Frozen):
    """Two images that look the same."""

    first: str
    second: str
    distance: int = Field(description="Bits that differ of a 64-bit perceptual hash.")
    crosses: bool = Field(description="They lie in different splits.")
    splits: tuple[Split, Split]


class IngestionReport(Frozen):
    """What an ingestion did; the result of its job."""

    project: str
    format: Format
    n_files: int
    n_added: int
    n_known: int = Field(description="Exact duplicates of stored images.")
    n_boxes: int
    n_by_split: dict[Split, int]
    rejected: tuple[Rejection, ...]
    near_duplicates: tuple[DuplicatePair, ...]
    dataset_version: int | None
    classes: tuple[str, ...]


class Upload(Frozen):
    """Where an uploaded archive or image waits for its ingestion."""

    upload_id: str
    n_bytes: int


class GroundTruth(Frozen):
    """Hidden labels of an image ingested with `as_oracle`."""

    image_id: str
    annotations: tuple[Annotation, ...]
