from math import log

import pytest

from labeling_service.tests.core.strategies.support import Box, box, choose, ids, image

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
