"""What the shards say about stored images."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shared.errors import NotFound
from shared.models.registry import ImagePredictions, ScoredBox
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, ids_of_shard, read_shard, shard_prefix


class NotScored(NotFound):
    """This model version did not score this image."""


@dataclass(frozen=True)
class StoredPredictions:
    """Reads shards; remembers which images a shard holds, since its key says which they are."""

    store: ObjectStore
    _ids: dict[str, frozenset[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, project: str, version: int, image_id: str) -> ScoredImage:
        """Return what a version saw in an image; version 0 is the base model.

        Raises:
            NotScored: it did not score it.
        """
        for key in self.store.list(shard_prefix(project, version)):
            if image_id in self._ids_of(key):
                # Scored again, an image may have left the shard; another schema's holds none.
                here = (s for s in read_shard(self.store, key) if s.image_id == image_id)
                if found := next(here, None):
                    return found
        msg = f"image {image_id!r} was not scored by model version {version} of {project!r}"
        raise NotScored(msg)

    def version_of(self, project: str, image_id: str) -> int:
        """Return the newest version that scored an image.

        Raises:
            NotScored: none did.
        """
        for version, keys in sorted(self.shards(project).items(), reverse=True):
            if any(image_id in self._ids_of(key) for key in keys):
                return version
        msg = f"image {image_id!r} of {project!r} was not scored by any model version"
        raise NotScored(msg)

    def shards(self, project: str) -> dict[int, list[str]]:
        """Return the keys of a project's shards by model version."""
        prefix = f"projects/{project}/predictions/"
        by_version: dict[int, list[str]] = {}
        for key in self.store.list(prefix):
            if match := re.match(r"v(\d+)/", key.removeprefix(prefix)):
                by_version.setdefault(int(match[1]), []).append(key)
        return by_version

    def ids(self, keys: Sequence[str]) -> frozenset[str]:
        """Return the images of some shards."""
        return frozenset().union(*(self._ids_of(key) for key in keys))

    def _ids_of(self, key: str) -> frozenset[str]:
        with self._lock:
            if key in self._ids:
                return self._ids[key]
        ids = ids_of_shard(self.store, key)
        # One of another schema is written again under its key.
        if ids:
            with self._lock:
                self._ids[key] = ids
        return ids


def scored_view(scored: ScoredImage, version: int, min_score: float) -> ImagePredictions:
    """Return a scored image as callers see it, with its boxes of at least `min_score`."""
    boxes = (
        ScoredBox(
            class_id=int(class_id),
            xyxy=tuple(scored.xyxy[i].tolist()),
            score=float(scored.scores[i]),
            class_scores=tuple(scored.class_scores[i].tolist()),
            entropy=float(scored.entropy[i]),
            margin=float(scored.margin[i]),
            certainty=float(scored.certainty[i]),
            bald=float(scored.bald[i]),
            variance=float(scored.variance[i]),
            localisation=float(scored.localisation[i]),
            inconsistency=None
            if np.isnan(scored.inconsistency[i])
            else float(scored.inconsistency[i]),
        )
        for i, class_id in enumerate(scored.class_ids)
        if scored.scores[i] >= min_score
    )
    return ImagePredictions(
        image_id=scored.image_id,
        model_version=version,
        split=scored.split,
        detections=tuple(boxes),
        brightness=scored.brightness,
        contrast=scored.contrast,
        sharpness=scored.sharpness,
    )
