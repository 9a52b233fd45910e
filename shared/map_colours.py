"""What the colours of an embedding map mean."""

from collections.abc import Mapping, Sequence
from typing import Literal

from shared.models.search import EmbeddingMap

MapColour = Literal["class", "split", "uncertainty", "round"]
NOTHING, NOT_CHOSEN = "nothing seen", "not chosen"
# Behind everything else.
GREY = "#BBBBBB"


def colours_of(
    found: EmbeddingMap, by: MapColour, classes: Sequence[str], rounds: Mapping[str, int]
) -> list[str] | list[float]:
    """Return what each point is coloured by: a name, or a number for `uncertainty`.

    Args:
        found: the map.
        by: what is asked for.
        classes: names of the project's classes.
        rounds: the round that chose an image, by image id.
    """
    if by == "uncertainty":
        return [point.uncertainty for point in found.points]
    if by == "split":
        return [str(point.split) for point in found.points]
    if by == "round":
        chosen = (rounds.get(point.image_id) for point in found.points)
        return [NOT_CHOSEN if n is None else f"round {n}" for n in chosen]
    return [NOTHING if p.class_id is None else classes[p.class_id] for p in found.points]
