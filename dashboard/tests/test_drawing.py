"""Coordinates and colours."""

import io

import pytest
from PIL import Image

from dashboard.drawing import (
    Shape,
    class_colour,
    draw,
    fit,
    ink_on,
    open_upright,
    shape_caption,
    shapes_of,
    to_normalised,
    to_pixels,
)
from shared.models.geometry import Annotation, Detection, Xyxy


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        ((640, 480), (1000, 560), (747, 560)),
        ((256, 192), (1000, 560), (747, 560)),
        ((10, 10), (1000, 560), (40, 40)),
        ((6000, 4000), (1000, 560), (840, 560)),
        ((10_000, 1), (1000, 560), (1000, 1)),
    ],
)
def test_a_picture_fills_its_bounds_in_proportion(
    size: tuple[int, int], bounds: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit(size, bounds) == expected


def test_a_box_in_pixels_is_x_y_width_height() -> None:
    assert to_pixels((0.1, 0.2, 0.5, 0.6), (200, 100)) == pytest.approx((20, 20, 80, 40))


@pytest.mark.parametrize(
    ("xywh", "expected"),
    [
        ((20.0, 20.0, 80.0, 40.0), (0.1, 0.2, 0.5, 0.6)),
        ((100.0, 60.0, -80.0, -40.0), (0.1, 0.2, 0.5, 0.6)),
        ((-10.0, -10.0, 300.0, 300.0), (0.0, 0.0, 1.0, 1.0)),
        ((190.0, 90.0, 30.0, 5.0), (0.95, 0.9, 1.0, 0.95)),
        ((20.0, 20.0, 0.0, 40.0), None),
        ((250.0, 20.0, 10.0, 10.0), None),
        ((199.99995, 20.0, 40.0, 40.0), None),
    ],
)
def test_pixels_become_normalised_and_are_cut_at_the_border(
    xywh: tuple[float, ...], expected: Xyxy | None
) -> None:
    assert to_normalised(xywh, (200, 100)) == expected


@pytest.mark.parametrize("size", [(747, 560), (333, 101), (40, 40)])
def test_a_box_that_nobody_moved_comes_back_as_it_was(size: tuple[int, int]) -> None:
    box = (0.1234567, 0.2345678, 0.3456789, 0.9876543)
    assert to_normalised(to_pixels(box, size), size) == box


def test_class_colours_differ_and_repeat_after_twelve() -> None:
    colours = [class_colour(i) for i in range(12)]
    assert len(set(colours)) == 12
    assert class_colour(12) == class_colour(0) == "#E69F00"


def test_ink_is_black_on_yellow_and_white_on_blue() -> None:
    assert ink_on("#F0E442") == "#000000"
    assert ink_on("#0072B2") == "#FFFFFF"


def test_captions_have_the_score_of_predictions_only() -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    label, prediction = shapes_of(
        [
            Annotation(class_id=1, xyxy=box),
            Detection(class_id=0, xyxy=box, score=0.876),
        ]
    )
    assert shape_caption(label, ("cat", "dog")) == "dog"
    assert shape_caption(prediction, ("cat", "dog")) == "cat 0.88"
    assert shape_caption(Shape(7, box), ("cat",)) == "class 7"


def test_a_prediction_is_drawn_solid_and_a_label_dashed() -> None:
    blank = Image.new("RGB", (200, 200), "white")
    box = (0.25, 0.25, 0.75, 0.75)
    colour = (0xE6, 0x9F, 0x00)
    bottom = [(x, 150) for x in range(55, 145)]
    solid = draw(blank, [Shape(0, box, 0.9)], ("cat",))
    dashed = draw(blank, [Shape(0, box)], ("cat",))
    assert {solid.getpixel(at) for at in bottom} == {colour}
    assert {dashed.getpixel(at) for at in bottom} == {colour, (255, 255, 255)}
    assert blank.getcolors() == [(40_000, (255, 255, 255))]


def test_a_picture_is_turned_upright() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(out, "JPEG", exif=exif)
    assert open_upright(out.getvalue()).size == (20, 40)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(OSError, match="cannot identify image file"):
        open_upright(b"not a picture")
