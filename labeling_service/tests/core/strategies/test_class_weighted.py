import pytest

from labeling_service.tests.core.strategies.support import Box, box, choose, ids, image

# Weights by rarity are 3/13 for cats, 6/13 for dogs, 30/13 for owls.


def test_one_unsure_owl_is_worth_more_than_many_unsure_cats() -> None:
    cats = image("cats", *[box(class_id=0, entropy=1.0)] * 4)
    owl = image("owl", box(class_id=2, entropy=0.5))
    chosen = choose("class_weighted_entropy", [cats, owl], 2)
    assert ids(chosen) == ["owl", "cats"]
    assert [c.value for c in chosen] == pytest.approx([15 / 13, 12 / 13], abs=1e-3)
    assert chosen[0].reason == (
        "class-weighted entropy 1.154 nats, sum over 1 box, most of it for 'owl' (weight 2.31)"
    )
    assert ids(choose("entropy:sum", [cats, owl], 2)) == ["cats", "owl"]


def test_a_box_between_two_classes_counts_half_for_each() -> None:
    between = image("a", Box(shares=(0.5, 0.0, 0.5), measures={"entropy": 1.0}))
    [chosen] = choose("class_weighted_entropy", [between], 1)
    assert chosen.value == pytest.approx((3 / 13 + 30 / 13) / 2, abs=1e-3)


def test_difficult_classes_count_more_if_asked_for() -> None:
    # Weights by difficulty are 1/3 for cats, 5/3 for dogs, 1 for owls.
    images = [image(n, box(class_id=i, entropy=0.5)) for i, n in enumerate(["cat", "dog", "owl"])]
    chosen = choose("class_weighted_entropy:difficulty", images, 3)
    assert ids(chosen) == ["dog", "owl", "cat"]
    assert ids(choose("class_weighted_entropy:rarity", images, 3)) == ["owl", "dog", "cat"]


@pytest.mark.parametrize(
    ("aggregation", "value"), [("max", 0.75), ("mean", 0.5), ("sum", 1.5), ("top2", 1.25)]
)
def test_weighted_values_are_aggregated_like_others(aggregation: str, value: float) -> None:
    dogs = image("a", *(box(class_id=1, entropy=v) for v in (0.25, 0.75, 0.5)))
    [chosen] = choose(f"class_weighted_entropy:{aggregation}", [dogs], 1)
    assert chosen.value == pytest.approx(value * 6 / 13, abs=1e-3)


def test_no_boxes_are_worth_nothing_and_come_last() -> None:
    images = [image("a"), image("b", box(entropy=0.1))]
    assert ids(choose("class_weighted_entropy", images, 2)) == ["b", "a"]


def test_diversity_takes_the_far_ones_among_the_valuable() -> None:
    # For two images the eight most valuable count: the farthest of all is the ninth.
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    places = [0.0, 0.1, 0.2, 9.0, 0.3, 0.4, 0.5, 0.6, 50.0]
    images = [
        image(f"{n}", box(entropy=v), at=[place])
        for n, (v, place) in enumerate(zip(values, places, strict=True))
    ]
    assert ids(choose("class_weighted_entropy", images, 2)) == ["0", "1"]
    chosen = choose("class_weighted_diverse", images, 2)
    assert ids(chosen) == ["0", "3"]
    assert chosen[1].reason.endswith("; distance 9.000 to the nearest chosen image")


def test_diversity_of_copies_goes_by_value_in_the_end() -> None:
    images = [image(f"{n}", box(entropy=n / 8)) for n in range(6)]
    assert sorted(ids(choose("class_weighted_diverse", images, 6))) == list("012345")
    assert ids(choose("class_weighted_diverse", images, 1)) == ["5"]


def test_near_duplicates_are_no_candidates_for_diversity() -> None:
    burst = [image(f"burst-{n:02}", box(entropy=0.9), at=[n / 100]) for n in range(20)]
    others = [image(f"other-{n}", box(entropy=0.5 - n / 50), at=[10.0 * n]) for n in range(9)]
    groups = {i.image_id: "burst" for i in burst}
    chosen = choose("class_weighted_diverse", [*burst, *others], 3, groups=groups)
    # Of the burst one is a candidate, and all others are: 80 and then 40 are the farthest.
    assert ids(chosen) == ["burst-00", "other-8", "other-4"]
    every = choose("class_weighted_diverse", [*burst, *others], 29, groups=groups)
    assert len(set(ids(every))) == 29
    assert all(i.startswith("burst") for i in ids(every)[10:])
