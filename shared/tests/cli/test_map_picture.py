from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from shared.cli.map_picture import draw_map
from shared.map_colours import MapColour, colours_of
from shared.models.search import EmbeddingMap, MapPoint

POINTS = (
    MapPoint(image_id="a", x=0, y=0, split="train", class_id=1, uncertainty=0.5),
    MapPoint(image_id="b", x=1, y=0, split="val", class_id=None, uncertainty=0.0),
    MapPoint(image_id="c", x=0, y=2, split="train", class_id=0, uncertainty=1.0),
)
MAP = EmbeddingMap(
    project="farm",
    model_version=3,
    method="pca",
    made_at=datetime(2026, 1, 1, tzinfo=UTC),
    n_images=3,
    points=POINTS,
)
EXPECTED: dict[MapColour, list[str] | list[float]] = {
    "class": ["ant", "nothing seen", "owl"],
    "split": ["train", "val", "train"],
    "uncertainty": [0.5, 0.0, 1.0],
    "round": ["not chosen", "not chosen", "round 2"],
}


@pytest.mark.parametrize("by", EXPECTED)
def test_points_are_coloured_by_what_is_asked_for(tmp_path: Path, by: MapColour) -> None:
    colours = colours_of(MAP, by, ["owl", "ant"], {"c": 2})
    assert colours == EXPECTED[by]
    draw_map(MAP, colours, tmp_path / "sub" / "map.png")
    with Image.open(tmp_path / "sub" / "map.png") as picture:
        assert picture.size == (960, 840)
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 10
