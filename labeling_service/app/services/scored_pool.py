"""The prediction shards as selection needs them: read once, one image at a time, kept in short."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from labeling_service.app.core.strategies.expectation import expected
from labeling_service.app.core.strategies.needs import Needs
from labeling_service.app.core.strategies.pool import Acquisition, FloatArray, Pool
from labeling_service.app.core.strategies.strata import Strata
from shared.models.geometry import Detection, Xyxy
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shard, scored_keys

# Embeddings of so many images are held at once, a gigabyte of 256 numbers each.
MAX_EMBEDDED = 1_000_000
NOTHING = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class PoolReading:
    """The pool, and what of it is left out.

    Attributes:
        pool: the images to choose from.
        n_unscored: how many no shard has.
        unusable: ids of those whose scores or embedding have a value that is not finite.
        n_unsampled: how many were scored, but are more than are held at once.
    """

    pool: Pool
    n_unscored: int = 0
    unusable: tuple[str, ...] = ()
    n_unsampled: int = 0


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
    needs: Needs,
    *,
    room: int = MAX_EMBEDDED,
    seed: int = 0,
) -> PoolReading:
    """Return the pool as a strategy needs it.

    Of each image only its summary, embedding and number of expected boxes are kept, in arrays made
    once: beside them there is never more than one image in memory. Of a larger pool than `room`
    embeddings are kept of a sample, as even as can be over what is expected in the images: strata
    are the sets of classes.

    Args:
        images: everything that was scored; of an image that comes twice the last counts.
        groups: duplicate groups of the images to choose from, by id.
        acquisition: makes the summaries.
        needs: whether the embeddings of these images are kept, and those of all others.
        room: for the embeddings of so many of them.
        seed: of the sample.

    Raises:
        ValueError: embeddings or summaries have different lengths; an image is named.
    """
    table = _Table(groups, with_embeddings=needs.embeddings, room=room, seed=seed)
    others: dict[str, FloatArray] = {}
    for image in images:
        if image.image_id in groups:
            table.put(image, acquisition.summarise(image))
        elif needs.labelled and np.isfinite(image.embedding).all():
            others[image.image_id] = image.embedding
    labelled = np.stack([others[i] for i in sorted(others)]) if others else NOTHING
    return table.reading(labelled)


class _Table:
    """One row an image that is kept: of all in the order of the ids, of a sample as they come."""

    def __init__(
        self, groups: Mapping[str, str | None], *, with_embeddings: bool, room: int, seed: int
    ) -> None:
        self._groups = groups
        self._with_embeddings = with_embeddings
        self._ids = sorted(groups)
        self._ranks = {image_id: rank for rank, image_id in enumerate(self._ids)}
        n = min(len(groups), room) if with_embeddings else len(groups)
        self._strata = Strata(n, seed) if n < len(groups) else None
        self._n_sampled = 0
        self._seen = np.zeros(len(self._ids), np.bool_)
        # Of each rank; -1 where it has none.
        self._rows = np.full(len(self._ids), -1, np.int64)
        self._embeddings = self._summaries = NOTHING
        self._expected = np.zeros(n, np.int64)
        self._usable = np.zeros(n, np.bool_)

    def put(self, image: ScoredImage, summary: FloatArray) -> None:
        embedding = image.embedding if self._with_embeddings else image.embedding[:0]
        if self._summaries is NOTHING:
            self._embeddings = np.zeros((len(self._expected), len(embedding)), np.float32)
            self._summaries = np.zeros((len(self._expected), len(summary)), np.float32)
        rank = self._ranks[image.image_id]
        if not self._seen[rank]:
            self._seen[rank] = True
            self._rows[rank] = self._row_for(image, rank)
        row = int(self._rows[rank])
        if row < 0:
            return
        _put(self._embeddings, row, embedding, f"embedding of image {image.image_id}")
        _put(self._summaries, row, summary, f"summary of image {image.image_id}")
        self._expected[row] = np.count_nonzero(expected(image))
        self._usable[row] = all(
            np.isfinite(values).all() for values in (image.embedding, image.class_scores, summary)
        )

    def _row_for(self, image: ScoredImage, rank: int) -> int:
        """Return a free row, or that of an image which leaves for this one, or -1."""
        if self._strata is None:
            return rank
        left = self._strata.offer(image.image_id, _expected_classes(image))
        if left is None:
            self._n_sampled += 1
            return self._n_sampled - 1
        if left == image.image_id:
            return -1
        row = int(self._rows[self._ranks[left]])
        self._rows[self._ranks[left]] = -1
        return row

    def reading(self, labelled: FloatArray) -> PoolReading:
        ranks = np.flatnonzero(self._rows >= 0)
        usable = self._usable[self._rows[ranks]]
        rows = self._rows[ranks[usable]]
        whole = self._strata is None and len(rows) == len(self._ids)
        ids = [self._ids[rank] for rank in ranks[usable]]
        pool = Pool(
            ids=ids,
            groups=[self._groups[i] for i in ids],
            embeddings=self._embeddings if whole else self._embeddings[rows],
            summaries=self._summaries if whole else self._summaries[rows],
            expected_boxes=self._expected[rows],
            labelled=labelled if len(labelled) else self._embeddings[:0],
        )
        return PoolReading(
            pool,
            n_unscored=int(np.count_nonzero(~self._seen)),
            unusable=tuple(self._ids[rank] for rank in ranks[~usable]),
            n_unsampled=int(np.count_nonzero(self._seen & (self._rows < 0))),
        )


def _expected_classes(image: ScoredImage) -> frozenset[int]:
    scores = image.class_scores[expected(image)]
    return frozenset(scores.argmax(axis=1).tolist())


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
