import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling_service.tests.core.strategies.support import Box, box, choose, ids, image


def test_an_image_without_boxes_has_the_value_zero_and_says_so() -> None:
    [chosen] = choose("entropy", [image("a")], 1)
    assert chosen.value == 0.0
    assert chosen.reason == "entropy 0.000: no box scores above 0.05"


@pytest.mark.parametrize(
    ("aggregation", "value"), [("max", 0.75), ("mean", 0.5), ("sum", 1.5), ("top2", 1.25)]
)
@pytest.mark.parametrize("measure", ["entropy", "bald", "variance", "localisation"])
def test_boxes_are_aggregated_to_the_image(measure: str, aggregation: str, value: float) -> None:
    boxes = [Box(0.9, measures={measure: v}) for v in (0.25, 0.75, 0.5)]
    [chosen] = choose(f"{measure}:{aggregation}", [image("a", *boxes)], 1)
    assert chosen.value == value


def test_fewer_boxes_than_k_sum_up_to_less() -> None:
    few, many = (image(f"{n}", *[box(entropy=0.25)] * n) for n in (2, 3))
    chosen = choose("entropy:top3", [few, many], 2)
    assert [(c.image_id, c.value) for c in chosen] == [("3", 0.75), ("2", 0.5)]
    assert chosen[1].reason == "entropy 0.500 nats, top 3 of 2 boxes"


@pytest.mark.parametrize("measure", ["margin", "certainty"])
def test_a_low_margin_or_certainty_is_uncertain(measure: str) -> None:
    sure = image("sure", Box(0.9, measures={measure: 0.875}))
    unsure = image("unsure", Box(0.9, measures={measure: 0.125}))
    chosen = choose(measure, [sure, unsure], 2)
    assert [(c.image_id, c.value) for c in chosen] == [("unsure", 0.875), ("sure", 0.125)]
    assert chosen[0].reason == f"1 - {measure} 0.875, max over 1 box"


@pytest.mark.parametrize("measure", ["entropy", "bald", "variance", "localisation"])
def test_a_high_value_of_the_others_is_uncertain(measure: str) -> None:
    sure = image("sure", Box(measures={measure: 0.25}))
    unsure = image("unsure", Box(measures={measure: 0.5}))
    assert ids(choose(measure, [sure, unsure], 2)) == ["unsure", "sure"]


def test_an_image_that_other_views_contradict_is_uncertain() -> None:
    steady, flickering = image("s", box(inconsistency=0.1)), image("f", box(inconsistency=0.9))
    [chosen] = choose("inconsistency", [steady, flickering], 1)
    assert (chosen.image_id, chosen.reason) == ("f", "inconsistency 0.900, max over 1 box")


def test_boxes_with_a_score_of_at_most_five_percent_do_not_count() -> None:
    noise = image("noise", box(0.05, entropy=1.0), box(0.001, entropy=1.0))
    real = image("real", box(0.3, entropy=0.5), box(0.001, entropy=1.0))
    chosen = choose("entropy:sum", [noise, real], 2)
    assert [(c.image_id, c.value) for c in chosen] == [("real", 0.5), ("noise", 0.0)]


def test_the_reason_has_measure_value_and_boxes() -> None:
    [chosen] = choose("bald", [image("a", *(box(bald=v) for v in (0.25, 0.5, 0.125)))], 1)
    assert chosen.reason == "BALD 0.500 nats, max over 3 boxes"


def test_class_weighted_sums_boxes_by_the_rarity_of_their_class() -> None:
    # 9 cats, 4 dogs and no owl are labelled: 1/10, 1/5 and 1, of mean 1.
    cats = image("cats", *[Box(class_id=0, measures={"bald": 0.5})] * 4)
    owl = image("owl", Box(class_id=2, measures={"bald": 0.5}))
    chosen = choose("bald:class_weighted", [cats, owl], 2)
    assert [c.image_id for c in chosen] == ["owl", "cats"]
    assert [c.value for c in chosen] == pytest.approx([0.5 * 30 / 13, 2.0 * 3 / 13])
    assert chosen[0].reason == (
        "BALD 1.154 nats, class-weighted sum over 1 box, most of it for 'owl' (weight 2.31)"
    )


def test_ties_go_by_image_id() -> None:
    images = [image(i, box(entropy=0.5)) for i in "cab"]
    assert ids(choose("entropy:mean", images, 2)) == ["a", "b"]


@settings(max_examples=50)
@given(
    values=st.lists(st.floats(0, 2, width=32), min_size=1, max_size=20),
    n=st.integers(1, 25),
    aggregation=st.sampled_from(["max", "mean", "sum", "top2"]),
)
def test_chosen_images_are_at_least_as_uncertain_as_the_others(
    values: list[float], n: int, aggregation: str
) -> None:
    text = f"entropy:{aggregation}"
    images = [image(f"{i:03}", box(entropy=v)) for i, v in enumerate(values)]
    chosen = choose(text, images, n)
    assert len(chosen) == len(set(ids(chosen))) == min(n, len(images))
    left = [v for i, v in enumerate(values) if f"{i:03}" not in ids(chosen)]
    assert min(c.value or 0.0 for c in chosen) >= max(left, default=0.0)
    assert chosen == choose(text, images[::-1], n)
