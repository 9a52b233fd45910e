"""Uncertainty sampling: the images whose boxes the model is least sure about."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from labeling_service.app.core.strategies.candidates import Candidate, Choice, FloatArray
from shared.models.rounds import Aggregation

Measure = Literal["entropy", "margin", "bald"]

# Shards keep boxes down to 0.001: hundreds of them per image, near-uniform noise that would drown
# the boxes anybody would ever see.
MIN_SCORE = 0.05
NO_BOXES = 0.0

UNITS: dict[Measure, str] = {"entropy": " nats", "margin": "", "bald": " nats"}
LABELS: dict[Measure, str] = {"entropy": "entropy", "margin": "1 - margin", "bald": "BALD"}


def choose_uncertain(
    candidates: Sequence[Candidate], n: int, measure: Measure, aggregation: Aggregation
) -> list[Choice]:
    """Return the `n` most uncertain images, the most uncertain first, ties by image id."""
    values = {c.image_id: image_value(c, measure, aggregation) for c in candidates}
    ranked = sorted(candidates, key=lambda c: (-values[c.image_id], c.image_id))[:n]
    return [
        Choice(c.image_id, values[c.image_id], _reason(c, values[c.image_id], measure, aggregation))
        for c in ranked
    ]


def image_value(candidate: Candidate, measure: Measure, aggregation: Aggregation) -> float:
    """Return one image's uncertainty, at least 0: high is uncertain, whatever the measure.

    Only boxes with a score above `MIN_SCORE` count; an image without any has the value `NO_BOXES`.
    The margin is low where the model is uncertain, so `1 - margin` of each box counts.
    """
    values = box_values(candidate, measure)
    if len(values) == 0:
        return NO_BOXES
    if aggregation == "max":
        return float(values.max())
    return float(values.mean() if aggregation == "mean" else values.sum())


def box_values(candidate: Candidate, measure: Measure) -> FloatArray:
    """Return the uncertainty of the boxes that count, shape (M,) with M <= N; high is uncertain."""
    counted = candidate.scores > MIN_SCORE
    if measure == "margin":
        return np.asarray(1.0 - candidate.margin[counted], dtype=np.float32)
    values: FloatArray = candidate.entropy if measure == "entropy" else candidate.bald
    return values[counted]


def _reason(candidate: Candidate, value: float, measure: Measure, aggregation: Aggregation) -> str:
    n_boxes = int(np.count_nonzero(candidate.scores > MIN_SCORE))
    if n_boxes == 0:
        return f"{LABELS[measure]} {value:.3f}: no box scores above {MIN_SCORE}"
    boxes = "box" if n_boxes == 1 else "boxes"
    return f"{LABELS[measure]} {value:.3f}{UNITS[measure]}, {aggregation} over {n_boxes} {boxes}"
