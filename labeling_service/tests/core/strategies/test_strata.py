from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import chisquare

from labeling_service.app.core.strategies.strata import Strata


def sample(images: Sequence[tuple[str, str]], room: int, seed: int = 0) -> dict[str, str]:
    strata, kept = Strata(room, seed), {}
    for image_id, stratum in images:
        kept[image_id] = stratum
        left = strata.offer(image_id, stratum)
        if left is not None:
            del kept[left]
        assert len(kept) <= room
    return kept


def pool(**sizes: int) -> list[tuple[str, str]]:
    return [(f"{name}{i}", name) for name, size in sizes.items() for i in range(size)]


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_small_strata_stay_whole_and_the_others_share_what_is_left(seed: int) -> None:
    images = pool(empty=700, cow=200, owl=3)
    np.random.default_rng(seed % 97).shuffle(images)
    assert Counter(sample(images, 103, seed).values()) == {"empty": 50, "cow": 50, "owl": 3}


def test_a_pool_that_fits_stays_whole() -> None:
    images = pool(a=5, b=2)
    assert sample(images, 7) == dict(images)


def test_within_a_stratum_every_image_is_as_likely() -> None:
    images = pool(a=40)
    counts: Counter[str] = Counter()
    for seed in range(800):
        counts.update(sample(images, 10, seed).keys())
    assert chisquare([counts[image_id] for image_id, _ in images]).pvalue > 0.001


def test_the_same_seed_draws_the_same_and_another_others() -> None:
    images = pool(a=300, b=200)
    assert sample(images, 50, 4) == sample(images, 50, 4)
    assert sample(images, 50, 4) != sample(images, 50, 5)
    # The order in which they come decides nothing within a stratum.
    one, other = sample(images[:300], 20), sample(images[:300][::-1], 20)
    assert one == other
