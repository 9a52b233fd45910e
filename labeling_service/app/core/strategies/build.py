"""From what a round asks for to the strategy at work."""

from collections.abc import Callable, Mapping
from typing import Any

from labeling_service.app.core.strategies.badge import Badge
from labeling_service.app.core.strategies.class_balanced import ClassBalanced
from labeling_service.app.core.strategies.class_weighted import class_weighted
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.coreset import CoreSet
from labeling_service.app.core.strategies.custom import Custom
from labeling_service.app.core.strategies.error_based import error_based
from labeling_service.app.core.strategies.kmeans import KMeans
from labeling_service.app.core.strategies.mix import Mix, Part
from labeling_service.app.core.strategies.pool import Acquisition
from labeling_service.app.core.strategies.typiclust import TypiClust
from labeling_service.app.core.strategies.uncertainty import uncertainty
from labeling_service.app.core.strategies.uniform import Uniform
from shared.models.geometry import Frozen
from shared.models.strategies import (
    BadgeStrategy,
    ClassBalancedStrategy,
    ClassWeightedStrategy,
    CoreSetStrategy,
    CustomStrategy,
    ErrorBasedStrategy,
    KMeansStrategy,
    MixStrategy,
    RandomStrategy,
    Strategy,
    TypiClustStrategy,
    UncertaintyStrategy,
    describe,
)

_MAKERS: Mapping[type[Frozen], Callable[[Any, Classes], Acquisition]] = {
    RandomStrategy: lambda _, __: Uniform(),
    UncertaintyStrategy: uncertainty,
    CoreSetStrategy: lambda _, __: CoreSet(),
    KMeansStrategy: lambda _, __: KMeans(),
    TypiClustStrategy: lambda _, __: TypiClust(),
    BadgeStrategy: lambda _, classes: Badge(classes),
    ClassBalancedStrategy: lambda _, classes: ClassBalanced(classes),
    ClassWeightedStrategy: class_weighted,
    ErrorBasedStrategy: error_based,
    CustomStrategy: lambda strategy, _: Custom(strategy),
}


def build(strategy: Strategy, classes: Classes) -> Acquisition:
    """Return the strategy, ready to choose.

    Raises:
        UnknownStrategy: a plug-in is not installed, or takes other parameters.
    """
    if isinstance(strategy, MixStrategy):
        parts = [
            Part(describe(part.strategy), part.share, build(part.strategy, classes))
            for part in strategy.parts
        ]
        return Mix(parts)
    return _MAKERS[type(strategy)](strategy, classes)
