"""What the colours of an embedding map mean."""

from collections.abc import Mapping, Sequence
from typing import Literal

from shared.models.search import EmbeddingMap

MapColour = Literal["class", "split", "uncertainty", "round"]
NOTHING, NOT_CHOSEN = "nothing seen", "not chosen"
# Okabe and Ito's colour-blind-safe set without black, then darker ones of Paul Tol's "muted".
PALETTE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#0072B2",
    "#F0E442",
    "#AA4499",
    "#44AA99",
    "#999933",
    "#882255",
    "#DDCC77",
)
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


def palette_of(names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return the colour of each name: classes in their order, rounds in theirs, grey last.

    A class has the colour of its number, also where others are missing.
    """
    order = {name: n for n, name in enumerate(classes)}
    grey = (NOTHING, NOT_CHOSEN)
    shown = sorted(set(names), key=lambda n: (n in grey, order.get(n, 0), len(n), n))
    return {
        name: GREY if name in grey else PALETTE[order.get(name, n) % len(PALETTE)]
        for n, name in enumerate(shown)
    }
