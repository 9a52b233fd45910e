import random

import pytest

from shared.cli.oracle import _as_oracle
from shared.models.geometry import Annotation

BOX = Annotation(class_id=1, xyxy=(0.2, 0.3, 0.6, 0.7))


def test_without_noise_the_oracle_says_the_truth_and_that_it_is_an_oracle() -> None:
    said = _as_oracle(BOX, 0.0, random.Random(0), 3)
    assert said == Annotation(class_id=1, xyxy=(0.2, 0.3, 0.6, 0.7), source="oracle")


@pytest.mark.parametrize("noise", [0.05, 0.5, 1.0])
def test_noise_keeps_boxes_valid_and_is_the_same_for_the_same_seed(noise: float) -> None:
    for seed in range(200):
        first = _as_oracle(BOX, noise, random.Random(seed), 3)
        again = _as_oracle(BOX, noise, random.Random(seed), 3)
        assert first == again
        assert 0 <= first.class_id < 3


def test_noise_moves_boxes() -> None:
    moved = [_as_oracle(BOX, 0.1, random.Random(seed), 3).xyxy for seed in range(20)]
    assert len(set(moved)) == 20
