"""Pools whose right answer is known: images made of boxes, read as the service reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from labeling_service.app.core.strategies.build import build
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.needs import needs_of
from labeling_service.app.core.strategies.pool import Choice, Pool
from labeling_service.app.core.strategies.taking import Budget, take
from labeling_service.app.services.scored_pool import PoolReading, read_pool
from shared.models.strategies import parse_strategy
from shared.predictions import ScoredImage

NAMES = ("cat", "dog", "owl")
CLASSES = Classes(NAMES, n_labels=(9, 4, 0), ap50=(0.9, 0.5, None))


@dataclass(frozen=True)
class Box:
    """A box of class `class_id`: `shares` is what it may be if it is an object."""

    score: float = 0.5
    class_id: int = 0
    shares: tuple[float, ...] | None = None
    measures: dict[str, float] = field(default_factory=dict)

    def probabilities(self, n_classes: int) -> list[float]:
        shares = self.shares or [float(c == self.class_id) for c in range(n_classes)]
        return [*(self.score * share for share in shares), 1 - self.score]


def box(score: float = 0.5, class_id: int = 0, **measures: float) -> Box:
    return Box(score, class_id, measures=measures)


def image(
    image_id: str, *boxes: Box, at: Sequence[float] = (0.0, 0.0), n_classes: int = len(NAMES)
) -> ScoredImage:
    """Return an image with these boxes, whose embedding is `at`; two equal passes."""

    def column(name: str) -> Any:
        return np.array([b.measures.get(name, 0.0) for b in boxes], np.float32)

    chances = np.array([b.probabilities(n_classes) for b in boxes], np.float32)
    chances = chances.reshape(len(boxes), n_classes + 1)
    return ScoredImage(
        image_id=image_id,
        split="train",
        xyxy=np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (len(boxes), 1)),
        class_scores=chances[:, :-1],
        class_probabilities=np.repeat(chances[:, :, None], 2, axis=2).astype(np.float16),
        entropy=column("entropy"),
        margin=column("margin"),
        certainty=column("certainty"),
        bald=column("bald"),
        variance=column("variance"),
        localisation=column("localisation"),
        inconsistency=column("inconsistency"),
        embedding=np.array(at, np.float32),
        brightness=0.5,
        contrast=0.1,
        sharpness=1.0,
    )


def with_nan(scored: ScoredImage, *columns: str) -> ScoredImage:
    nan = {name: np.full_like(getattr(scored, name), np.nan) for name in columns}
    return replace(scored, **nan)


def read(
    text: str,
    images: Sequence[ScoredImage],
    *,
    labelled: Sequence[ScoredImage] = (),
    classes: Classes = CLASSES,
    groups: dict[str, str] | None = None,
) -> PoolReading:
    """Return the pool of `images`, as the strategy written as `text` reads it."""
    strategy = parse_strategy(text)
    pool = {i.image_id: (groups or {}).get(i.image_id) for i in images}
    return read_pool(
        [*images, *labelled],
        pool,
        build(strategy, classes),
        needs_of(strategy),
    )


def order(text: str, pool: Pool, n: int, seed: int = 0, classes: Classes = CLASSES) -> list[Choice]:
    """Return everything that the strategy would choose, the best first."""
    return list(build(parse_strategy(text), classes).order(pool, n, seed))


@dataclass(frozen=True)
class Chosen:
    """One image of a batch."""

    image_id: str
    value: float | None
    reason: str


def choose(
    text: str,
    images: Sequence[ScoredImage],
    n: int,
    *,
    labelled: Sequence[ScoredImage] = (),
    classes: Classes = CLASSES,
    groups: dict[str, str] | None = None,
    seed: int = 0,
) -> list[Chosen]:
    """Return a batch of `n` images."""
    pool = read(text, images, labelled=labelled, classes=classes, groups=groups).pool
    acquisition = build(parse_strategy(text), classes)
    budget = Budget(n)
    taken = take(acquisition.order(pool, budget.n_images(pool), seed), pool, budget)
    return [Chosen(pool.ids[c.row], c.value, c.reason) for c in taken]


def ids(chosen: Sequence[Chosen]) -> list[str]:
    return [c.image_id for c in chosen]
