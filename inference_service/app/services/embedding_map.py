"""The map of a project: its images on a plane, near each other where they look alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference_service.app.core.projection import FloatArray, on_a_plane
from inference_service.app.services.stored import StoredPredictions
from shared.database import utcnow
from shared.errors import Conflict, NotFound
from shared.models.search import EmbeddingMap, MapCreate, MapPoint, MapResult
from shared.objects.port import ObjectNotFound, ObjectStore
from shared.predictions import ScoredImage, read_shard

# More dots are a blot. UMAP takes a minute for them on a small machine.
MOST_POINTS = 20_000
# Of a box that may say what an image shows.
GOOD_SCORE = 0.25

Progress = Callable[[float, str], None]


class NothingScored(Conflict):
    """Too few images of the project were scored for a map."""


class NoMap(NotFound):
    """Nobody has asked for a map of this project yet."""


@dataclass(frozen=True)
class EmbeddingMaps:
    """Makes maps and keeps the newest of each project."""

    store: ObjectStore
    stored: StoredPredictions
    cache: Path

    def make(self, project: str, request: MapCreate, progress: Progress) -> MapResult:
        """Make a project's map, in place of the one before.

        Raises:
            NothingScored: fewer than 3 of its images are scored.
        """
        progress(0.0, "reading embeddings")
        version, ids = self._images(project, request.model_version)
        # Ids are hashes: the least of them are a random sample, and the same one again.
        shown = frozenset(sorted(ids)[:MOST_POINTS])
        points, embeddings = self._points(project, version, shown)
        progress(0.3, f"laying {len(points)} images out")
        places = on_a_plane(embeddings, request.method, self.cache)
        found = EmbeddingMap(
            project=project,
            model_version=version,
            method=request.method,
            made_at=utcnow(),
            n_images=len(ids),
            points=tuple(
                p.model_copy(update={"x": round(x, 4), "y": round(y, 4)})
                for p, (x, y) in zip(points, places.tolist(), strict=True)
            ),
        )
        self.store.put(_key(project), found.model_dump_json().encode(), "application/json")
        return MapResult(
            project=project,
            model_version=version,
            method=request.method,
            n_images=len(ids),
            n_shown=len(points),
        )

    def check(self, project: str, version: int | None) -> None:
        """Find out whether a map has anything to show, before a job is made of it.

        Raises:
            NothingScored: the version (of None: any) scored no image of the project.
        """
        shards = self.stored.shards(project)
        if not shards or version not in {None, *shards}:
            raise NothingScored(_too_few(project, version or 0, 0))

    def newest(self, project: str) -> EmbeddingMap:
        """Return the newest map.

        Raises:
            NoMap: there is none.
        """
        try:
            return EmbeddingMap.model_validate_json(self.store.get(_key(project)))
        except ObjectNotFound as exc:
            msg = f"project {project!r} has no map yet: `fovea map`, or POST …/maps"
            raise NoMap(msg) from exc

    def _images(self, project: str, version: int | None) -> tuple[int, frozenset[str]]:
        """Return a version and the ids it scored; of None the version that scored most."""
        found = {v: self.stored.ids(keys) for v, keys in self.stored.shards(project).items()}
        if version is None:
            version = max(found, key=lambda v: (len(found[v]), v), default=0)
        ids = found.get(version, frozenset())
        if len(ids) < 3:
            raise NothingScored(_too_few(project, version, len(ids)))
        return version, ids

    def _points(
        self, project: str, version: int, shown: frozenset[str]
    ) -> tuple[list[MapPoint], FloatArray]:
        points: dict[str, MapPoint] = {}
        embeddings: dict[str, FloatArray] = {}
        for key in self.stored.shards(project)[version]:
            for scored in read_shard(self.store, key):
                if scored.image_id in shown:
                    points[scored.image_id] = _point(scored)
                    embeddings[scored.image_id] = scored.embedding
        if len(points) < 3:
            # Deleted, or scored again, since their ids were read.
            raise NothingScored(_too_few(project, version, len(points)))
        order = sorted(points)
        return [points[i] for i in order], np.stack([embeddings[i] for i in order])


def _point(scored: ScoredImage) -> MapPoint:
    good = len(scored.scores) > 0 and float(scored.scores[0]) >= GOOD_SCORE
    return MapPoint(
        image_id=scored.image_id,
        x=0.0,
        y=0.0,
        split=scored.split,
        class_id=int(scored.class_ids[0]) if good else None,
        uncertainty=round(float(scored.entropy.max(initial=0.0)), 4),
    )


def _too_few(project: str, version: int, n_images: int) -> str:
    images = f"images of project {project!r}"
    seen, how = f"no model has looked at {images} yet", "`fovea score`"
    if version:
        seen = f"model v{version} has looked at {n_images} {images}"
        how = f"`fovea score --model {version}`"
    elif n_images:
        seen = f"the base model has looked at {n_images} {images}"
    start = "" if version else ", or `fovea round start` as long as there is no model"
    return f"{seen}, and a map needs 3: {how}{start}"


def _key(project: str) -> str:
    return f"projects/{project}/map.json"
