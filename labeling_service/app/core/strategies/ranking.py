"""Ranking images by a measure of their boxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from labeling_service.app.core.strategies.aggregation import (
    MIN_SCORE,
    aggregate,
    by_value,
    counted,
    over_boxes,
)
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from shared.models.strategies import BoxAggregation, Weighting
from shared.predictions import ScoredImage


@dataclass(frozen=True)
class BoxMeasure:
    """One measure of boxes, turned so that high is worth a label.

    Attributes:
        label: its name in words.
        unit: behind its values, with the space before it.
        values: of an image's N boxes, shape (N,), at least 0.
    """

    label: str
    unit: str
    values: Callable[[ScoredImage], FloatArray]


class Ranking:
    """The images with the largest values first, the value being aggregated over boxes."""

    def __init__(
        self,
        measure: BoxMeasure,
        how: BoxAggregation,
        classes: Classes,
        weight_by: Weighting | None = None,
    ) -> None:
        """Multiply the value of each box by the expected weight of its class, if asked for."""
        self._measure = measure
        self._how = how
        self._classes = classes
        self._weights = None if weight_by is None else classes.weights(weight_by)

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return the value, how many boxes it comes from, and the class that gives most of it."""
        mask = counted(image)
        values, top = self._measure.values(image)[mask], 0
        if self._weights is not None:
            parts = values[:, None] * self._classes.shares(image)[mask] * self._weights
            values, top = parts.sum(axis=1), int(parts.sum(axis=0).argmax())
        return np.array([aggregate(values, self._how), len(values), top], np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield the largest values first, ties by image id."""
        del n, seed
        for row in by_value(pool.summaries[:, 0]):
            yield self.choice(pool, row)

    def choice(self, pool: Pool, row: int) -> Choice:
        """Return one image as it is chosen for its own value."""
        value, n_boxes, top = pool.summaries[row].tolist()
        said = f"{self._measure.label} {value:.3f}"
        if n_boxes == 0:
            return Choice(row, value, f"{said}: no box scores above {MIN_SCORE}")
        said = f"{said}{self._measure.unit}, {over_boxes(self._how, int(n_boxes))}"
        if self._weights is not None:
            name, weight = self._classes.names[int(top)], self._weights[int(top)]
            said = f"{said}, most of it for {name!r} (weight {weight:.2f})"
        return Choice(row, value, said)
