import pytest

from data_service.app.core.boxes import (
    BadBox,
    Box,
    OtherSize,
    PictureSize,
    checked_box,
    unit_transform,
    upright_box,
)


@pytest.mark.parametrize(
    ("xyxy", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4)),
        ((-0.01, 0.0, 1.01, 1.0), (0.0, 0.0, 1.0, 1.0)),
        ((453 / 640, 0.1, 0.9, 0.2), (0.707812, 0.1, 0.9, 0.2)),
    ],
)
def test_a_box_is_clipped_and_rounded(xyxy: Box, expected: Box) -> None:
    assert checked_box(xyxy) == expected


@pytest.mark.parametrize(
    ("xyxy", "reason"),
    [
        ((0.5, 0.5, 0.5, 0.6), "degenerate_box"),
        ((0.6, 0.5, 0.5, 0.6), "degenerate_box"),
        ((-0.008, 0.1, -0.002, 0.2), "degenerate_box"),
        ((0.5, 0.5, 1.02, 0.6), "out_of_range_box"),
        ((-0.02, 0.5, 0.3, 0.6), "out_of_range_box"),
    ],
)
def test_a_bad_box_is_refused(xyxy: Box, reason: str) -> None:
    with pytest.raises(BadBox) as caught:
        checked_box(xyxy)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, (0.1, 0.2, 0.3, 0.5)),
        (2, (0.7, 0.2, 0.9, 0.5)),
        (3, (0.7, 0.5, 0.9, 0.8)),
        (4, (0.1, 0.5, 0.3, 0.8)),
        (5, (0.2, 0.1, 0.5, 0.3)),
        (6, (0.5, 0.1, 0.8, 0.3)),
        (7, (0.5, 0.7, 0.8, 0.9)),
        (8, (0.2, 0.7, 0.5, 0.9)),
    ],
)
def test_a_box_turns_with_its_image(orientation: int, expected: Box) -> None:
    assert upright_box((0.1, 0.2, 0.3, 0.5), orientation) == pytest.approx(expected)


def test_boxes_of_a_tool_that_ignored_exif_are_turned() -> None:
    to_unit = unit_transform(PictureSize(48, 64, orientation=6), (64, 48))
    assert to_unit((0, 0, 16, 12)) == pytest.approx((0.75, 0.0, 1.0, 0.25))


def test_boxes_at_another_scale_are_fine_and_of_another_shape_are_not() -> None:
    picture = PictureSize(64, 48)
    assert unit_transform(picture, (640, 480))((64, 48, 128, 96)) == (0.1, 0.1, 0.2, 0.2)
    assert unit_transform(picture, (0, 0))((32, 24, 64, 48)) == (0.5, 0.5, 1.0, 1.0)
    with pytest.raises(OtherSize, match="is for 100x100, the image is 64x48"):
        unit_transform(picture, (100, 100))
