"""Groups of near-duplicates within a project."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update

from data_service.app.core.phash import HashIndex
from data_service.app.models.tables import ImageRow
from shared.database import Database

_CHUNK = 500


@dataclass(frozen=True)
class HashedImage:
    """What the search needs of an image."""

    id: str
    name: str
    phash: str | None
    group: str | None
    split: str | None
    ingestion_id: str


@dataclass
class Groups:
    """Near-duplicates of a project.

    Attributes:
        images: of the project, by id.
        pairs: ids and bits of difference, each with an image that was asked for.
        group_of: the name of an image's group, where it has one.
    """

    images: dict[str, HashedImage]
    pairs: list[tuple[str, str, int]] = field(default_factory=list)
    group_of: dict[str, str] = field(default_factory=dict)


def find_groups(images: Sequence[HashedImage], asked: frozenset[str]) -> Groups:
    """Find the near-duplicates of the images asked for.

    Groups are transitive and keep their name; a new one is named by its smallest id. Of images with
    equal hashes the first stands for all, so that a thousand equal ones make a thousand pairs.
    """
    groups = Groups({image.id: image for image in images})
    union = _Union()
    index = HashIndex()
    for image in sorted(images, key=lambda i: (i.id in asked, i.id)):
        if image.group is not None:
            union.join(image.id, f"group:{image.group}")
        if image.phash is None:
            continue
        value = int(image.phash, 16)
        if image.id in asked:
            for other, distance in index.near(value):
                groups.pairs.append((other, image.id, distance))
                union.join(other, image.id)
        index.add(value, image.id)
    groups.group_of = _named(union, images)
    return groups


def load_hashed(database: Database, project: str) -> list[HashedImage]:
    """Return every image of a project as the search needs it."""
    columns = (
        ImageRow.id,
        ImageRow.name,
        ImageRow.phash,
        ImageRow.duplicate_group,
        ImageRow.split,
        ImageRow.ingestion_id,
    )
    with database.transaction() as session:
        rows = session.execute(
            select(*columns).where(ImageRow.project == project).order_by(ImageRow.id)
        )
        return [HashedImage(*row) for row in rows]


def save_groups(database: Database, project: str, groups: Groups) -> None:
    """Write the groups that changed, in small transactions."""
    changed = [
        {"project": project, "id": image_id, "duplicate_group": group}
        for image_id, group in groups.group_of.items()
        if groups.images[image_id].group != group
    ]
    for start in range(0, len(changed), _CHUNK):
        with database.transaction() as session:
            session.execute(update(ImageRow), changed[start : start + _CHUNK])


class _Union:
    """Sets that merge."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(a)] = self.root(b)

    def root(self, item: str) -> str:
        root = item
        while (parent := self._parent.setdefault(root, root)) != root:
            root = parent
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def __contains__(self, item: str) -> bool:
        return item in self._parent


def _named(union: _Union, images: Sequence[HashedImage]) -> dict[str, str]:
    members: dict[str, list[HashedImage]] = {}
    for image in images:
        if image.id in union:
            members.setdefault(union.root(image.id), []).append(image)
    named: dict[str, str] = {}
    for group in members.values():
        if len(group) > 1:
            name = min((i.group for i in group if i.group), default=min(i.id for i in group))
            named |= {image.id: name for image in group}
    return named
