from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.app.core.strategies.taking import Budget, take
from labeling_service.app.core.strategies.uniform import Uniform
from labeling_service.app.services.scored_pool import unread


def drawn(ids: set[str], n: int, seed: int) -> list[str]:
    pool = unread(dict.fromkeys(ids)).pool
    budget = Budget(n)
    taken = take(Uniform().order(pool, budget.n_images(pool), seed), pool, budget)
    return [pool.ids[c.row] for c in taken]


def test_nothing_is_chosen_from_nothing() -> None:
    assert drawn(set(), 3, seed=0) == []


def test_the_reason_says_how_it_was_drawn() -> None:
    pool = unread(dict.fromkeys("abc")).pool
    choices = take(Uniform().order(pool, 2, 7), pool, Budget(2))
    # Of a budget in boxes nobody knows beforehand how many images it pays for.
    assert [c.reason for c in choices] == ["random draw from 3 images (seed 7)"] * 2
    assert [c.value for c in choices] == [None, None]


def test_a_seed_means_the_same_images_for_ever() -> None:
    # Paired comparisons rest on it: the draw of the first release, 40 images and seed 1.
    ids = {f"{i:02}" for i in range(40)}
    assert drawn(ids, 5, seed=1) == ["09", "23", "17", "28", "00"]


@settings(max_examples=50)
@given(
    ids=st.sets(st.text(min_size=1, max_size=4), max_size=30),
    n=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_the_draw_is_the_start_of_one_permutation_of_the_sorted_ids(
    ids: set[str], n: int, seed: int
) -> None:
    permuted = np.random.default_rng(seed).permutation(len(ids))[:n]
    assert drawn(ids, n, seed) == [sorted(ids)[i] for i in permuted]


def test_every_image_is_drawn_about_equally_often() -> None:
    ids = {str(i) for i in range(10)}
    counts = Counter(i for seed in range(1000) for i in drawn(ids, 2, seed))
    assert set(counts) == ids
    # 200 each; five standard deviations of the binomial are 63.
    assert max(abs(n - 200) for n in counts.values()) < 63
