"""Uncertainty of each box, by Baal's heuristics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Uncertainty:
    """Of N boxes, each of shape (N,); unsure is high entropy and BALD, in nats, and low margin."""

    entropy: FloatArray
    margin: FloatArray
    bald: FloatArray


def uncertainty(class_probabilities: FloatArray) -> Uncertainty:
    """Return the uncertainty of each box.

    Args:
        class_probabilities: shape (N, C + 1, T), background last; sums to 1 over axis 1 (Baal
            applies a softmax, silently, to anything that does not).

    Source:
        baal.active.heuristics.Entropy, Margin and BALD.
    """
    if len(class_probabilities) == 0:
        none = np.zeros(0, dtype=np.float32)
        return Uncertainty(none, none, none)
    from shared.baal_env import BALD, Entropy, Margin

    given = class_probabilities.astype(np.float64)
    entropy, margin, bald = (
        np.asarray(heuristic().get_uncertainties(given), dtype=np.float32)
        for heuristic in (Entropy, Margin, BALD)
    )
    return Uncertainty(entropy, margin, bald)
