"""Jobs as callers see them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from shared.models.geometry import Frozen

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})


class JobView(Frozen):
    """One job: the row is the record."""

    id: str
    kind: str = Field(description="Name of the task, `training.train`.")
    project: str
    parent_id: str | None = Field(default=None, description="The job that this is a part of.")
    round_id: str | None
    step: str | None
    state: JobState
    progress: float = Field(ge=0, le=1)
    message: str
    attempts: int
    max_attempts: int
    cancel_requested: bool
    payload: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None = Field(description="From first claim to end, or to now.")
