import math
from collections import Counter

import numpy as np
import pytest
import torch

from training_service.app.services.sampling import FullBatchSampler, repeat_factors


def test_no_images_have_no_factors() -> None:
    assert repeat_factors([]).shape == (0,)


def test_an_image_counts_by_its_rarest_class() -> None:
    factors = repeat_factors([[0], [0, 0, 1], [0, 1], [0, 2], []])
    expected = [math.sqrt(5 / 4), math.sqrt(5 / 2), math.sqrt(5 / 2), math.sqrt(5), 1]
    assert factors == pytest.approx(expected)


def test_many_boxes_of_a_class_on_one_image_do_not_make_it_common() -> None:
    np.testing.assert_allclose(repeat_factors([[3] * 50, [4]]), [math.sqrt(2), math.sqrt(2)])


@pytest.mark.parametrize(("n_images", "n_draws"), [(1, 80), (10, 80), (80, 80), (81, 84)])
def test_every_batch_is_full_and_images_are_seen_equally_often(n_images: int, n_draws: int) -> None:
    sampler = FullBatchSampler(n_images, 4, torch.Generator().manual_seed(0), min_batches=20)
    drawn = Counter(sampler)
    assert len(sampler) == drawn.total() == n_draws
    assert set(drawn) == set(range(n_images))
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_the_generator_decides_the_order() -> None:
    orders = [
        list(FullBatchSampler(30, 4, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_a_rare_class_is_seen_more_often() -> None:
    factors = repeat_factors([[0]] * 90 + [[1]] * 10)
    generator = torch.Generator().manual_seed(0)
    sampler = FullBatchSampler(100, 4, generator, min_batches=1000, factors=factors)
    rare = sum(index >= 90 for index in sampler) / len(sampler)
    # sqrt(10) * 10 against sqrt(10 / 9) * 90
    assert rare == pytest.approx(0.25, abs=0.03)
