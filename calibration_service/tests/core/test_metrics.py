import numpy as np
import pytest

from calibration_service.app.core.boxes import EvidenceImage
from calibration_service.app.core.metrics import (
    IOU_50_95,
    average_precision,
    by_class,
    count_at,
    evaluate,
    matched,
)
from calibration_service.tests.synthetic import CLASSES, LEFT, NOWHERE, RIGHT, image
from shared.models.registry import OperatingPoint


def _random_images(rng: np.random.Generator, n_images: int) -> list[EvidenceImage]:
    images = []
    for n in range(n_images):
        corner = rng.uniform(0, 0.7, (4, 2))
        there = [((x, y, x + 0.2, y + 0.2), int(rng.integers(0, 2))) for x, y in corner]
        seen = [
            (tuple(np.array(box) + rng.normal(0, 0.03, 4)), c, float(rng.uniform(0.3, 1)))
            for box, c in there
            if rng.uniform() < 0.8
        ]
        seen += [
            ((x, y, x + 0.2, y + 0.2), int(rng.integers(0, 2)), float(rng.uniform(0, 0.7)))
            for x, y in rng.uniform(0, 0.7, (3, 2))
        ]
        images.append(image(seen, there, f"{n}"))
    return images


def test_average_precision_equals_that_of_ultralytics() -> None:
    from shared.detector.ultralytics_env import ap_per_class

    images = _random_images(np.random.default_rng(0), 60)
    found = matched(images, 2, IOU_50_95)
    ours = np.array([average_precision(e) for e in by_class(found, 2)])
    theirs = ap_per_class(
        np.concatenate([m.hits for m in found]),
        np.concatenate([m.scores for m in found]),
        np.concatenate([m.class_ids for m in found]),
        np.concatenate([i.true_class_ids for i in images]),
    )[5]
    assert 0.2 < ours[:, 0].mean() < 0.95
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_no_object_has_no_average_precision() -> None:
    (evidence,) = by_class(matched([image([(LEFT, 0, 0.9)], [])], 1), 1)
    assert np.isnan(average_precision(evidence)).all()


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], 0.0),
        ([(LEFT, 0, 0.9), (RIGHT, 0, 0.8)], 1.0),
        ([(LEFT, 0, 0.9), (RIGHT, 0, 0.8), (NOWHERE, 0, 0.1)], 1.0),
        ([(LEFT, 0, 0.9)], 0.5),
        ([(NOWHERE, 0, 0.9), (LEFT, 0, 0.8), (RIGHT, 0, 0.7)], 2 / 3),
    ],
)
def test_average_precision_of_two_objects(
    seen: list[tuple[tuple[float, float, float, float], int, float]], expected: float
) -> None:
    (evidence,) = by_class(matched([image(seen, [(LEFT, 0), (RIGHT, 0)])], 1), 1)
    assert average_precision(evidence)[0] == pytest.approx(expected, abs=0.006)


def test_weights_count_an_image_as_often_as_it_is_drawn() -> None:
    images = _random_images(np.random.default_rng(1), 6)
    drawn = [images[i] for i in (0, 0, 0, 2, 5, 5)]
    weights = np.array([3.0, 0, 1, 0, 0, 2])
    for mine, expected in zip(
        by_class(matched(images, 2), 2), by_class(matched(drawn, 2), 2), strict=True
    ):
        np.testing.assert_allclose(
            average_precision(mine, weights), average_precision(expected), atol=0.02
        )


def test_map_is_the_mean_over_classes_that_have_objects() -> None:
    images = [image([(LEFT, 0, 0.9), (NOWHERE, 1, 0.95)], [(LEFT, 0)])]
    metrics = evaluate(images, CLASSES)
    assert metrics.per_class_map50 == pytest.approx({"cat": 0.995}, abs=0.006)
    assert metrics.map50 == pytest.approx(1.0, abs=0.006)
    assert metrics.n_images == 1


def test_map_without_any_object_is_zero() -> None:
    metrics = evaluate([image([(LEFT, 0, 0.9)], [])], CLASSES)
    assert (metrics.map50, metrics.map50_95, metrics.per_class_map50) == (0.0, 0.0, {})


def test_a_loose_box_counts_at_half_overlap_only() -> None:
    loose = (0.0, 0.0, 0.4, 0.31)  # overlaps LEFT by 0.775
    metrics = evaluate([image([(loose, 0, 0.9)], [(LEFT, 0)])], ("cat",))
    assert metrics.map50 == pytest.approx(1.0, abs=0.006)
    assert metrics.map50_95 == pytest.approx(0.6, abs=0.006)


def test_operating_point_counts_over_all_classes() -> None:
    seen = [(LEFT, 0, 0.9), (NOWHERE, 0, 0.5), (RIGHT, 1, 0.4), (NOWHERE, 1, 0.3)]
    evidence = by_class(matched([image(seen, [(LEFT, 0), (RIGHT, 1)])], 2), 2)
    point = count_at(evidence, (0.25, 0.25)).point()
    assert point == OperatingPoint(f1=2 / 3, precision=0.5, recall=1.0)
    assert count_at(evidence, (0.6, 0.4)).point() == OperatingPoint(f1=1, precision=1, recall=1)
    nothing = OperatingPoint(f1=0, precision=0, recall=0)
    assert count_at(evidence, (0.99, 0.99)).point() == nothing
