"""Cells of simulations whose answer is known."""

from collections.abc import Sequence

from pydantic import JsonValue

from shared.models.simulations import DatasetFacts
from shared.simulate.options import Cell
from shared.simulate.records import CellRecord, Point

FACTS = DatasetFacts(
    name="made-up", classes=("a", "b"), n_pool=200, n_test=50, content_hash="0" * 64
)


def record(
    strategy: str,
    seed: int,
    points: Sequence[tuple[int, int, float]],
    repeat: int = 0,
    settings: dict[str, JsonValue] | None = None,
) -> CellRecord:
    """Return a cell from images, boxes and mAP50 of each point."""
    return CellRecord(
        cell=Cell(strategy=strategy, seed=seed, n_rounds=len(points) - 1, repeat=repeat),
        settings=settings or {},
        dataset=FACTS,
        points=tuple(
            Point(n_images=i, n_boxes=b, map50=m, map50_95=m / 2, per_class_map50={})
            for i, b, m in points
        ),
        selected=tuple((f"image-{i}",) for i, _, _ in points[1:]),
        seconds=1.0,
        machine="none",
    )
