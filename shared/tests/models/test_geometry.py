import pytest
from pydantic import ValidationError

from shared.models.geometry import Annotation, Detection, Xyxy, has_area, rounded

THIN = (
    (0.1, 0.1, 0.1000002, 0.5),
    (0.1, 0.1, 0.5, 0.1000002),
    (0.9999997, 0.1, 1.0, 0.5),
    (0.3, 0.1, 0.3, 0.5),
    (0.5, 0.1, 0.3, 0.5),
)


@pytest.mark.parametrize("xyxy", THIN)
def test_a_box_without_area_at_six_decimals_is_no_label(xyxy: Xyxy) -> None:
    with pytest.raises(ValidationError, match="degenerate box"):
        Annotation(class_id=0, xyxy=xyxy)


@pytest.mark.parametrize("xyxy", THIN)
def test_a_detection_may_be_as_thin_as_a_model_makes_it(xyxy: Xyxy) -> None:
    assert Detection(class_id=0, xyxy=xyxy, score=0.5).xyxy == xyxy


@pytest.mark.parametrize("xyxy", [(0.1, 0.1, 0.1000006, 0.5), (0.9999990, 0.0, 1.0, 1.0)])
def test_a_label_still_has_an_area_once_it_is_rounded(xyxy: Xyxy) -> None:
    kept = rounded(Annotation(class_id=0, xyxy=xyxy).xyxy)
    assert has_area(kept)
    assert Annotation(class_id=0, xyxy=kept).xyxy == kept
