"""What the front end returns becomes labels."""

from dashboard.canvas import annotations_of
from dashboard.drawing import Shape, to_pixels
from shared.models.geometry import Annotation


def test_nothing_drawn_is_no_label() -> None:
    assert annotations_of([], (100, 100)) == ()


def test_drawn_boxes_are_a_persons_labels_in_their_order() -> None:
    drawn = [
        {"bbox": [10, 20, 30, 40], "label_id": 2, "label": "four"},
        {"bbox": [0, 0, 50, 50], "label_id": 0, "label": "two"},
    ]
    assert annotations_of(drawn, (100, 200)) == (
        Annotation(class_id=2, xyxy=(0.1, 0.1, 0.4, 0.3), source="human"),
        Annotation(class_id=0, xyxy=(0.0, 0.0, 0.5, 0.25), source="human"),
    )


def test_a_click_without_a_drag_is_not_a_box() -> None:
    # The front end makes a box of 5 x 5 pixels of it.
    slip = {"bbox": [10, 20, 5, 5], "label_id": 0, "label": "two"}
    assert annotations_of([slip], (100, 100)) == ()


def test_a_small_box_that_was_there_before_is_kept() -> None:
    before = Shape(class_id=0, xyxy=(0.1, 0.2, 0.104, 0.205))
    kept = {"bbox": [100, 200, 4, 5], "label_id": 1, "label": "four"}
    slip = {"bbox": [110, 200, 5, 5], "label_id": 0, "label": "two"}
    assert annotations_of([kept, slip], (1000, 1000), [before]) == (
        Annotation(class_id=1, xyxy=(0.1, 0.2, 0.104, 0.205), source="human"),
    )


def test_a_box_outside_of_the_picture_is_not_kept() -> None:
    outside = {"bbox": [120, 20, 15, 15], "label_id": 0, "label": "two"}
    assert annotations_of([outside], (100, 100)) == ()


def test_a_prediction_too_thin_for_a_label_is_not_kept() -> None:
    before = Shape(class_id=0, xyxy=(0.1, 0.2, 0.1000002, 0.8), score=0.9)
    thin = {"bbox": list(to_pixels(before.xyxy, (1000, 1000))), "label_id": 0, "label": "two"}
    assert annotations_of([thin], (1000, 1000), [before]) == ()
