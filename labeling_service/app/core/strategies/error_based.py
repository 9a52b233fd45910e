"""Error-based sampling: images whose boxes are likely to be wrong, in class and place together."""

import numpy as np

from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.pool import FloatArray
from labeling_service.app.core.strategies.ranking import BoxMeasure, Ranking
from shared.models.strategies import ErrorBasedStrategy, Weighting
from shared.predictions import ScoredImage

CLASS_SHARE = 0.6  # xi of the source


def expected_errors(image: ScoredImage) -> FloatArray:
    """Return how wrong each box is expected to be, shape (N,), in [0, 1].

    With p the probability of its most likely class, background included, and l its localisation
    spread, 1 minus the mean IoU with itself over the passes, it is 1 - p^0.6 * (1 - l)^0.4. A box
    that the model is sure to be background is expected to be no error.

    Source:
        The quality of a box in Yang et al. 2022, PPAL (arXiv:2211.11612), there of the label's
        class and the IoU with the label while training. Here both are what the model expects of
        itself: p is the chance that its best guess is right, as in least-confident sampling, and
        1 - l the localisation stability of Kao et al. 2018 (arXiv:1801.05124).
    """
    quality = image.certainty**CLASS_SHARE * (1 - image.localisation) ** (1 - CLASS_SHARE)
    return np.asarray(1 - quality, np.float32)


def error_based(strategy: ErrorBasedStrategy, classes: Classes) -> Ranking:
    """Return the ranking by expected errors; `class_weighted` weighs by rarity."""
    weight_by: Weighting | None = "rarity" if strategy.aggregation == "class_weighted" else None
    return Ranking(BoxMeasure("expected errors", "", expected_errors), strategy, classes, weight_by)
