"""Dataset versions: immutable, content-hashed, one per round."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from data_service.app.models.tables import DatasetVersionRow, ImageRow
from data_service.app.services.images import UnknownImage
from data_service.app.services.projects import require_project
from shared.database import Database
from shared.errors import BadRequest, Conflict, NotFound
from shared.models.data import (
    SPLITS,
    DatasetManifest,
    DatasetVersionCreate,
    DatasetVersionView,
    LabelledImage,
    ManifestItem,
)
from shared.models.geometry import Annotation, rounded
from shared.objects.port import ObjectStore

# Each try loses only against another round that closed in between.
_TRIES = 20
_CHUNK = 500


class UnknownVersion(NotFound):
    """The project has no dataset version with this number."""


@dataclass(frozen=True)
class _Base:
    classes: tuple[str, ...]
    parent: DatasetVersionRow | None
    images: Mapping[str, ImageRow]


def create_version(
    database: Database, store: ObjectStore, project: str, request: DatasetVersionCreate
) -> DatasetVersionView:
    """Add labels to the newest version; the same round again returns the version it made.

    Raises:
        UnknownProject: no project has this name.
        UnknownImage: a label is of an image that the project does not have.
        BadRequest: an image twice, or a class that the project does not have.
    """
    _check_labels(request)
    for _ in range(_TRIES):
        with database.transaction() as session:
            existing = _of_round(session, project, request.round_id)
            if existing is not None:
                return _view(existing)
            base = _base(session, project, request)
        manifest = _manifest(project, base, _items_of_parent(store, base.parent), request)
        row = version_row(request.round_id, base.parent, manifest)
        put_manifest(store, row.manifest_key, manifest)
        try:
            with database.transaction() as session:
                session.add(row)
                session.flush()
                mark_labelled(session, project, [label.image_id for label in request.labels])
        except IntegrityError:
            continue
        return _view(row)
    msg = f"round {request.round_id!r}: other rounds of project {project!r} close all the time"
    raise Conflict(msg)


def list_versions(database: Database, project: str) -> list[DatasetVersionView]:
    """Return every dataset version, the oldest first."""
    with database.transaction() as session:
        require_project(session, project)
        rows = session.scalars(
            select(DatasetVersionRow)
            .where(DatasetVersionRow.project == project)
            .order_by(DatasetVersionRow.version)
        )
        return [_view(row) for row in rows]


def get_version(database: Database, project: str, version: int) -> DatasetVersionView:
    """Return one dataset version.

    Raises:
        UnknownVersion: the project has no such version.
    """
    with database.transaction() as session:
        require_project(session, project)
        row = session.get(DatasetVersionRow, (project, version))
        if row is None:
            msg = f"unknown dataset version: {version} of project {project!r}"
            raise UnknownVersion(msg)
        return _view(row)


def get_manifest(
    database: Database, store: ObjectStore, project: str, version: int
) -> DatasetManifest:
    """Return the content of a dataset version."""
    key = get_version(database, project, version).manifest_key
    return DatasetManifest.model_validate_json(store.get(key))


def _check_labels(request: DatasetVersionCreate) -> None:
    seen: set[str] = set()
    for label in request.labels:
        if label.image_id in seen:
            msg = f"image labelled twice: {label.image_id!r}"
            raise BadRequest(msg)
        seen.add(label.image_id)


def _of_round(session: Session, project: str, round_id: str) -> DatasetVersionRow | None:
    return session.scalars(
        select(DatasetVersionRow).where(
            DatasetVersionRow.project == project, DatasetVersionRow.round_id == round_id
        )
    ).one_or_none()


def _base(session: Session, project: str, request: DatasetVersionCreate) -> _Base:
    row = require_project(session, project)
    parent = session.scalars(
        select(DatasetVersionRow)
        .where(DatasetVersionRow.project == project)
        .order_by(DatasetVersionRow.version.desc())
        .limit(1)
    ).one_or_none()
    images: dict[str, ImageRow] = {}
    for ids in chunks([label.image_id for label in request.labels]):
        found = session.scalars(
            select(ImageRow).where(
                ImageRow.project == project, ImageRow.id.in_(ids), ImageRow.split.is_not(None)
            )
        )
        images |= {image.id: image for image in found}
    return _Base(tuple(row.classes), parent, images)


def _items_of_parent(
    store: ObjectStore, parent: DatasetVersionRow | None
) -> tuple[ManifestItem, ...]:
    if parent is None:
        return ()
    return DatasetManifest.model_validate_json(store.get(parent.manifest_key)).items


def _manifest(
    project: str, base: _Base, before: Sequence[ManifestItem], request: DatasetVersionCreate
) -> DatasetManifest:
    items = {item.image_id: item for item in before}
    for label in request.labels:
        items[label.image_id] = _item(base, label)
    ordered = tuple(items[image_id] for image_id in sorted(items))
    return DatasetManifest(project=project, classes=base.classes, items=ordered)


def _item(base: _Base, label: LabelledImage) -> ManifestItem:
    row = base.images.get(label.image_id)
    if row is None:
        msg = f"unknown image: {label.image_id!r}"
        raise UnknownImage(msg)
    annotations = tuple(_annotation(a, base, label) for a in label.annotations)
    return ManifestItem.model_validate(
        {
            "image_id": row.id,
            "name": row.name,
            "key": row.key,
            "width": row.width,
            "height": row.height,
            "split": row.split,
            "annotations": annotations,
        }
    )


def _annotation(annotation: Annotation, base: _Base, label: LabelledImage) -> Annotation:
    if annotation.class_id >= len(base.classes):
        msg = f"unknown class {annotation.class_id} on image {label.image_id!r}"
        raise BadRequest(f"{msg}: the project has {len(base.classes)}")
    return annotation.model_copy(update={"xyxy": rounded(annotation.xyxy)})


def version_row(
    round_id: str, parent: DatasetVersionRow | None, manifest: DatasetManifest
) -> DatasetVersionRow:
    """Return the row, not yet inserted, of the version after `parent`."""
    content_hash = manifest.content_hash()
    n_images: dict[str, int] = dict.fromkeys(SPLITS, 0)
    n_boxes: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for item in manifest.items:
        n_images[item.split] += 1
        n_boxes[item.split] += len(item.annotations)
    return DatasetVersionRow(
        project=manifest.project,
        version=1 if parent is None else parent.version + 1,
        content_hash=content_hash,
        parent=None if parent is None else parent.version,
        round_id=round_id,
        manifest_key=f"projects/{manifest.project}/versions/{content_hash}.json",
        n_images=n_images,
        n_boxes=n_boxes,
    )


def put_manifest(store: ObjectStore, key: str, manifest: DatasetManifest) -> None:
    """Store a version's content, unless it is there: equal content has an equal key."""
    if not store.exists(key):
        store.put(key, manifest.model_dump_json().encode(), "application/json")


def mark_labelled(session: Session, project: str, image_ids: Sequence[str]) -> None:
    """Note that images have labels in the newest version."""
    for ids in chunks(image_ids):
        session.execute(
            update(ImageRow)
            .where(ImageRow.project == project, ImageRow.id.in_(ids))
            .values(labelled=True)
        )


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield ids in pieces that fit one SQL statement."""
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _view(row: DatasetVersionRow) -> DatasetVersionView:
    columns = DatasetVersionView.model_fields
    return DatasetVersionView.model_validate({name: getattr(row, name) for name in columns})
