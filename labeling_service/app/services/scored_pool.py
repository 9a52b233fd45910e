"""The prediction shards as selection needs them: read once, one image at a time, kept in short."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from labeling_service.app.core.strategies.expectation import expected
from labeling_service.app.core.strategies.pool import Acquisition, FloatArray, Pool
from shared.models.geometry import Detection, Xyxy
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shard, scored_keys

NOTHING = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class PoolReading:
    """The pool, and what of it is left out.

    Attributes:
        pool: the images to choose from.
        n_unscored: how many no shard has.
        unusable: ids of those whose scores or embedding have a value that is not finite.
    """

    pool: Pool
    n_unscored: int = 0
    unusable: tuple[str, ...] = ()


def unread(groups: Mapping[str, str | None]) -> PoolReading:
    """Return the pool of these images, of which nothing but id and duplicate group is known."""
    ids = sorted(groups)
    nothing = np.zeros((len(ids), 0), np.float32)
    no_boxes = np.zeros(len(ids), np.int64)
    return PoolReading(
        Pool(ids, [groups[i] for i in ids], nothing, nothing, no_boxes, labelled=NOTHING)
    )


def read_pool(
    images: Iterable[ScoredImage],
    groups: Mapping[str, str | None],
    acquisition: Acquisition,
    *,
    with_labelled: bool,
) -> PoolReading:
    """Return the pool as a strategy needs it.

    Of each image only its summary, embedding and number of expected boxes are kept, in arrays made
    once: beside them there is never more than one image in memory.

    Args:
        images: everything that was scored; of an image that comes twice the last counts.
        groups: duplicate groups of the images to choose from, by id.
        acquisition: makes the summaries.
        with_labelled: keep the embeddings of all other images.

    Raises:
        ValueError: embeddings or summaries have different lengths; an image is named.
    """
    table = _Table(groups)
    others: dict[str, FloatArray] = {}
    for image in images:
        if image.image_id in groups:
            table.put(image, acquisition.summarise(image))
        elif with_labelled and np.isfinite(image.embedding).all():
            others[image.image_id] = image.embedding
    labelled = np.stack([others[i] for i in sorted(others)]) if others else NOTHING
    return table.reading(labelled)


class _Table:
    """One row an image, in the order of the ids."""

    def __init__(self, groups: Mapping[str, str | None]) -> None:
        self._groups = groups
        self._ids = sorted(groups)
        self._rows = {image_id: row for row, image_id in enumerate(self._ids)}
        self._embeddings = self._summaries = NOTHING
        self._expected = np.zeros(len(self._ids), np.int64)
        self._seen = np.zeros(len(self._ids), np.bool_)
        self._usable = np.zeros(len(self._ids), np.bool_)

    def put(self, image: ScoredImage, summary: FloatArray) -> None:
        if self._embeddings is NOTHING:
            self._embeddings = np.zeros((len(self._ids), len(image.embedding)), np.float32)
            self._summaries = np.zeros((len(self._ids), len(summary)), np.float32)
        row = self._rows[image.image_id]
        _put(self._embeddings, row, image.embedding, f"embedding of image {image.image_id}")
        _put(self._summaries, row, summary, f"summary of image {image.image_id}")
        self._expected[row] = np.count_nonzero(expected(image))
        self._seen[row] = True
        self._usable[row] = all(
            np.isfinite(values).all() for values in (image.embedding, image.class_scores, summary)
        )

    def reading(self, labelled: FloatArray) -> PoolReading:
        kept = np.flatnonzero(self._usable)
        whole = len(kept) == len(self._ids)
        ids = [self._ids[row] for row in kept]
        pool = Pool(
            ids=ids,
            groups=[self._groups[i] for i in ids],
            embeddings=self._embeddings if whole else self._embeddings[kept],
            summaries=self._summaries if whole else self._summaries[kept],
            expected_boxes=self._expected[kept],
            labelled=labelled if len(labelled) else self._embeddings[:0],
        )
        unusable = tuple(self._ids[row] for row in np.flatnonzero(self._seen & ~self._usable))
        return PoolReading(pool, int(np.count_nonzero(~self._seen)), unusable)


def read_detections(
    store: ObjectStore, project: str, model_version: int | None, ids: Collection[str]
) -> Mapping[str, tuple[Detection, ...]]:
    """Return the boxes that an annotator starts from, of each of these images that was scored."""
    wanted = set(ids)
    keys = scored_keys(store, project, model_version)
    return {
        image.image_id: detections(image)
        for key in sorted({keys[i] for i in wanted if i in keys})
        for image in read_shard(store, key)
        if image.image_id in wanted
    }


def detections(image: ScoredImage) -> tuple[Detection, ...]:
    """Return the expected boxes of an image, the best first."""
    placed = np.isfinite(image.xyxy).all(axis=1)
    found = [
        Detection(
            class_id=int(np.argmax(image.class_scores[i])),
            xyxy=_inside(image.xyxy[i]),
            score=float(np.max(image.class_scores[i])),
            class_scores=tuple(image.class_scores[i].tolist()),
            uncertainty=float(image.bald[i]) if np.isfinite(image.bald[i]) else None,
        )
        for i in np.flatnonzero(expected(image) & placed)
    ]
    return tuple(sorted(found, key=lambda d: -d.score))


def _put(table: FloatArray, row: int, values: FloatArray, what: str) -> None:
    if values.shape != table.shape[1:]:
        msg = f"{what} has shape {values.shape}, those before have {table.shape[1:]}"
        raise ValueError(msg)
    table[row] = values


def _inside(xyxy: FloatArray) -> Xyxy:
    x1, y1, x2, y2 = (min(max(float(v), 0.0), 1.0) for v in xyxy)
    return x1, y1, x2, y2
