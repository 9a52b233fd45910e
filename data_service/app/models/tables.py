"""What data_service owns: projects, images, dataset versions, uploads."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base, UtcDateTime, utcnow


class ProjectRow(Base):
    """A project; `classes` is empty until they are pinned, and never changes after."""

    __tablename__ = "project"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    classes: Mapped[list[str]] = mapped_column(JSON)
    val: Mapped[float]
    gate: Mapped[float]
    test: Mapped[float]
    seed: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class ImageRow(Base):
    """One image of a project; without split it is still being ingested and nobody sees it."""

    __tablename__ = "image"
    __table_args__ = (
        Index("ix_image_project_split_labelled_id", "project", "split", "labelled", "id"),
        Index("ix_image_project_labelled_id", "project", "labelled", "id"),
        Index("ix_image_project_name", "project", "name"),
        Index("ix_image_project_duplicate_group", "project", "duplicate_group"),
        Index("ix_image_project_ingestion_id", "project", "ingestion_id"),
    )

    project: Mapped[str] = mapped_column(String(64), ForeignKey("project.name"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(500))
    width: Mapped[int]
    height: Mapped[int]
    orientation: Mapped[int]
    split: Mapped[str | None] = mapped_column(String(8))
    drawn: Mapped[bool] = mapped_column(default=False)
    labelled: Mapped[bool] = mapped_column(default=False)
    phash: Mapped[str | None] = mapped_column(String(16))
    duplicate_group: Mapped[str | None] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(300))
    original_key: Mapped[str] = mapped_column(String(300))
    thumbnail_key: Mapped[str] = mapped_column(String(300))
    ingestion_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class DatasetVersionRow(Base):
    """A dataset version; its content is the object `manifest_key`."""

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("project", "round_id"),)

    project: Mapped[str] = mapped_column(String(64), ForeignKey("project.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content_hash: Mapped[str] = mapped_column(String(64))
    parent: Mapped[int | None]
    round_id: Mapped[str] = mapped_column(String(64))
    manifest_key: Mapped[str] = mapped_column(String(300))
    n_images: Mapped[dict[str, int]] = mapped_column(JSON)
    n_boxes: Mapped[dict[str, int]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class UploadRow(Base):
    """Bytes that wait for their ingestion."""

    __tablename__ = "upload"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project: Mapped[str] = mapped_column(String(64), ForeignKey("project.name"), index=True)
    name: Mapped[str] = mapped_column(String(500))
    n_bytes: Mapped[int]
    key: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
