"""Batches: many images to predict, given as lines of a file."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from shared.models.geometry import Detection, Frozen

BATCH_KIND = "inference.batch"
# Long enough to notice that nobody fetched the results, short enough for a store to stay small.
KEPT = timedelta(days=30)

BatchState = Literal[
    "queued", "in_progress", "cancelling", "completed", "failed", "cancelled", "expired"
]


class BatchCounts(Frozen):
    """Lines of a batch; answered ones are in the result file, failed ones in the error file."""

    total: int
    answered: int
    failed: int


class BatchView(Frozen):
    """One batch of predictions."""

    id: str
    project: str
    name: str = Field(description="The caller's own.")
    model_version: int
    job_id: str
    state: BatchState
    counts: BatchCounts
    message: str = Field(description="Progress in words: lines, lines a second, time left.")
    error: str | None
    created_at: datetime
    expires_at: datetime = Field(description="Lines not answered by then are failed.")
    started_at: datetime | None
    finished_at: datetime | None
    kept_until: datetime | None = Field(
        description="The batch and its files are deleted then; null while it is not over."
    )


class BatchAnswer(Frozen):
    """A line of the result file."""

    line: int = Field(description="Of the input, from 1.")
    custom_id: str | None = Field(description="As the line gave it.")
    image_id: str
    model_version: int
    calibrated: bool
    width: int
    height: int
    detections: tuple[Detection, ...]


class BatchError(Frozen):
    """A line of the error file."""

    line: int = Field(description="Of the input, from 1.")
    custom_id: str | None = Field(description="As the line gave it, if it could be read.")
    error: str
    detail: str


class BatchOutcome(Frozen):
    """What became of a line: an answer, or an error."""

    answer: BatchAnswer | None = None
    error: BatchError | None = None
