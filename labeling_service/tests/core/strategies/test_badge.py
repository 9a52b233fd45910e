from math import sqrt

import pytest

from labeling_service.tests.core.strategies.support import box, choose, ids, image

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_covers_every_kind_of_gradient_before_any_copy(seed: int) -> None:
    images = [
        *(image(f"cat-{n}", box(class_id=0), at=(1.0, 0.0)) for n in range(5)),
        *(image(f"dog-{n}", box(class_id=1), at=(1.0, 0.0)) for n in range(3)),
        *(image(f"elsewhere-{n}", box(class_id=0), at=(0.0, 1.0)) for n in range(2)),
        *(image(f"sure-{n}", box(1.0, class_id=0), at=(1.0, 0.0)) for n in range(9)),
        *(image(f"empty-{n}", at=(1.0, 0.0)) for n in range(9)),
    ]
    chosen = choose("badge", images, 3, seed=seed)
    assert {i.split("-")[0] for i in ids(chosen)} == {"cat", "dog", "elsewhere"}
    # p is half cat, half background: (p - guess) has the length sqrt(1/2).
    assert chosen[0].value == pytest.approx(sqrt(1 / 2), abs=1e-3)
    assert chosen[1].value == pytest.approx(sqrt(1 / 2), abs=1e-3)


def test_a_gradient_twice_as_long_is_drawn_four_times_as_often() -> None:
    images = [
        image("long", box(class_id=0), at=(2.0, 0.0)),
        image("short", box(class_id=1), at=(1.0, 0.0)),
    ]
    first = [ids(choose("badge", images, 1, seed=seed))[0] for seed in range(400)]
    # 320 expected; four standard deviations of the binomial are 32.
    assert abs(first.count("long") - 320) < 32


def test_several_boxes_of_a_class_add_up() -> None:
    images = [image("two", box(), box(), at=(1.0, 0.0))]
    [chosen] = choose("badge", images, 1)
    assert chosen.value == pytest.approx(2 * sqrt(1 / 2), abs=1e-3)
    assert chosen.reason == (
        f"gradient {chosen.value:.3f}, most of it for 'cat', {chosen.value:.3f} from every "
        "chosen one"
    )


def test_what_teaches_nothing_comes_last_by_id() -> None:
    images = [image("b"), image("a"), image("c", box(), at=(1.0, 0.0))]
    chosen = choose("badge", images, 3)
    assert ids(chosen) == ["c", "a", "b"]
    assert chosen[1].reason == "gradient 0.000 from zero or from a chosen one"
