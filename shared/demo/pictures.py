"""The demo's pictures: the learning curve, and predictions on test images."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from shared.demo.report import ProductionPart, RoundPart
from shared.models.registry import Prediction

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def draw_learning_curve(
    rounds: Sequence[RoundPart], production: ProductionPart, path: Path
) -> None:
    """Draw test mAP50 and mAP50-95 by labelled images; the served model is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    images = [part.n_labelled for part in rounds]
    axes.plot(images, [p.map50 for p in rounds], "o-", color=COLOURS[0], label="mAP50")
    axes.plot(images, [p.map50_95 for p in rounds], "s--", color=COLOURS[1], label="mAP50-95")
    for part in rounds:
        axes.annotate(
            f"{part.strategy}\n{part.n_boxes} boxes",
            (part.n_labelled, part.map50),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    served = next(p for p in rounds if p.model_version == production.version)
    axes.scatter(
        [served.n_labelled],
        [production.map50],
        s=160,
        facecolors="none",
        edgecolors=COLOURS[2],
        linewidths=2,
        label=f"production (v{production.version})",
    )
    axes.set(xlabel="labelled images", ylabel="on test", ylim=(0, 1), xticks=images)
    axes.set_title("Each round adds the images that the model was least sure of", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def draw_predictions(
    pairs: Sequence[tuple[bytes, Prediction]], classes: Sequence[str], path: Path
) -> None:
    """Draw served predictions on their images, four in a row."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    n_columns = 4
    n_rows = -(-len(pairs) // n_columns)
    figure = Figure(figsize=(2.5 * n_columns, 2.5 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (content, seen) in zip(grid.flat, pairs, strict=False):
        with Image.open(io.BytesIO(content)) as image:
            axes.imshow(image.convert("RGB"))
        for box in seen.detections:
            x1, y1, x2, y2 = box.xyxy
            colour = COLOURS[box.class_id % len(COLOURS)]
            corner = (x1 * seen.width, y1 * seen.height)
            size = ((x2 - x1) * seen.width, (y2 - y1) * seen.height)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.5))
            axes.text(
                *corner,
                f"{classes[box.class_id]} {box.score:.2f}",
                fontsize=7,
                color="white",
                backgroundcolor=colour,
                verticalalignment="bottom",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
            )
    figure.savefig(path, dpi=100)
