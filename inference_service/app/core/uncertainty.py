"""Uncertainty of each box: Baal's heuristics on its classes, and how much its place moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Uncertainty:
    """Of N boxes, each of shape (N,).

    With p the distribution over C classes and background of each of T passes, and m its mean:

    Attributes:
        entropy: of m, in nats, in [0, ln(C + 1)]; high is unsure.
        margin: largest minus second largest of m, in [0, 1]; low is unsure.
        certainty: largest of m, in [1 / (C + 1), 1]; low is unsure ("least confident").
        bald: entropy of m minus mean entropy of p, in nats; high is unsure.
        variance: of p over the passes, mean over the C + 1 entries, in [0, 1/4]; high is unsure.
    """

    entropy: FloatArray
    margin: FloatArray
    certainty: FloatArray
    bald: FloatArray
    variance: FloatArray


def uncertainty(class_probabilities: FloatArray) -> Uncertainty:
    """Return the uncertainty of each box's class.

    Args:
        class_probabilities: shape (N, C + 1, T), background last; sums to 1 over axis 1 (Baal
            applies a softmax, silently, to anything that does not).

    Source:
        baal.active.heuristics.Entropy, Margin, Certainty, BALD and Variance, each with Baal's own
        direction. BALD: Houlsby et al. 2011 (arXiv:1112.5745), with dropout as in Gal et al. 2017
        (arXiv:1703.02910). The others: Settles 2009, Active Learning Literature Survey, section 3.
    """
    if len(class_probabilities) == 0:
        none = np.zeros(0, dtype=np.float32)
        return Uncertainty(none, none, none, none, none)
    from shared.baal_env import BALD, Certainty, Entropy, Margin, Variance

    given = class_probabilities.astype(np.float64)

    def by(heuristic: Any) -> FloatArray:
        return np.asarray(heuristic.get_uncertainties(given), dtype=np.float32)

    return Uncertainty(
        entropy=by(Entropy()),
        margin=by(Margin()),
        certainty=by(Certainty()),
        # Rounding makes it -1e-16 where all passes agree.
        bald=by(BALD()).clip(min=0),
        variance=by(Variance()),
    )


def localisation(xyxy: FloatArray, pass_xyxy: FloatArray) -> FloatArray:
    """Return how far each box moves between the passes: 1 minus the mean IoU with its own passes.

    Args:
        xyxy: shape (N, 4), the boxes of the pass without dropout; none is degenerate.
        pass_xyxy: shape (N, 4, T), the same boxes in T passes with dropout.

    Returns:
        Shape (N,), in [0, 1]; 0 where every pass says the same box, high is unsure.

    Source:
        Localisation stability, Kao et al. 2018 (arXiv:1801.05124), with dropout passes in place of
        their noisy images, and per box in place of their mean weighted by scores.
    """
    spread: FloatArray = 1 - iou(xyxy[:, :, None], pass_xyxy).mean(axis=-1)
    return spread.clip(0, 1).astype(np.float32)


def iou(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes whose xyxy lies on axis 1; the rest broadcasts.

    Shapes (N, 4, 1) and (N, 4, T) give (N, T). A degenerate box has IoU 0 with every whole one.
    """
    corner, opposite = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    shared = (opposite - corner).clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    overlap: FloatArray = shared / (areas[0] + areas[1] - shared)
    return overlap
