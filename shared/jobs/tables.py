"""The table of jobs: the row is the record, the queue only a doorbell."""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base, UtcDateTime, utcnow
from shared.models.jobs import JobState, JobView


class JobRow(Base):
    """One piece of long work, claimed by at most one worker at a time."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_state_kind", "state", "kind"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(64))
    project: Mapped[str] = mapped_column(String(64), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(32), index=True)
    size: Mapped[int] = mapped_column(default=1)
    round_id: Mapped[str | None] = mapped_column(String(64), index=True)
    step: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str] = mapped_column(Text, default="")
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    n_waits: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(100))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)
    rung_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def view(row: JobRow, *, with_payload: bool = True) -> JobView:
    """Return the row as callers see it."""
    seconds = None
    if row.started_at is not None:
        seconds = ((row.finished_at or utcnow()) - row.started_at).total_seconds()
    return JobView(
        id=row.id,
        kind=row.kind,
        project=row.project,
        parent_id=row.parent_id,
        round_id=row.round_id,
        step=row.step,
        state=cast(JobState, row.state),
        progress=row.progress or 0.0,
        message=row.message or "",
        attempts=row.attempts or 0,
        max_attempts=row.max_attempts,
        cancel_requested=bool(row.cancel_requested),
        payload=row.payload if with_payload else {},
        result=row.result,
        error=row.error,
        created_at=row.created_at or utcnow(),
        started_at=row.started_at,
        finished_at=row.finished_at,
        seconds=seconds,
    )
