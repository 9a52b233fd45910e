from itertools import islice
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labeling_service.app.core.strategies import class_balanced
from labeling_service.app.core.strategies.class_balanced import ClassBalanced
from labeling_service.app.core.strategies.pool import FloatArray, Pool
from labeling_service.tests.core.strategies.support import CLASSES, Box, box, choose, ids, image

# 9 cats, 4 dogs and no owl are labelled.


def test_the_classes_are_evened_out_counting_what_is_chosen_already() -> None:
    images = [
        image("owl-1", box(class_id=2)),
        image("owl-2", box(class_id=2)),
        image("owl-3", box(class_id=2)),
        image("dogs", box(class_id=1), box(class_id=1)),
        image("cats", *[box(class_id=0)] * 3),
    ]
    chosen = choose("class_balanced", images, 5)
    # One more owl adds log 2, log 3/2, log 4/3; two dogs log 7/5; three cats log 13/10.
    assert ids(chosen) == ["owl-1", "owl-2", "dogs", "owl-3", "cats"]
    expected = [log(2), log(3 / 2), log(7 / 5), log(4 / 3), log(13 / 10)]
    assert [c.value for c in chosen] == pytest.approx(expected, abs=1e-3)
    assert chosen[1].reason == (
        "gain 0.405: about 1.0 boxes of 'owl', of which 1 are labelled or chosen"
    )


def test_an_unsure_box_counts_for_each_class_that_it_may_be() -> None:
    sure = image("sure", box(class_id=2))
    half = image("half", Box(shares=(0.5, 0.0, 0.5)))
    chosen = choose("class_balanced", [half, sure], 2)
    assert ids(chosen) == ["sure", "half"]


def test_boxes_that_nobody_would_be_shown_do_not_count() -> None:
    faint = image("faint", *[box(0.2, class_id=2)] * 5)
    dog = image("dog", box(0.25, class_id=1))
    chosen = choose("class_balanced", [dog, faint], 2)
    assert ids(chosen) == ["dog", "faint"]
    assert chosen[1].reason == "gain 0.000: no box is expected"


def test_a_near_duplicate_adds_no_labels() -> None:
    images = [
        *(image(f"owl-{n}", *[box(class_id=2)] * 9) for n in range(5)),
        image("owl-other", box(class_id=2)),
        image("dog", box(class_id=1)),
    ]
    burst = {f"owl-{n}": "burst" for n in range(5)}
    chosen = choose("class_balanced", images, 4, groups=burst)
    # Nine owls, four dogs: a dog adds log 6/5, an owl log 11/10; then a second of the burst.
    assert ids(chosen) == ["owl-0", "dog", "owl-other", "owl-1"]
    assert [c.value for c in chosen] == pytest.approx(
        [log(10), log(6 / 5), log(11 / 10), log(20 / 11)], abs=1e-3
    )


def pool_of(added: FloatArray, groups: list[str | None] | None = None) -> Pool:
    nothing = np.zeros((len(added), 0), np.float32)
    return Pool(
        ids=[f"{n:07}" for n in range(len(added))],
        groups=groups or [None] * len(added),
        embeddings=nothing,
        summaries=added,
        expected_boxes=np.ones(len(added), np.int64),
        labelled=nothing,
    )


def plain_greedy(added: FloatArray) -> list[tuple[int, float]]:
    """The same with every gain anew for every choice."""
    labels = np.array(CLASSES.n_labels, np.float64)
    left = list(range(len(added)))
    chosen = []
    while left:
        gains = np.log1p(added[left] / (1 + labels)).sum(axis=1)
        best = int(gains.argmax())
        chosen.append((left.pop(best), float(gains[best])))
        labels += added[chosen[-1][0]]
    return chosen


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (30, 3), elements=st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0])))
def test_the_choice_is_that_of_the_plain_greedy(added: FloatArray) -> None:
    found = ClassBalanced(CLASSES).order(pool_of(added), 30, 0)
    assert [(c.row, c.value) for c in found] == plain_greedy(added)


def test_gains_are_renewed_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_balanced, "BLOCK_ROWS", 7)
    added = np.random.default_rng(0).poisson(1.0, (300, 3)).astype(np.float32)
    found = ClassBalanced(CLASSES).order(pool_of(added), 300, 0)
    assert [(c.row, c.value) for c in found] == plain_greedy(added)


def test_many_equal_images_take_few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    log1p = np.log1p

    def counted(values: FloatArray) -> FloatArray:
        calls.append(len(values))
        return np.asarray(log1p(values))

    monkeypatch.setattr(np, "log1p", counted)
    order = ClassBalanced(CLASSES).order(pool_of(np.ones((20_000, 3), np.float32)), 20, 0)
    assert [c.row for c in islice(order, 20)] == list(range(20))
    assert len(calls) < 200
