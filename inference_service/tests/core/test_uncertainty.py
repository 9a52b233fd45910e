from dataclasses import asdict

import numpy as np
import pytest
from torch import from_numpy
from torchvision.ops import box_iou

from inference_service.app.core.uncertainty import FloatArray, iou, localisation, uncertainty


def distributions(n: int, n_passes: int) -> FloatArray:
    """Return class distributions of 4 classes and background, some of them nearly sure."""
    rng = np.random.default_rng(3)
    sharpness = 10 ** rng.uniform(-2, 1, (n, 1))
    drawn = rng.gamma(np.repeat(sharpness, 5, axis=1)[:, None], size=(n, n_passes, 5)) + 1e-6
    shares = drawn / drawn.sum(axis=2, keepdims=True)
    return np.asarray(shares.transpose(0, 2, 1), dtype=np.float32)


def test_no_boxes_have_no_uncertainty() -> None:
    found = uncertainty(np.zeros((0, 4, 10), np.float32))
    assert {values.shape for values in asdict(found).values()} == {(0,)}
    assert localisation(np.zeros((0, 4), np.float32), np.zeros((0, 4, 10), np.float32)).shape == (
        0,
    )


def test_values_are_those_worked_out_by_hand() -> None:
    sure = [[1.0, 1.0], [0.0, 0.0]]
    noisy = [[0.5, 0.5], [0.5, 0.5]]
    disagreeing = [[1.0, 0.0], [0.0, 1.0]]
    found = uncertainty(np.array([sure, noisy, disagreeing], np.float32))
    ln2 = pytest.approx(np.log(2))
    assert found.entropy.tolist() == [0, ln2, ln2]
    assert found.margin.tolist() == [1, 0, 0]
    assert found.certainty.tolist() == [1, 0.5, 0.5]
    assert found.bald.tolist() == [0, pytest.approx(0), ln2]
    assert found.variance.tolist() == [0, 0, 0.25]


@pytest.mark.parametrize("n_passes", [2, 10])
def test_values_are_those_of_the_textbook_formulas(n_passes: int) -> None:
    given = distributions(200, n_passes)
    found = uncertainty(given)
    p = given.astype(np.float64)
    mean = p.mean(axis=2)
    ranked = np.sort(mean, axis=1)
    entropy = -(mean * np.log(mean)).sum(axis=1)
    expected_entropy = -(p * np.log(p)).sum(axis=1).mean(axis=1)
    deviations = p - mean[:, :, None]
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-6)
    np.testing.assert_allclose(found.margin, ranked[:, -1] - ranked[:, -2], atol=1e-6)
    np.testing.assert_allclose(found.certainty, ranked[:, -1], atol=1e-6)
    np.testing.assert_allclose(found.bald, entropy - expected_entropy, atol=1e-6)
    np.testing.assert_allclose(found.variance, (deviations**2).mean(axis=(1, 2)), atol=1e-6)


def test_values_and_directions_are_those_of_baal() -> None:
    from baal.active import heuristics

    given = distributions(50, 10)
    found = asdict(uncertainty(given))
    high_is_unsure = {
        "entropy": True,
        "margin": False,
        "certainty": False,
        "bald": True,
        "variance": True,
    }
    assert found.keys() == high_is_unsure.keys()
    for name, high in high_is_unsure.items():
        baal = getattr(heuristics, "BALD" if name == "bald" else name.title())()
        np.testing.assert_allclose(found[name], baal.get_uncertainties(given), atol=1e-5)
        assert baal.reversed is high


def test_localisation_is_nought_where_no_pass_moves_the_box() -> None:
    boxes = np.array([[0.1, 0.2, 0.5, 0.9]], np.float32)
    assert localisation(boxes, np.repeat(boxes[:, :, None], 10, axis=2)).tolist() == [0]


def test_localisation_is_the_mean_loss_of_overlap() -> None:
    box = np.array([[0.2, 0.2, 0.4, 0.4]], np.float32)
    half = [0.2, 0.2, 0.3, 0.4]
    double = [0.2, 0.2, 0.6, 0.4]
    away = [0.6, 0.6, 0.8, 0.8]
    line = [0.2, 0.2, 0.2, 0.4]
    passes = np.array([box[0], half, double, away, line], np.float32).T[None]
    # IoU 1, 1/2, 1/2, 0 and 0.
    assert localisation(box, passes).tolist() == [pytest.approx(0.6)]


def test_iou_is_that_of_torchvision() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.random((2, 60, 2), np.float32), rng.random((2, 60, 2), np.float32)
    one, other = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=2)
    expected = box_iou(from_numpy(one), from_numpy(other)).numpy()
    np.testing.assert_allclose(iou(one[:, :, None], other.T[None]), expected, atol=1e-5)
