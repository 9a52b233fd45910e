"""What must be known before a strategy can choose."""

from dataclasses import astuple, dataclass

from shared.models.strategies import COLD_START, CustomStrategy, MixStrategy, Strategy

EMBEDDED = {"coreset", "kmeans", "typiclust", "badge", "class_weighted_diverse"}


@dataclass(frozen=True)
class Needs:
    """What a strategy looks at besides the ids of the images.

    Attributes:
        images: what the model saw in the images, or at least their embeddings.
        model: a trained model, since it looks at boxes.
        labelled: the embeddings of labelled images too.
        consistency: the images scored in more views than one.
        classes: how many labels each class has, and how well the model finds it.
        embeddings: the embeddings of the images to choose from.
    """

    images: bool = True
    model: bool = True
    labelled: bool = False
    consistency: bool = False
    classes: bool = False
    embeddings: bool = False


def needs_of(strategy: Strategy) -> Needs:
    """Return what a strategy needs; a mix needs what any of its parts does.

    Raises:
        UnknownStrategy: a plug-in is not installed, or takes other parameters.
    """
    match strategy:
        case MixStrategy():
            parts = [astuple(needs_of(part.strategy)) for part in strategy.parts]
            return Needs(*(any(column) for column in zip(*parts, strict=True)))
        case CustomStrategy():
            # Not at the top: plug-ins bring NumPy and Arrow, and requests ask for needs too.
            from labeling_service.app.core.strategies.custom import Custom

            plugin = Custom(strategy)
            return Needs(model=plugin.needs_model, labelled=plugin.needs_labelled, embeddings=True)
        case _:
            name = strategy.strategy
            weighted = getattr(strategy, "aggregation", None) == "class_weighted"
            return Needs(
                images=name != "random",
                model=name not in COLD_START,
                labelled=name in {"coreset", "typiclust"},
                consistency=name == "inconsistency",
                classes=weighted or name.startswith("class_"),
                embeddings=name in EMBEDDED,
            )
