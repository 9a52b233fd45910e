"""The map of embeddings as a picture."""

from collections.abc import Sequence
from pathlib import Path

from shared.demo.pictures import COLOURS
from shared.map_colours import GREY, NOT_CHOSEN, NOTHING
from shared.models.search import EmbeddingMap


def draw_map(found: EmbeddingMap, colours: Sequence[str] | Sequence[float], path: Path) -> None:
    """Write the map as a picture; what is nothing or not chosen is grey and lies behind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    size = 25 if len(found.points) < 1000 else 6
    x, y = [p.x for p in found.points], [p.y for p in found.points]
    names = sorted({c for c in colours if isinstance(c, str)}, key=_order)
    for name, colour in zip(names, _palette(names, COLOURS), strict=True):
        here = [n for n, c in enumerate(colours) if c == name]
        axes.scatter(
            [x[n] for n in here], [y[n] for n in here], s=size, c=colour, linewidths=0,
            label=f"{name} ({len(here)})",
        )  # fmt: skip
    if names:
        axes.legend(loc="best", fontsize=8, markerscale=2)
    else:
        dots = axes.scatter(x, y, s=size, c=colours, cmap="viridis", linewidths=0)
        figure.colorbar(dots, label="entropy of the most uncertain box (nats)")
    axes.set(xticks=[], yticks=[])
    axes.set_title(
        f"{found.project}: {len(found.points)} of {found.n_images} images, "
        f"model v{found.model_version}, {found.method.upper()}",
        fontsize=11,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _order(name: str) -> tuple[bool, int, str]:
    """Grey first, so that it lies behind; round 10 after round 9."""
    return name not in {NOTHING, NOT_CHOSEN}, len(name), name


def _palette(names: Sequence[str], colours: Sequence[str]) -> list[str]:
    rest = iter(list(colours) * (1 + len(names) // len(colours)))
    return [GREY if name in {NOTHING, NOT_CHOSEN} else next(rest) for name in names]
