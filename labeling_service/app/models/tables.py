"""The tables of the labelling service: rounds, their tasks, and what simulations came to."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base, UtcDateTime, utcnow

UNFINISHED = text("finished_at IS NULL")


class RoundRow(Base):
    """One turn of the loop; `version` counts its transitions, for compare-and-set."""

    __tablename__ = "round"
    __table_args__ = (
        UniqueConstraint("project", "index"),
        # At most one unfinished round per project and purpose, so no image is in two of them.
        Index(
            "uq_round_unfinished",
            "project",
            "purpose",
            unique=True,
            sqlite_where=UNFINISHED,
            postgresql_where=UNFINISHED,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project: Mapped[str] = mapped_column(String(64))
    index: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(16))
    step: Mapped[str] = mapped_column(String(16))
    version: Mapped[int] = mapped_column(default=0)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    classes: Mapped[list[str]] = mapped_column(JSON)
    scored_by: Mapped[int | None]
    selected: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    note: Mapped[str | None] = mapped_column(Text)
    dataset_version: Mapped[int | None]
    model_version: Mapped[int | None]
    promoted: Mapped[bool | None]
    metrics: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TaskRow(Base):
    """One image of a round, to be labelled by one person."""

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("round_id", "image_id"),
        Index("ix_task_project_state", "project", "state"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    round_id: Mapped[str] = mapped_column(ForeignKey("round.id"))
    project: Mapped[str] = mapped_column(String(64))
    image_id: Mapped[str] = mapped_column(String(64))
    rank: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="open")
    pre_annotations: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    annotations: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    annotator: Mapped[str | None] = mapped_column(String(100))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class SimulationRow(Base):
    """Results of a replay simulation that are kept with a project."""

    __tablename__ = "simulation"

    project: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    results: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
