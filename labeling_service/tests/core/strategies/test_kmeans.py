import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.tests.core.strategies.support import choose, ids, image


def test_each_group_gives_the_image_nearest_to_its_centre() -> None:
    pool = [
        image("a-left", at=(-1.0, 0.0)),
        image("a-centre", at=(0.0, 0.0)),
        image("a-right", at=(1.0, 0.0)),
        image("b-left", at=(98.0, 0.0)),
        image("b-centre", at=(100.0, 0.0)),
        image("b-far", at=(101.0, 0.0)),
        image("b-near", at=(100.25, 0.0)),
    ]
    chosen = choose("kmeans", pool, 2)
    assert ids(chosen) == ["b-centre", "a-centre"]
    assert chosen[1].value == pytest.approx(0.0, abs=1e-4)
    assert chosen[1].reason == "nearest to the centre of a cluster of 3 images (distance 0.000)"


def test_a_pool_within_the_budget_is_taken_whole() -> None:
    chosen = choose("kmeans", [image("b", at=[1.0]), image("a", at=[0.0])], 5)
    assert ids(chosen) == ["a", "b"]
    assert chosen[0].reason == "the whole pool of 2 images fits the budget"


def test_copies_fill_the_budget_without_an_image_twice() -> None:
    chosen = choose("kmeans", [image(f"{i}", at=[float(i % 2)]) for i in range(6)], 4)
    assert len(set(ids(chosen))) == 4
    assert chosen[-1].reason == "distance 0.000 to the nearest chosen image"


@settings(max_examples=20, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)),
        min_size=1,
        max_size=15,
    ),
    n=st.integers(1, 8),
    seed=st.integers(0, 100),
)
def test_the_choice_is_the_same_for_any_order_and_has_no_image_twice(
    points: list[tuple[float, float]], n: int, seed: int
) -> None:
    pool = [image(f"{i:02}", at=point) for i, point in enumerate(points)]
    chosen = choose("kmeans", pool, n, seed=seed)
    assert len(set(ids(chosen))) == len(chosen) == min(n, len(pool))
    assert chosen == choose("kmeans", pool[::-1], n, seed=seed)
