"""Copies of projects: the same images and splits, to start again from the labels of a version."""

from pathlib import PurePosixPath

from sqlalchemy import false, insert, literal, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from data_service.app.models.tables import DatasetVersionRow, ImageRow, ProjectRow
from data_service.app.services.images import ground_truth_key, ground_truth_prefix, hide_labels
from data_service.app.services.projects import ProjectExists, get_project, require_project
from data_service.app.services.versions import (
    UnknownVersion,
    mark_labelled,
    put_manifest,
    version_row,
)
from shared.database import Database
from shared.models.data import DatasetManifest, ProjectCopy, ProjectView
from shared.objects.port import ObjectStore

# What made the first version of a copy, where others name a round or an ingestion.
COPY = "copy"


def copy_project(
    database: Database, store: ObjectStore, source: str, request: ProjectCopy
) -> ProjectView:
    """Make a project with the images, splits, classes and hidden labels of another.

    Its first version holds the labels of one version of the source; nothing else is labelled. The
    stored images are shared. Objects are written before the rows, and all rows in one transaction:
    a copy that was killed is not there, and asking again makes it.

    Raises:
        UnknownProject: no project has the source's name.
        UnknownVersion: the source has no such version.
        ProjectExists: the copy's name is taken.
    """
    with database.transaction() as session:
        require_project(session, source)
        start = _start(session, source, request.dataset_version)
        if session.get(ProjectRow, request.name) is not None:
            raise _exists(request.name)
    manifest = _manifest(store, start, request)
    _copy_ground_truth(store, source, request.name)
    if request.hide_labels:
        manifest = _without_train_labels(store, manifest)
    version = version_row(COPY, None, manifest) if manifest.items else None
    if version is not None:
        put_manifest(store, version.manifest_key, manifest)
    try:
        with database.transaction() as session:
            _insert(session, require_project(session, source), manifest, version)
    except IntegrityError as exc:
        raise _exists(request.name) from exc
    return get_project(database, request.name)


def _start(session: Session, project: str, number: int | None) -> DatasetVersionRow | None:
    query = select(DatasetVersionRow).where(DatasetVersionRow.project == project)
    if number is not None:
        query = query.where(DatasetVersionRow.version == number)
    row = session.scalars(query.order_by(DatasetVersionRow.version).limit(1)).one_or_none()
    if row is None and number is not None:
        msg = f"unknown dataset version: {number} of project {project!r}"
        raise UnknownVersion(msg)
    return row


def _manifest(
    store: ObjectStore, start: DatasetVersionRow | None, request: ProjectCopy
) -> DatasetManifest:
    if start is None:
        return DatasetManifest(project=request.name, classes=(), items=())
    manifest = DatasetManifest.model_validate_json(store.get(start.manifest_key))
    return manifest.model_copy(update={"project": request.name})


def _without_train_labels(store: ObjectStore, manifest: DatasetManifest) -> DatasetManifest:
    for item in manifest.items:
        if item.split == "train":
            hide_labels(store, manifest.project, item.image_id, item.annotations)
    held_out = tuple(item for item in manifest.items if item.split != "train")
    return manifest.model_copy(update={"items": held_out})


def _copy_ground_truth(store: ObjectStore, source: str, target: str) -> None:
    for key in store.list(ground_truth_prefix(source)):
        image_id = PurePosixPath(key).stem
        store.put(ground_truth_key(target, image_id), store.get(key), "application/json")


def _insert(
    session: Session,
    source: ProjectRow,
    manifest: DatasetManifest,
    version: DatasetVersionRow | None,
) -> None:
    name = manifest.project
    columns = ("classes", "val", "gate", "test", "seed")
    session.add(ProjectRow(name=name, **{c: getattr(source, c) for c in columns}))
    session.flush()
    changed = {"project": literal(name), "labelled": false()}
    table = ImageRow.__table__.columns
    rows = select(*(changed.get(c.name, c) for c in table)).where(
        ImageRow.project == source.name, ImageRow.split.is_not(None)
    )
    session.execute(insert(ImageRow).from_select([c.name for c in table], rows))
    if version is not None:
        session.add(version)
        mark_labelled(session, name, [item.image_id for item in manifest.items])


def _exists(name: str) -> ProjectExists:
    return ProjectExists(f"project exists already: {name!r}")
