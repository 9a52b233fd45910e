import pytest

from calibration_service.app.core.boxes import EvidenceImage
from calibration_service.app.core.thresholds import ThresholdFit, default_component, measure
from calibration_service.tests.synthetic import LEFT, NOWHERE, RIGHT, image


def _unheard(fraction: float) -> None:
    del fraction


def _noisy_cats_shy_dogs(n: int) -> list[EvidenceImage]:
    """Cats score 0.8 beside false ones at 0.5; dogs score 0.15 beside nothing."""
    seen = [(LEFT, 0, 0.8), (NOWHERE, 0, 0.5), (RIGHT, 1, 0.15)]
    return [image(seen, [(LEFT, 0), (RIGHT, 1)], f"{i}") for i in range(n)]


def test_each_class_gets_the_threshold_between_right_and_wrong() -> None:
    images = _noisy_cats_shy_dogs(20)
    choice = ThresholdFit(images, 2).choose(_unheard)
    assert choice.kept
    assert choice.component.score_thresholds == pytest.approx((0.65, 0.08), abs=1e-6)
    assert choice.component.fallback == (False, False)
    assert choice.component.nms_iou == 0.7
    before, after = measure(images, default_component(2)), measure(images, choice.component)
    assert (before.precision, before.recall, before.f1) == (0.5, 0.5, 0.5)
    assert (after.precision, after.recall, after.f1) == (1.0, 1.0, 1.0)


def test_a_class_with_few_objects_takes_the_common_threshold() -> None:
    cats = [image([(LEFT, 0, 0.8), (NOWHERE, 0, 0.5)], [(LEFT, 0)], f"{i}") for i in range(20)]
    dogs = [image([(RIGHT, 1, 0.7)], [(RIGHT, 1)], f"d{i}") for i in range(9)]
    component = ThresholdFit(cats + dogs, 2).fit()
    assert component.fallback == (False, True)
    assert component.score_thresholds == pytest.approx((0.65, 0.6), abs=1e-6)


def test_nothing_is_kept_where_the_default_is_as_good() -> None:
    images = [image([(LEFT, 0, 0.9), (NOWHERE, 0, 0.1)], [(LEFT, 0)], f"{i}") for i in range(20)]
    choice = ThresholdFit(images, 1).choose(_unheard)
    assert not choice.kept
    assert choice.component == default_component(1)


def test_what_only_looks_better_on_what_it_was_fitted_on_is_not_kept() -> None:
    # The right and the wrong ones have the same scores: a fit finds a lucky cut, new images do not.
    images = []
    for i in range(10):
        score = 0.3 + 0.05 * i
        there = [(LEFT, 0)] if i % 2 else [(RIGHT, 0)]
        images.append(image([(LEFT, 0, score)], there, f"{i}"))
    fit = ThresholdFit(images, 1)
    fitted = fit.fit(min_positives=1)
    assert measure(images, fitted).f1 > measure(images, default_component(1)).f1
    assert not fit.choose(_unheard).kept


def test_doubled_boxes_ask_for_a_tighter_suppression() -> None:
    double = (0.0, 0.0, 0.4, 0.26)  # overlaps LEFT by 0.65, and scores nearly as much
    images = [
        image([(LEFT, 0, 0.3 + i / 20), (double, 0, 0.29 + i / 20)], [(LEFT, 0)], f"{i}")
        for i in range(12)
    ]
    choice = ThresholdFit(images, 1).choose(_unheard)
    assert choice.kept
    assert choice.component.nms_iou == 0.6
    assert measure(images, choice.component).f1 == 1.0


def test_a_model_that_sees_nothing_keeps_the_default() -> None:
    images = [image([], [(LEFT, 0)], f"{i}") for i in range(3)]
    choice = ThresholdFit(images, 2).choose(_unheard)
    assert choice.component == default_component(2)
    assert not choice.kept


def test_one_image_is_too_little_to_judge() -> None:
    assert not ThresholdFit(_noisy_cats_shy_dogs(1), 2).choose(_unheard).kept
