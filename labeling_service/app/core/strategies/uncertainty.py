"""Uncertainty sampling: the images whose boxes the model is least sure about."""

from collections.abc import Mapping

from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.ranking import BoxMeasure, Ranking
from shared.models.strategies import Measure, UncertaintyStrategy, Weighting

MEASURES: Mapping[Measure, BoxMeasure] = {
    "entropy": BoxMeasure("entropy", " nats", lambda image: image.entropy),
    "bald": BoxMeasure("BALD", " nats", lambda image: image.bald),
    # Low is unsure in these two.
    "margin": BoxMeasure("1 - margin", "", lambda image: 1 - image.margin),
    "certainty": BoxMeasure("1 - certainty", "", lambda image: 1 - image.certainty),
    "variance": BoxMeasure("variance", "", lambda image: image.variance),
    "localisation": BoxMeasure("localisation spread", "", lambda image: image.localisation),
    "inconsistency": BoxMeasure("inconsistency", "", lambda image: image.inconsistency),
}


def uncertainty(strategy: UncertaintyStrategy, classes: Classes) -> Ranking:
    """Return the ranking by one measure; `class_weighted` weighs by rarity.

    Source:
        Settles 2009, Active Learning Literature Survey, section 3.1; of each measure where it is
        computed, `inference_service/app/core/uncertainty.py` and `consistency.py`.
    """
    weight_by: Weighting | None = "rarity" if strategy.aggregation == "class_weighted" else None
    return Ranking(MEASURES[strategy.strategy], strategy, classes, weight_by)
