"""Groups of near-duplicates, as callers see them."""

from itertools import groupby

from sqlalchemy import func, select

from data_service.app.models.tables import ImageRow
from data_service.app.services.images import image_view
from data_service.app.services.projects import require_project
from shared.database import Database
from shared.models.search import DuplicateGroup, DuplicateGroups


def list_groups(
    database: Database, project: str, cursor: str | None, limit: int
) -> DuplicateGroups:
    """Return one page of groups in the order of their names, each with all of its images.

    Raises:
        UnknownProject: there is none of that name.
    """
    group = ImageRow.duplicate_group
    whole = (ImageRow.project == project, ImageRow.split.is_not(None), group.is_not(None))
    names = select(group).where(*whole).group_by(group).having(func.count() > 1)
    if cursor is not None:
        names = names.where(group > cursor)
    with database.transaction() as session:
        require_project(session, project)
        found = session.scalars(names.order_by(group).limit(limit + 1)).all()
        rows = session.scalars(
            select(ImageRow).where(*whole, group.in_(found[:limit])).order_by(group, ImageRow.id)
        ).all()
    groups = []
    for name, members in groupby(rows, key=lambda row: row.duplicate_group):
        images = tuple(image_view(row) for row in members)
        crosses = len({image.split for image in images}) > 1
        groups.append(DuplicateGroup(name=name or "", images=images, crosses=crosses))
    return DuplicateGroups(
        groups=tuple(groups), next_cursor=found[limit - 1] if len(found) > limit else None
    )
