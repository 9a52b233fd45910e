"""Projects and their pinned classes."""

from typing import cast

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from data_service.app.models.tables import DatasetVersionRow, ImageRow, ProjectRow
from shared.database import Database
from shared.errors import BadRequest, Conflict, NotFound
from shared.models.data import SPLITS, ProjectCreate, ProjectView, Split, SplitFractions


class UnknownProject(NotFound):
    """No project has this name."""


class ProjectExists(Conflict):
    """A project with this name is there already."""


def create_project(database: Database, project: ProjectCreate) -> ProjectView:
    """Create a project.

    Raises:
        ProjectExists: the name is taken.
        BadRequest: a class is named twice, or the held-out shares leave nothing to train on.
    """
    twice = sorted({name for name in project.classes if project.classes.count(name) > 1})
    if twice:
        msg = f"class named twice: {twice[0]!r}"
        raise BadRequest(msg)
    held_out = project.splits.val + project.splits.gate + project.splits.test
    if held_out >= 1:
        msg = f"val, gate and test together are {held_out:g}, nothing is left to train on"
        raise BadRequest(msg)
    row = ProjectRow(
        name=project.name,
        classes=list(project.classes),
        seed=project.seed,
        **project.splits.model_dump(),
    )
    try:
        with database.transaction() as session:
            session.add(row)
    except IntegrityError as exc:
        msg = f"project exists already: {project.name!r}"
        raise ProjectExists(msg) from exc
    return get_project(database, project.name)


def get_project(database: Database, name: str) -> ProjectView:
    """Return one project.

    Raises:
        UnknownProject: no project has this name.
    """
    with database.transaction() as session:
        return _view(session, require_project(session, name))


def list_projects(database: Database) -> list[ProjectView]:
    """Return every project, by name."""
    with database.transaction() as session:
        rows = session.scalars(select(ProjectRow).order_by(ProjectRow.name)).all()
        return [_view(session, row) for row in rows]


def require_project(session: Session, name: str) -> ProjectRow:
    """Return the row of a project.

    Raises:
        UnknownProject: no project has this name.
    """
    row = session.get(ProjectRow, name)
    if row is None:
        msg = f"unknown project: {name!r}"
        raise UnknownProject(msg)
    return row


def pin_classes(database: Database, name: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Pin the classes of a project that has none yet, and return those it has."""
    with database.transaction() as session:
        row = session.get(ProjectRow, name, with_for_update=True)
        if row is None:
            msg = f"unknown project: {name!r}"
            raise UnknownProject(msg)
        if not row.classes and classes:
            row.classes = list(classes)
        return tuple(row.classes)


def _view(session: Session, row: ProjectRow) -> ProjectView:
    counts = session.execute(
        select(ImageRow.split, ImageRow.labelled, func.count())
        .where(ImageRow.project == row.name, ImageRow.split.is_not(None))
        .group_by(ImageRow.split, ImageRow.labelled)
    ).all()
    n_by_split: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for split, _, count in counts:
        n_by_split[cast(Split, split)] += count
    latest = session.scalar(
        select(func.max(DatasetVersionRow.version)).where(DatasetVersionRow.project == row.name)
    )
    return ProjectView(
        name=row.name,
        classes=tuple(row.classes),
        splits=SplitFractions(val=row.val, gate=row.gate, test=row.test),
        seed=row.seed,
        created_at=row.created_at,
        n_images=sum(n_by_split.values()),
        n_by_split=n_by_split,
        n_labelled=sum(n for split, labelled, n in counts if split == "train" and labelled),
        latest_version=latest,
    )
