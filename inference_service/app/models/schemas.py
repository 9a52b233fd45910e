"""Requests and responses of the inference service alone."""

import base64
from typing import Annotated, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from shared.models.data import Split
from shared.models.geometry import Frozen

# Of characters: browsers send no longer addresses, and S3 has no longer keys.
MAX_URL = 8192
MAX_KEY = 1024
MAX_CUSTOM_ID = 512


def _decode(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        # As `base64 FILE` writes it: in lines.
        return base64.b64decode(value.replace("\n", "") if "\n" in value else value, validate=True)
    except ValueError as exc:
        msg = f"not base64 of the standard alphabet, without `data:…,` before it: {exc}"
        raise ValueError(msg) from exc


Base64 = Annotated[bytes, BeforeValidator(_decode), WithJsonSchema({"type": "string"})]


def require_one(given: BaseModel, names: tuple[str, ...]) -> None:
    """See that exactly one of some fields is set.

    Raises:
        ValueError: none or several are.
    """
    found = [name for name in names if getattr(given, name) is not None]
    if len(found) != 1:
        msg = f"give one of {', '.join(names)}: got {', '.join(found) or 'none'}"
        raise ValueError(msg)


class ImageSource(Frozen):
    """An image to predict, given in one of three ways."""

    image_id: str | None = Field(
        default=None, min_length=1, max_length=64, description="Of a stored image."
    )
    image: Base64 | None = Field(default=None, description="A file's bytes, in base64.")
    url: str | None = Field(
        default=None, max_length=MAX_URL, description="A public http or https address."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        require_one(self, ("image_id", "image", "url"))
        return self


class ScoringPart(Frozen):
    """Part of a scoring: images between two ids of one split, by the shards they go into."""

    model_version: int | None
    n_passes: int
    consistency: bool
    split: Split
    after: str | None = Field(description="All of its ids come after this one.")
    shards: tuple[tuple[str, ...], ...]
    n_known: int = Field(description="Images between them that were scored before.")

    @property
    def n_images(self) -> int:
        """Return how many images there are to score."""
        return sum(len(ids) for ids in self.shards)


class ScoredPart(Frozen):
    """Result of one part."""

    n_scored: int
    n_known: int


class BatchJob(Frozen):
    """A batch whose lines are stored in pieces."""

    batch_id: str
    name: str
    model_version: int
    sizes: tuple[int, ...] = Field(description="Lines of each piece.")
    expires_at: AwareDatetime
    request_sha256: str | None = Field(
        default=None, description="Of lines and options, if the request had an Idempotency-Key."
    )


class BatchPart(Frozen):
    """One piece of a batch."""

    batch_id: str
    piece: int
    model_version: int
    expires_at: AwareDatetime


class BatchPartResult(Frozen):
    """How many lines were answered, how many failed, and of those how many came too late."""

    n_answered: int
    n_failed: int
    n_expired: int


class DeletedFiles(Frozen):
    """How many files of a batch were deleted."""

    n_files: int


class BatchLine(Frozen):
    """A line of a batch: an image, given in one of three ways."""

    custom_id: str | None = Field(default=None, max_length=MAX_CUSTOM_ID)
    image_id: str | None = Field(default=None, min_length=1, max_length=64)
    url: str | None = Field(default=None, max_length=MAX_URL)
    key: str | None = Field(
        default=None, max_length=MAX_KEY, description="Of an object in the store."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        require_one(self, ("image_id", "url", "key"))
        return self


class NamedLine(BaseModel):
    """What can be read of a line that is no batch line, to tell whose it is."""

    custom_id: Annotated[str, Field(max_length=MAX_CUSTOM_ID)] | None = None


class ReindexCreate(Frozen):
    """Rebuild the vector index of every version that has shards."""


class ReindexResult(Frozen):
    """Result of a reindexing job."""

    project: str
    n_versions: int
    n_vectors: int
