from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labeling_service.app.core.strategies.candidates import Candidate
from labeling_service.app.core.strategies.coreset import choose_coreset, farthest_first

NONE = np.zeros(0, np.float32)


def candidate(image_id: str, *embedding: float) -> Candidate:
    return Candidate(image_id, NONE, NONE, NONE, NONE, np.array(embedding, np.float32))


def radius(points: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return float(distances.min(axis=1).max())


def test_nothing_is_chosen_from_nothing() -> None:
    assert choose_coreset([], [candidate("l", 0.0)], 3) == []


def test_the_farthest_from_the_labelled_comes_first() -> None:
    pool = [candidate("near", 1.0), candidate("far", 10.0), candidate("middle", 6.0)]
    chosen = choose_coreset(pool, [candidate("labelled", 0.0)], 3)
    assert [(c.image_id, c.value) for c in chosen] == [
        ("far", 10.0),
        ("middle", 4.0),
        ("near", 1.0),
    ]
    assert chosen[0].reason == "distance 10.000 to the nearest labelled or chosen image"


def test_without_labels_the_image_nearest_to_the_mean_comes_first() -> None:
    pool = [candidate("left", 0.0), candidate("centre", 4.0), candidate("right", 8.0)]
    first, *_ = choose_coreset(pool, [], 2)
    assert first.image_id == "centre"
    assert first.reason == "nearest to the mean of 3 images (distance 0.000)"


def test_copies_are_chosen_last_and_never_twice() -> None:
    pool = [candidate("a", 1.0), candidate("b", 1.0), candidate("c", 5.0)]
    chosen = choose_coreset(pool, [], 5)
    assert sorted(c.image_id for c in chosen) == ["a", "b", "c"]
    assert chosen[-1].value == 0.0


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(-10, 10, width=32), st.floats(-10, 10, width=32)),
        min_size=2,
        max_size=8,
    ),
    n=st.integers(1, 3),
)
def test_the_cover_is_at_most_twice_as_wide_as_the_best_one(
    points: list[tuple[float, float]], n: int
) -> None:
    array = np.array(points, np.float64)
    chosen = [i for i, _ in farthest_first(array, None, n)]
    assert len(chosen) == len(set(chosen)) == min(n, len(points))
    best = min(
        radius(array, array[list(some)]) for some in combinations(range(len(array)), len(chosen))
    )
    assert radius(array, array[chosen]) <= 2 * best + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_the_choice_does_not_depend_on_the_order(order: list[int]) -> None:
    pool = [candidate(str(i), float(i % 3), float(i)) for i in range(6)]
    labelled = [candidate("l1", 0.0, 0.0), candidate("l2", 2.0, 9.0)]
    assert choose_coreset([pool[i] for i in order], labelled, 4) == choose_coreset(
        pool, labelled[::-1], 4
    )
