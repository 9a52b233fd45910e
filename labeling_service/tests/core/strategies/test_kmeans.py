import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.app.core.strategies.candidates import Candidate
from labeling_service.app.core.strategies.kmeans import choose_kmeans

NONE = np.zeros(0, np.float32)


def candidate(image_id: str, *embedding: float) -> Candidate:
    return Candidate(image_id, NONE, NONE, NONE, NONE, np.array(embedding, np.float32))


def test_nothing_is_chosen_from_nothing() -> None:
    assert choose_kmeans([], 3, seed=0) == []


def test_each_group_gives_the_image_nearest_to_its_centre() -> None:
    pool = [
        candidate("a-left", -1.0, 0.0),
        candidate("a-centre", 0.0, 0.0),
        candidate("a-right", 1.0, 0.0),
        candidate("b-left", 98.0, 0.0),
        candidate("b-centre", 100.0, 0.0),
        candidate("b-far", 101.0, 0.0),
        candidate("b-near", 100.25, 0.0),
    ]
    chosen = choose_kmeans(pool, 2, seed=0)
    assert [c.image_id for c in chosen] == ["b-centre", "a-centre"]
    assert chosen[1].value == 0.0
    assert chosen[1].reason == "nearest to the centre of a cluster of 3 images (distance 0.000)"


def test_a_pool_within_the_budget_is_taken_whole() -> None:
    chosen = choose_kmeans([candidate("b", 1.0), candidate("a", 0.0)], 5, seed=0)
    assert [c.image_id for c in chosen] == ["a", "b"]
    assert chosen[0].reason == "the whole pool of 2 images fits the budget"


def test_copies_fill_the_budget_without_an_image_twice() -> None:
    pool = [candidate(f"{i}", float(i % 2)) for i in range(6)]
    chosen = choose_kmeans(pool, 4, seed=0)
    assert len({c.image_id for c in chosen}) == 4
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
    pool = [candidate(f"{i:02}", *point) for i, point in enumerate(points)]
    chosen = choose_kmeans(pool, n, seed)
    assert len({c.image_id for c in chosen}) == len(chosen) == min(n, len(pool))
    assert chosen == choose_kmeans(pool[::-1], n, seed)
