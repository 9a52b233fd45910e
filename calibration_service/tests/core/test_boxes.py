import numpy as np
import pytest

from calibration_service.app.core.boxes import BoolArray, EvidenceImage, FloatArray, box_iou, match
from calibration_service.tests.synthetic import BELOW, LEFT, NOWHERE, RIGHT, image
from shared.thresholds import nms


def _boxes(*boxes: tuple[float, float, float, float]) -> FloatArray:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def stays(seen: EvidenceImage, iou: float) -> BoolArray:
    return nms(seen.xyxy, seen.class_ids, iou)


def test_overlap_with_no_boxes_is_empty() -> None:
    assert box_iou(_boxes(), _boxes(LEFT)).shape == (0, 1)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((0.0, 0.0, 0.4, 0.4), 1.0),
        ((0.0, 0.0, 0.4, 0.2), 0.5),
        ((0.2, 0.0, 0.6, 0.4), 1 / 3),
        ((0.4, 0.0, 0.8, 0.4), 0.0),
        ((0.9, 0.9, 1.0, 1.0), 0.0),
        ((0.1, 0.1, 0.1, 0.1), 0.0),
    ],
)
def test_overlap_is_shared_area_over_union(
    second: tuple[float, float, float, float], expected: float
) -> None:
    assert box_iou(_boxes(LEFT), _boxes(second))[0, 0] == pytest.approx(expected)


def test_suppression_of_nothing_keeps_nothing() -> None:
    assert stays(image([], []), 0.5).tolist() == []


def test_suppression_keeps_the_best_of_each_class() -> None:
    half = (0.0, 0.0, 0.4, 0.2)  # overlaps LEFT by 0.5
    seen = [(LEFT, 0, 0.9), (half, 0, 0.8), (half, 1, 0.7), (RIGHT, 0, 0.6)]
    assert stays(image(seen, []), 0.45).tolist() == [True, False, True, True]
    assert stays(image(seen, []), 0.5).tolist() == [True, True, True, True]


def test_a_suppressed_box_suppresses_nothing() -> None:
    # Each overlaps the next by 0.6, but the first and the third only by 1/3.
    chain = [(0.0, 0.0, 0.4, 0.4), (0.1, 0.0, 0.5, 0.4), (0.2, 0.0, 0.6, 0.4)]
    seen = [(box, 0, score) for box, score in zip(chain, (0.9, 0.8, 0.7), strict=True)]
    assert stays(image(seen, []), 0.5).tolist() == [True, False, True]


def test_matching_without_objects_or_detections_finds_nothing() -> None:
    assert match(image([], [(LEFT, 0)]), np.array([0.5])).shape == (0, 1)
    assert match(image([(LEFT, 0, 0.9)], []), np.array([0.5])).tolist() == [[False]]


def test_an_object_is_found_once_by_the_best_score() -> None:
    seen = [(LEFT, 0, 0.6), (LEFT, 0, 0.9), (RIGHT, 1, 0.8), (NOWHERE, 0, 0.7)]
    found = match(image(seen, [(LEFT, 0), (RIGHT, 0), (BELOW, 0)]), np.array([0.5]))
    assert found[:, 0].tolist() == [True, False, False, False]


def test_a_detection_takes_the_free_object_it_overlaps_most() -> None:
    near = (0.02, 0.0, 0.42, 0.4)
    seen = [(LEFT, 0, 0.9), (LEFT, 0, 0.8)]
    found = match(image(seen, [(near, 0), (LEFT, 0)]), np.array([0.5, 0.95]))
    assert found.tolist() == [[True, True], [True, False]]
