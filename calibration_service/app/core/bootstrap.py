"""How sure a difference between two models is: paired bootstrap over images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calibration_service.app.core.boxes import EvidenceImage, FloatArray
from calibration_service.app.core.metrics import (
    ClassEvidence,
    average_precision,
    by_class,
    matched,
)


@dataclass(frozen=True)
class Interval:
    """A difference of average precision, with its 95 % interval; NaN where it is undefined."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """First minus second model, at IoU 0.5: over classes, and class by class."""

    map50: Interval
    per_class: tuple[Interval, ...]


def compare(
    first: Sequence[EvidenceImage],
    second: Sequence[EvidenceImage],
    n_classes: int,
    progress: Callable[[float], None],
    n_resamples: int = 1000,
) -> Comparison:
    """Return how much better `first` is than `second`, and how sure that is.

    Every resample draws the images anew, with replacement, and both models see the same draw.

    Args:
        first: K images with one model's detections.
        second: the same K images with the other's, in the same order.
        n_classes: of the class map.
        progress: told the share that is done.
        n_resamples: of the bootstrap, seeded.

    Raises:
        ValueError: the images differ, or there are none.

    Source:
        Percentile bootstrap, Efron and Tibshirani 1993, chapter 13.
    """
    if not first or [i.image_id for i in first] != [i.image_id for i in second]:
        msg = f"both models need the same images: {len(first)} and {len(second)}"
        raise ValueError(msg)
    evidence = list(zip(_evidence(first, n_classes), _evidence(second, n_classes), strict=True))

    def difference(weights: FloatArray) -> FloatArray:
        rows = [
            average_precision(a, weights)[0] - average_precision(b, weights)[0] for a, b in evidence
        ]
        return np.array(rows)

    rng = np.random.default_rng(0)
    k = len(first)
    samples = np.full((n_resamples, n_classes), np.nan)
    for n in range(n_resamples):
        samples[n] = difference(np.bincount(rng.integers(0, k, k), minlength=k).astype(float))
        progress((n + 1) / n_resamples)
    points = difference(np.ones(k))
    return Comparison(
        map50=_interval(float(_mean(points[None])[0]), _mean(samples)),
        per_class=tuple(_interval(float(p), samples[:, c]) for c, p in enumerate(points)),
    )


def _evidence(images: Sequence[EvidenceImage], n_classes: int) -> list[ClassEvidence]:
    return by_class(matched(images, n_classes), n_classes)


def _mean(rows: FloatArray) -> FloatArray:
    """Return each row's mean over the classes that have objects in its draw."""
    there = ~np.isnan(rows)
    total: FloatArray = np.where(there, rows, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return total


def _interval(point: float, samples: FloatArray) -> Interval:
    there = samples[~np.isnan(samples)]
    if not len(there):
        return Interval(point, float("nan"), float("nan"))
    low, high = np.percentile(there, [2.5, 97.5])
    return Interval(point, float(low), float(high))
