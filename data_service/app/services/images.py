"""Stored images, as callers see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from data_service.app.models.tables import ImageRow
from data_service.app.services.projects import require_project
from shared.database import Database
from shared.errors import NotFound
from shared.models.data import GroundTruth, ImagePage, ImageView, Split
from shared.models.geometry import Annotation
from shared.objects.port import ObjectNotFound, ObjectStore


class UnknownImage(NotFound):
    """The project has no image with this id."""


class NoGroundTruth(NotFound):
    """The image has no hidden labels."""


@dataclass(frozen=True)
class ImageQuery:
    """Which images, and where the page starts: after the id `cursor`.

    `name` is a part of the image's name, in any case.
    """

    split: Split | None = None
    labelled: bool | None = None
    name: str | None = None
    cursor: str | None = None
    limit: int = 100


def list_images(database: Database, project: str, query: ImageQuery) -> ImagePage:
    """Return one page of images in the order of their ids."""
    statement = select(ImageRow).where(ImageRow.project == project, ImageRow.split.is_not(None))
    if query.split is not None:
        statement = statement.where(ImageRow.split == query.split)
    if query.labelled is not None:
        statement = statement.where(ImageRow.labelled.is_(query.labelled))
    if query.name is not None:
        statement = statement.where(ImageRow.name.icontains(query.name, autoescape=True))
    if query.cursor is not None:
        statement = statement.where(ImageRow.id > query.cursor)
    with database.transaction() as session:
        require_project(session, project)
        rows = session.scalars(statement.order_by(ImageRow.id).limit(query.limit + 1)).all()
    views = tuple(image_view(row) for row in rows[: query.limit])
    return ImagePage(images=views, next_cursor=views[-1].id if len(rows) > query.limit else None)


def get_image(database: Database, project: str, image_id: str) -> ImageView:
    """Return one image.

    Raises:
        UnknownImage: the project has no image with this id.
    """
    with database.transaction() as session:
        require_project(session, project)
        return image_view(require_image(session, project, image_id))


def require_image(session: Session, project: str, image_id: str) -> ImageRow:
    """Return the row of an image that is wholly ingested.

    Raises:
        UnknownImage: the project has no image with this id.
    """
    row = session.get(ImageRow, (project, image_id))
    if row is None or row.split is None:
        msg = f"unknown image: {image_id!r}"
        raise UnknownImage(msg)
    return row


def ground_truth(
    database: Database, store: ObjectStore, project: str, image_id: str
) -> GroundTruth:
    """Return the hidden labels of an image.

    Raises:
        UnknownImage: the project has no image with this id.
        NoGroundTruth: it was not ingested with hidden labels.
    """
    get_image(database, project, image_id)
    try:
        return GroundTruth.model_validate_json(store.get(ground_truth_key(project, image_id)))
    except ObjectNotFound as exc:
        msg = f"no ground truth for image: {image_id!r}"
        raise NoGroundTruth(msg) from exc


def hide_labels(
    store: ObjectStore, project: str, image_id: str, annotations: Sequence[Annotation]
) -> None:
    """Keep an image's labels as hidden ground truth, which a simulated annotator replays."""
    oracle = tuple(a.model_copy(update={"source": "oracle"}) for a in annotations)
    truth = GroundTruth(image_id=image_id, annotations=oracle)
    key = ground_truth_key(project, image_id)
    store.put(key, truth.model_dump_json().encode(), "application/json")


def ground_truth_key(project: str, image_id: str) -> str:
    """Return the object key of an image's hidden labels."""
    return f"{ground_truth_prefix(project)}{image_id}.json"


def ground_truth_prefix(project: str) -> str:
    """Return what the object keys of a project's hidden labels start with."""
    return f"projects/{project}/ground_truth/"


def image_view(row: ImageRow) -> ImageView:
    """Return the row as callers see it."""
    return ImageView(
        id=row.id,
        name=row.name,
        width=row.width,
        height=row.height,
        split=cast(Split, row.split),
        labelled=row.labelled,
        duplicate_group=row.duplicate_group,
        key=row.key,
        thumbnail_key=row.thumbnail_key,
        created_at=row.created_at,
    )
