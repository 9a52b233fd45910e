"""What the shards say about stored images, and the index that is derived from them."""

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq

from inference_service.app.models.schemas import ReindexResult, SimilarImage
from inference_service.app.services.scoring import namespace, vector_record
from shared.errors import NotFound
from shared.models.registry import ImagePredictions, ScoredBox
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shard, shard_prefix
from shared.vectors.port import VectorStore


class NotScored(NotFound):
    """This model version did not score this image."""


@dataclass(frozen=True)
class StoredPredictions:
    """Reads shards; remembers which images a shard holds, since its key says which they are."""

    store: ObjectStore
    vectors: VectorStore
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

    def similar(self, project: str, version: int, image_id: str, k: int) -> list[SimilarImage]:
        """Return the k stored images nearest to one, without itself.

        Raises:
            NotScored: the version did not score it.
        """
        embedding = self.find(project, version, image_id).embedding
        found = self.vectors.query(namespace(project, version), embedding, k + 1)
        return [
            SimilarImage(
                image_id=n.id, distance=max(n.distance, 0.0), split=str(n.metadata["split"])
            )
            for n in found
            if n.id != image_id
        ][:k]

    def reindex(self, project: str, progress: Callable[[float, str], None]) -> ReindexResult:
        """Rebuild the index of every version of a project that has shards."""
        prefix = f"projects/{project}/predictions/"
        by_version: dict[int, list[str]] = {}
        for key in self.store.list(prefix):
            if match := re.match(r"v(\d+)/", key.removeprefix(prefix)):
                by_version.setdefault(int(match[1]), []).append(key)
        n_keys, n_done, n_vectors = sum(map(len, by_version.values())), 0, 0
        for version, keys in sorted(by_version.items()):
            self.vectors.drop(namespace(project, version))
            for key in keys:
                records = [vector_record(s) for s in read_shard(self.store, key)]
                self.vectors.upsert(namespace(project, version), records)
                n_done, n_vectors = n_done + 1, n_vectors + len(records)
                progress(n_done / n_keys, f"{n_vectors} vectors of {n_done} shards")
        return ReindexResult(project=project, n_versions=len(by_version), n_vectors=n_vectors)

    def _ids_of(self, key: str) -> frozenset[str]:
        with self._lock:
            if key in self._ids:
                return self._ids[key]
        table = pq.read_table(io.BytesIO(self.store.get(key)), columns=["image_id"])
        ids = frozenset(table["image_id"].to_pylist())
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
