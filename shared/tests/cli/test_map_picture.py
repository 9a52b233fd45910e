import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from shared.cli.map_picture import draw_map
from shared.map_colours import MapColour, colours_of, palette_of
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
    draw_map(MAP, colours, ["owl", "ant"], tmp_path / "sub" / "map.png")
    with Image.open(tmp_path / "sub" / "map.png") as picture:
        assert picture.size == (960, 840)
        assert len(picture.convert("RGB").getcolors(10**6) or []) > 10


def test_a_class_has_the_colour_of_its_number_whichever_others_there_are() -> None:
    classes = ["a long name", "cat", "ox"]
    both = {"a long name": "#E69F00", "ox": "#009E73", "nothing seen": "#BBBBBB"}
    found = palette_of(["nothing seen", "ox", "a long name", "ox"], classes)
    assert list(found.items()) == list(both.items())
    assert palette_of(["ox"], classes) == {"ox": "#009E73"}
    assert palette_of([], classes) == {}


def test_rounds_are_in_their_order_and_grey_comes_last() -> None:
    names = ["round 10", "not chosen", "round 9"]
    assert list(palette_of(names, ())) == ["round 9", "round 10", "not chosen"]


def test_the_legend_covers_no_point(tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(60)]
    places = [(x, y) for x in range(8) for y in range(8)]
    corners = tuple(POINTS[0].model_copy(update={"x": x, "y": y}) for x, y in places[:60])
    picture = tmp_path / "map.svg"
    draw_map(MAP.model_copy(update={"points": corners}), names, names, picture)
    drawn = picture.read_text()
    assert left_and_right(drawn, "legend_1")[0] > left_and_right(drawn, "patch_2")[1]


def left_and_right(svg: str, part: str) -> tuple[float, float]:
    """Return from where to where the frame of a part goes; `patch_2` is the axes'."""
    frame = re.search(r' d="([^"]+)"', svg[svg.index(f'id="{part}"') :])
    assert frame is not None
    places = [float(x) for x in re.findall(r"[ML] ([\d.]+)", frame[1])]
    return min(places), max(places)
