"""The map of embeddings as a picture."""

from collections.abc import Sequence
from pathlib import Path

from shared.errors import BadRequest
from shared.map_colours import GREY, palette_of
from shared.models.search import EmbeddingMap

FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")
# That fit below each other in the legend.
LEGEND_ROWS = 34


def check_picture(path: Path) -> None:
    """Find out whether a picture may be written there, before the work that it shows.

    Raises:
        BadRequest: it is a folder, or ends in none of `FORMATS`.
    """
    if path.is_dir():
        msg = f"--output is a folder, say which file in it: {str(path)!r}"
        raise BadRequest(msg)
    if path.suffix.lower() not in FORMATS:
        msg = f"--output must end in {', '.join(FORMATS)}: {str(path)!r}"
        raise BadRequest(msg)


def draw_map(
    found: EmbeddingMap,
    colours: Sequence[str] | Sequence[float],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Write the map as a picture; what is nothing or not chosen is grey and lies behind.

    Args:
        found: the map.
        colours: what each point is coloured by: a name, or a number.
        classes: names of the project's classes, where names are of classes.
        path: of the picture, of one of `FORMATS`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    size = 25 if len(found.points) < 1000 else 6
    x, y = [p.x for p in found.points], [p.y for p in found.points]
    names = palette_of([c for c in colours if isinstance(c, str)], classes)
    for name, colour in names.items():
        here = [n for n, c in enumerate(colours) if c == name]
        axes.scatter(
            [x[n] for n in here], [y[n] for n in here], s=size, c=colour, linewidths=0,
            label=f"{name} ({len(here)})", zorder=1 if colour == GREY else 2,
        )  # fmt: skip
    if names:
        columns = -(-len(names) // LEGEND_ROWS)
        figure.legend(loc="outside right upper", fontsize=8, markerscale=2, ncols=columns)
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
