"""The vector index that is derived from the shards: images, and their best boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference_service.app.models.schemas import ReindexResult
from inference_service.app.services.stored import StoredPredictions
from shared.predictions import ScoredImage, read_shard
from shared.vectors.port import Neighbour, VectorRecord, VectorStore


@dataclass(frozen=True)
class IndexedBox:
    """A box as the index knows it: number `box` of those that an image has."""

    image_id: str
    box: int

    def __str__(self) -> str:
        """Return its id."""
        return f"{self.image_id}/{self.box}"

    @classmethod
    def of(cls, neighbour: Neighbour) -> "IndexedBox":
        """Return the box that was found."""
        image_id, _, box = neighbour.id.partition("/")
        return cls(image_id, int(box))


def namespace(project: str, model_version: int | None) -> str:
    """Return the namespace of a model version's images; None is the base model's."""
    return f"{project}-v{model_version or 0}"


def box_namespace(project: str, model_version: int) -> str:
    """Return the namespace of the boxes that a model version found."""
    return f"{namespace(project, model_version)}-boxes"


@dataclass(frozen=True)
class Index:
    """Writes the index; what it holds follows from the shards alone."""

    vectors: VectorStore

    def add(self, project: str, version: int | None, images: Sequence[ScoredImage]) -> None:
        """Put scored images and their boxes in, in place of those of the same number.

        Raises:
            BackendUnavailable: the vector store does not answer.
        """
        records = [_image_record(scored) for scored in images]
        self.vectors.upsert(namespace(project, version), records)
        boxes = [record for scored in images for record in _box_records(scored)]
        if boxes:
            self.vectors.upsert(box_namespace(project, version or 0), boxes)

    def rebuild(
        self, project: str, stored: StoredPredictions, progress: Callable[[float, str], None]
    ) -> ReindexResult:
        """Make the index of every version of a project that has shards anew.

        Raises:
            BackendUnavailable: a store does not answer.
        """
        by_version = stored.shards(project)
        n_keys, n_done, n_vectors = sum(map(len, by_version.values())), 0, 0
        for version, keys in sorted(by_version.items()):
            self.vectors.drop(namespace(project, version))
            self.vectors.drop(box_namespace(project, version))
            for key in keys:
                images = list(read_shard(stored.store, key))
                self.add(project, version, images)
                n_done, n_vectors = n_done + 1, n_vectors + len(images)
                progress(n_done / n_keys, f"{n_vectors} images of {n_done} shards")
        return ReindexResult(project=project, n_versions=len(by_version), n_vectors=n_vectors)


def _image_record(scored: ScoredImage) -> VectorRecord:
    """Return the entry of a scored image."""
    return VectorRecord(scored.image_id, scored.embedding, {"split": scored.split})


def _box_records(scored: ScoredImage) -> list[VectorRecord]:
    """Return the entries of those of its boxes that have an embedding."""
    classes, scores = scored.class_ids.tolist(), scored.scores.tolist()
    return [
        VectorRecord(
            str(IndexedBox(scored.image_id, n)),
            embedding.astype(np.float32),
            {
                "split": scored.split,
                "class_id": classes[n],
                "score": scores[n],
                **dict(zip(("x1", "y1", "x2", "y2"), scored.xyxy[n].tolist(), strict=True)),
            },
        )
        for n, embedding in enumerate(scored.box_embeddings)
    ]
