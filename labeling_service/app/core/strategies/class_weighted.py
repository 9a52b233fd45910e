"""Class-weighted entropy: uncertain boxes of rare or difficult classes; alone, or then spread."""

from collections.abc import Iterator

import numpy as np

from labeling_service.app.core.strategies.aggregation import by_value
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.pool import Choice, Distinct, FloatArray, Pool
from labeling_service.app.core.strategies.ranking import BoxMeasure, Ranking
from labeling_service.app.core.strategies.spreading import farthest_first
from shared.models.strategies import ClassWeightedStrategy
from shared.predictions import ScoredImage

# Candidates for each image of the batch, as in the source.
POOL_FACTOR = 4


def class_weighted(strategy: ClassWeightedStrategy, classes: Classes) -> "Ranking | Diverse":
    """Return the ranking by entropy times expected class weight, spread out if asked for.

    The weight of a box is the mean of the class weights (`Classes.weights`) over what the box may
    be, so that a box between a rare and a frequent class counts half for each.

    Source:
        Yang et al. 2022, PPAL (arXiv:2211.11612): entropy times class weight, summed over the
        boxes with a score above 0.05. Theirs is the weight of the best class.
    """
    measure = BoxMeasure("class-weighted entropy", " nats", lambda image: image.entropy)
    ranking = Ranking(measure, strategy, classes, strategy.weight_by)
    return Diverse(ranking) if strategy.strategy == "class_weighted_diverse" else ranking


class Diverse:
    """Of the `POOL_FACTOR` times as many most valuable images, those far from each other.

    The most valuable comes first, then always the farthest from those before (k-center on
    embeddings). Near-duplicates are no candidates: they come last.

    Source:
        The two steps are PPAL's (arXiv:2211.11612); they use k-means++ on similarities of the
        boxes of each class.
    """

    def __init__(self, ranking: Ranking) -> None:
        """Spread what `ranking` finds valuable."""
        self._ranking = ranking

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return what the ranking keeps."""
        return self._ranking.summarise(image)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the spread candidates, and after them the rest by value."""
        del seed
        distinct = Distinct(pool)
        ranked: list[int] = []
        look_alikes: list[int] = []
        for row in by_value(pool.summaries[:, 0]):
            (ranked if distinct.admit(row) else look_alikes).append(row)
        first, candidates = ranked[:1], np.array(ranked[1 : POOL_FACTOR * n], np.int64)
        for row in first:
            yield self._ranking.choice(pool, row)
        points, start = pool.embeddings[candidates], pool.embeddings[first]
        for i, distance in farthest_first(points, start, n - 1):
            choice = self._ranking.choice(pool, int(candidates[i]))
            yield choice._replace(
                reason=f"{choice.reason}; distance {distance:.3f} to the nearest chosen image"
            )
        for row in [*ranked[max(POOL_FACTOR * n, 1) :], *look_alikes]:
            yield self._ranking.choice(pool, row)
