from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labeling_service.app.core.strategies.uniform import Uniform
from labeling_service.app.models.errors import EmptyPool, NothingExpected
from labeling_service.app.services.scored_pool import unread
from labeling_service.app.services.selection import Selector, choose
from labeling_service.tests.support import BOX, World, image_id, image_view, scored_image
from shared.models.data import Split
from shared.models.geometry import Annotation
from shared.models.rounds import RoundPlan
from shared.models.strategies import STRATEGY_NAMES, RandomStrategy, parse_strategy
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, write_shard

THREE = Annotation(class_id=0, xyxy=(0.1, 0.2, 0.3, 0.4))


def write(store: ObjectStore, version: int | None, images: list[ScoredImage]) -> None:
    prefix = f"projects/digits/predictions/v{version or 0}"
    write_shard(store, f"{prefix}/train-0.parquet", images[::2])
    write_shard(store, f"{prefix}/train-1.parquet", images[1::2])


@pytest.fixture
def selector(world: World, store: ObjectStore) -> Selector:
    return Selector(world.database, store, world.gateway, world.labelling)


def selecting(world: World, **request: Any) -> str:
    round_id = world.start(**request).id
    if world.round(round_id).state == "scoring":
        world.finish(round_id, "score")
        world.reconciler.reconcile(round_id)
    return round_id


