from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.app.core.strategies.uniform import choose_randomly


def test_nothing_is_chosen_from_nothing() -> None:
    assert choose_randomly([], 3, seed=0) == []


def test_the_reason_says_how_it_was_drawn() -> None:
    chosen = choose_randomly(["a", "b", "c"], 2, seed=7)
    assert [c.reason for c in chosen] == ["random draw of 2 from 3 images (seed 7)"] * 2
    assert [c.value for c in chosen] == [None, None]


@settings(max_examples=50)
@given(
    ids=st.sets(st.text(min_size=1, max_size=4), max_size=30),
    n=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_a_draw_has_no_image_twice_and_does_not_depend_on_the_order(
    ids: set[str], n: int, seed: int
) -> None:
    chosen = [c.image_id for c in choose_randomly(sorted(ids), n, seed)]
    assert len(chosen) == len(set(chosen)) == min(n, len(ids))
    assert set(chosen) <= ids
    assert chosen == [c.image_id for c in choose_randomly(sorted(ids, reverse=True), n, seed)]


def test_every_image_is_drawn_about_equally_often() -> None:
    ids = [str(i) for i in range(10)]
    drawn = Counter(c.image_id for seed in range(1000) for c in choose_randomly(ids, 2, seed))
    assert set(drawn) == set(ids)
    # 200 each; five standard deviations of the binomial are 63.
    assert max(abs(n - 200) for n in drawn.values()) < 63
