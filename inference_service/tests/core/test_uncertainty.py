import numpy as np
import pytest

from inference_service.app.core.uncertainty import uncertainty


def test_no_boxes_have_no_uncertainty() -> None:
    found = uncertainty(np.zeros((0, 4, 10), np.float32))
    assert found.entropy.shape == found.margin.shape == found.bald.shape == (0,)


def test_values_are_those_worked_out_by_hand() -> None:
    sure = [[1.0, 1.0], [0.0, 0.0]]
    noisy = [[0.5, 0.5], [0.5, 0.5]]
    disagreeing = [[1.0, 0.0], [0.0, 1.0]]
    found = uncertainty(np.array([sure, noisy, disagreeing], np.float32))
    ln2 = pytest.approx(np.log(2))
    assert found.entropy.tolist() == [0, ln2, ln2]
    assert found.margin.tolist() == [1, 0, 0]
    assert found.bald.tolist() == [0, pytest.approx(0), ln2]