def test_entropy_chooses_the_most_uncertain_of_the_pool_with_reasons_and_boxes(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    images = [scored_image(n, [{"score": 0.5, "entropy": n / 16}]) for n in range(10)]
    images[9] = scored_image(
        9, [{"score": 0.5, "entropy": 0.5}, {"score": 0.75, "bald": 0.25}, {"score": 0.2}]
    )
    write(store, 4, images)
    # The most uncertain of all is labelled meanwhile, the next is held out.
    world.gateway.pool[8] = image_view(8, labelled=True)
    world.gateway.pool[7] = image_view(7, "val")
    round_id = selecting(world, strategy={"strategy": "entropy"}, budget=3)
    result = selector.select(round_id)
    assert (result.n_selected, result.note) == (3, None)
    selected = world.round(round_id).selected
    assert [(s.image_id, s.rank, s.value) for s in selected] == [
        (image_id(9), 1, 0.5),
        (image_id(6), 2, 0.375),
        (image_id(5), 3, 0.3125),
    ]
    assert selected[0].reason == "entropy 0.500 nats, max over 3 boxes"
    first, second, _ = world.tasks.list("digits", round_id)
    assert (first.image_id, first.reason) == (image_id(9), selected[0].reason)
    assert [(d.class_id, d.score, d.uncertainty) for d in first.pre_annotations] == [
        (1, 0.75, 0.25),
        (1, 0.5, 0.0),
    ]
    assert first.pre_annotations[0].xyxy == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert first.pre_annotations[0].class_scores == (0.1875, 0.75)
    assert len(second.pre_annotations) == 1


def test_selecting_again_changes_nothing_even_when_the_pool_has_changed(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    write(store, 4, [scored_image(n, [{"score": 0.5}]) for n in range(10)])
    round_id = selecting(world, budget=3, seed=1)
    first = selector.select(round_id)
    before = world.round(round_id), world.tasks.list("digits", round_id)
    world.gateway.pool = [image_view(n) for n in range(50, 60)]
    assert selector.select(round_id) == first
    assert (world.round(round_id), world.tasks.list("digits", round_id)) == before


def test_a_death_between_choice_and_tasks_gives_the_same_tasks_later(
    world: World, selector: Selector, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_id = selecting(world, budget=3)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.labelling, "open_round", die)
        with pytest.raises(KeyboardInterrupt):
            selector.select(round_id)
    chosen = [s.image_id for s in world.round(round_id).selected]
    world.gateway.pool = world.gateway.pool[::2]
    selector.select(round_id)
    assert [t.image_id for t in world.tasks.list("digits", round_id)] == chosen


def test_at_cold_start_kmeans_looks_at_the_base_model_and_draws_no_boxes(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    write(
        store,
        None,
        [scored_image(n, [{"score": 0.9}], embedding=(100.0 * (n % 2), n / 8)) for n in range(10)],
    )
    round_id = selecting(world, strategy={"strategy": "kmeans"}, budget=2)
    assert selector.select(round_id).n_selected == 2
    tasks = world.tasks.list("digits", round_id)
    assert {t.image_id for t in tasks} == {image_id(4), image_id(5)}
    assert {t.pre_annotations for t in tasks} == {()}


def test_the_core_set_starts_from_the_labelled_images(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    world.gateway.pool[0] = image_view(0, labelled=True)
    write(store, 4, [scored_image(n, embedding=(float(n), 0.0)) for n in range(10)])
    round_id = selecting(world, strategy={"strategy": "coreset"}, budget=2)
    selector.select(round_id)
    selected = world.round(round_id).selected
    assert [(s.image_id, s.value) for s in selected] == [(image_id(9), 9.0), (image_id(4), 4.0)]


def test_a_skipped_image_is_not_a_labelled_one(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    write(store, 4, [scored_image(n, embedding=(float(n), 0.0)) for n in range(10)])
    first = selecting(world, strategy={"strategy": "coreset"}, budget=1)
    selector.select(first)
    world.finish(first, "select")
    world.reconciler.reconcile(first)
    skipped = world.lease()
    # Nothing is labelled, so the first is the nearest to the mean of 0 to 9; ties by image id.
    assert skipped.image_id in {image_id(4), image_id(5)}
    world.answer(skipped.id, skip=True)
    world.rounds.cancel("digits", first)
    second = selecting(world, strategy={"strategy": "coreset"}, budget=1)
    selector.select(second)
    [chosen] = world.round(second).selected
    assert chosen.image_id != skipped.image_id
    assert chosen.reason.startswith("nearest to the mean of 9 images")


def test_a_budget_in_boxes_counts_what_the_model_expects(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    images = [
        scored_image(n, [{"score": 0.5, "entropy": n / 8}] * (n % 3 + 1) + [{"score": 0.2}])
        for n in range(10)
    ]
    write(store, 4, images)
    round_id = selecting(world, strategy={"strategy": "entropy"}, budget=5, budget_unit="boxes")
    selector.select(round_id)
    selected = world.round(round_id).selected
    # The most uncertain are 9, 8, 7, … with 1, 3, 2, … boxes that an annotator would be shown.
    assert [(s.image_id, s.expected_boxes) for s in selected] == [
        (image_id(9), 1),
        (image_id(8), 3),
        (image_id(7), 2),
    ]


def test_a_random_round_by_boxes_reads_what_the_model_expects(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    write(store, 4, [scored_image(n, [{"score": 0.5}] * 2) for n in range(10)])
    round_id = selecting(world, budget=7, budget_unit="boxes", seed=3)
    selector.select(round_id)
    selected = world.round(round_id).selected
    assert [s.expected_boxes for s in selected] == [2, 2, 2, 2]


def test_a_budget_larger_than_the_pool_takes_everything_and_says_so(
    world: World, selector: Selector
) -> None:
    round_id = selecting(world, budget=40)
    note = "budget 40, but the pool has 10 images: all taken"
    assert selector.select(round_id).note == note
    assert world.round(round_id).note == note
    assert len(world.round(round_id).selected) == 10


def test_images_that_came_after_the_scoring_are_left_out_and_counted(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    write(store, 4, [scored_image(n, [{"score": 0.5}]) for n in range(8)])
    round_id = selecting(world, strategy={"strategy": "bald"}, budget=3)
    result = selector.select(round_id)
    assert result.n_selected == 3
    assert result.note == "2 of 10 images came after the scoring: left out"


def test_a_held_out_round_chooses_from_its_split_alone(world: World, selector: Selector) -> None:
    for n in (1, 3, 5):
        world.gateway.pool[n] = image_view(n, "test")
    round_id = selecting(world, purpose="test", budget=2)
    selector.select(round_id)
    chosen = {s.image_id for s in world.round(round_id).selected}
    assert len(chosen) == 2
    assert chosen < {image_id(1), image_id(3), image_id(5)}


def test_a_pool_that_ran_empty_is_an_error(world: World, selector: Selector) -> None:
    round_id = selecting(world)
    world.gateway.pool = [image_view(1, labelled=True)]
    with pytest.raises(EmptyPool, match="project 'digits' has no unlabelled image"):
        selector.select(round_id)


def test_an_image_that_was_skipped_is_not_chosen_again_unless_nothing_else_is_left(
    world: World, selector: Selector
) -> None:
    world.gateway.pool = world.gateway.pool[:3]
    first = selecting(world, budget=3)
    selector.select(first)
    world.finish(first, "select")
    world.reconciler.reconcile(first)
    skipped = world.lease()
    world.answer(skipped.id, skip=True)
    world.rounds.cancel("digits", first)
    second = selecting(world, budget=3)
    selector.select(second)
    chosen = {s.image_id for s in world.round(second).selected}
    assert chosen == {image.id for image in world.gateway.pool} - {skipped.image_id}
    world.rounds.cancel("digits", second)
    world.gateway.pool = [i for i in world.gateway.pool if i.id == skipped.image_id]
    third = selecting(world, budget=3)
    selector.select(third)
    assert [s.image_id for s in world.round(third).selected] == [skipped.image_id]


def test_a_pool_that_nobody_scored_is_an_error(world: World, selector: Selector) -> None:
    round_id = selecting(world, strategy={"strategy": "kmeans"})
    with pytest.raises(EmptyPool, match="none of the 10 unlabelled images was scored"):
        selector.select(round_id)


def test_tasks_of_a_round_cancelled_meanwhile_are_closed(world: World, selector: Selector) -> None:
    round_id = selecting(world, budget=2)
    world.rounds.cancel("digits", round_id)
    selector.select(round_id)
    assert {t.state for t in world.tasks.list("digits", round_id)} == {"closed"}


@pytest.mark.parametrize("unit", ["images", "boxes"])
@pytest.mark.parametrize("strategy", [*STRATEGY_NAMES, "0.8 entropy:sum + 0.2 random"])
def test_every_strategy_stays_in_the_pool_and_gives_every_image_a_reason(
    world: World, store: ObjectStore, selector: Selector, strategy: str, unit: str
) -> None:
    world.gateway.production = 4
    boxes = [[{"score": 0.5, "entropy": n / 16}] * (1 + n % 2) for n in range(16)]
    # Scored before they were labelled or held out: the shards call them all train.
    images = [
        scored_image(n, boxes[n], embedding=(float(n), float(n % 3))) for n in range(len(boxes))
    ]
    write(store, 4, images)
    held_out: dict[int, Split] = {3: "val", 6: "gate", 9: "test"}
    world.gateway.pool = [
        image_view(n, held_out.get(n, "train"), labelled=n in {2, 15}) for n in range(16)
    ]
    budget = 6
    request = {"strategy": parse_strategy(strategy).model_dump(), "budget_unit": unit}
    round_id = selecting(world, budget=budget, **request)
    selector.select(round_id)
    selected = world.round(round_id).selected
    ids = [s.image_id for s in selected]
    assert len(ids) == len(set(ids))
    assert set(ids) <= {image_id(n) for n in range(16)} - {image_id(n) for n in (2, 15, 3, 6, 9)}
    assert [s.rank for s in selected] == list(range(1, len(ids) + 1))
    assert all(any(c.isdigit() for c in s.reason) for s in selected)
    if unit == "images":
        assert len(ids) == budget
    else:
        expected = [s.expected_boxes or 0 for s in selected]
        assert sum(expected) >= budget > sum(expected[:-1])
    tasks = world.tasks.list("digits", round_id)
    assert [t.reason for t in tasks] == [s.reason for s in selected]
    n_boxes = {image_id(n): len(boxes[n]) for n in range(16)}
    assert [len(t.pre_annotations) for t in tasks] == [n_boxes[i] for i in ids]


def test_rare_classes_are_those_of_the_newest_labels(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    # Many nines are labelled, so that a three is worth more.
    world.gateway.labels = {"train": (BOX,) * 20, "val": (THREE,) * 99}
    three, nine = (scored_image(n, [{"score": 0.5, "entropy": 0.5}]) for n in (0, 1))
    three = replace(
        three,
        class_scores=three.class_scores[:, ::-1],
        class_probabilities=three.class_probabilities[:, [1, 0, 2]],
    )
    write(store, 4, [three, nine])
    round_id = selecting(world, strategy={"strategy": "class_weighted_entropy"}, budget=1)
    selector.select(round_id)
    [selected] = world.round(round_id).selected
    assert selected.image_id == image_id(0)
    assert selected.reason.startswith("class-weighted entropy 0.773 nats, sum over 1 box, most of")
    assert selected.reason.endswith("it for 'three' (weight 1.91)")


def test_near_duplicates_are_passed_over_and_unusable_images_named(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    images = [scored_image(n, [{"score": 0.5, "entropy": n / 16}]) for n in range(10)]
    images[9] = replace(images[9], embedding=np.array([np.nan, 0.0], np.float32))
    write(store, 4, images)
    for n in (6, 7, 8):
        world.gateway.pool[n] = image_view(n).model_copy(update={"duplicate_group": "burst"})
    round_id = selecting(world, strategy={"strategy": "entropy"}, budget=3)
    result = selector.select(round_id)
    chosen = [s.image_id for s in world.round(round_id).selected]
    assert chosen == [image_id(8), image_id(5), image_id(4)]
    assert result.note == f"1 image has unusable scores (not finite): left out ({image_id(9)})"


def test_a_model_that_expects_no_box_cannot_spend_a_budget_in_boxes(
    world: World, store: ObjectStore, selector: Selector
) -> None:
    world.gateway.production = 4
    write(store, 4, [scored_image(n, [{"score": 0.2}]) for n in range(10)])
    round_id = selecting(world, strategy={"strategy": "entropy"}, budget=3, budget_unit="boxes")
    with pytest.raises(NothingExpected, match="expects no box in any of 10 images"):
        selector.select(round_id)


def test_choosing_is_deterministic_whatever_the_order_of_the_pool() -> None:
    pool = [image_id(n) for n in range(10)]
    request = RoundPlan(strategy=RandomStrategy(), budget=4, seed=5)
    first, again = (unread(dict.fromkeys(some)) for some in (pool, pool[::-1]))
    assert choose(request, Uniform(), first) == choose(request, Uniform(), again)
