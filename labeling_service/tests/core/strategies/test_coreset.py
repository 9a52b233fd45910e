from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labeling_service.app.core.strategies.spreading import farthest_first
from labeling_service.tests.core.strategies.support import choose, ids, image

NOWHERE = np.zeros((0, 2), np.float32)


def radius(points: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return float(distances.min(axis=1).max())


def test_nothing_is_chosen_from_nothing() -> None:
    assert choose("coreset", [], 3, labelled=[image("labelled")]) == []


def test_the_farthest_from_the_labelled_comes_first() -> None:
    pool = [image("near", at=[1.0]), image("far", at=[10.0]), image("middle", at=[6.0])]
    chosen = choose("coreset", pool, 3, labelled=[image("labelled", at=[0.0])])
    assert [(c.image_id, c.value) for c in chosen] == [
        ("far", 10.0),
        ("middle", 4.0),
        ("near", 1.0),
    ]
    assert chosen[0].reason == "distance 10.000 to the nearest labelled or chosen image"


def test_without_labels_the_image_nearest_to_the_mean_comes_first() -> None:
    pool = [image("left", at=[0.0]), image("centre", at=[4.0]), image("right", at=[8.0])]
    first, *_ = choose("coreset", pool, 2)
    assert first.image_id == "centre"
    assert first.reason == "nearest to the mean of 3 images (distance 0.000)"


def test_copies_are_chosen_last_and_never_twice() -> None:
    pool = [image("a", at=[1.0]), image("b", at=[1.0]), image("c", at=[5.0])]
    chosen = choose("coreset", pool, 5)
    assert sorted(ids(chosen)) == ["a", "b", "c"]
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
    order = [i for i, _ in farthest_first(array.astype(np.float32), NOWHERE, n)]
    assert sorted(order) == list(range(len(points)))
    chosen = order[:n]
    best = min(
        radius(array, array[list(some)]) for some in combinations(range(len(array)), len(chosen))
    )
    assert radius(array, array[chosen]) <= 2 * best + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=12, unique=True))
def test_asking_for_more_goes_on_where_it_was(values: list[float]) -> None:
    points = np.array(values, np.float32)[:, None]
    at_once = list(farthest_first(points, points[:0], len(points)))
    assert list(farthest_first(points, points[:0], 2)) == at_once


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_the_choice_does_not_depend_on_the_order(order: list[int]) -> None:
    pool = [image(str(i), at=(float(i % 3), float(i))) for i in range(6)]
    labelled = [image("l1", at=(0.0, 0.0)), image("l2", at=(2.0, 9.0))]
    assert choose("coreset", [pool[i] for i in order], 4, labelled=labelled) == choose(
        "coreset", pool, 4, labelled=labelled[::-1]
    )
