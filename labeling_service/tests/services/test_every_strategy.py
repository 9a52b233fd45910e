"""What holds of every strategy, whatever it looks at."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from labeling_service.app.core.strategies.build import build
from labeling_service.app.core.strategies.classes import Classes
from labeling_service.app.core.strategies.mix import Mix, Part
from labeling_service.app.core.strategies.needs import Needs
from labeling_service.app.core.strategies.pool import Choice, FloatArray, Pool
from labeling_service.app.core.strategies.uniform import Uniform
from labeling_service.app.models.errors import EmptyPool, NothingExpected
from labeling_service.app.services.scored_pool import read_pool
from labeling_service.app.services.selection import Selection, choose
from labeling_service.tests.core.strategies.support import (
    CLASSES,
    Box,
    box,
    image,
    order,
    read,
    with_nan,
)
from shared.models.rounds import RoundPlan
from shared.models.strategies import STRATEGY_NAMES, RandomStrategy, parse_strategy
from shared.predictions import ScoredImage

EVERY = (
    *STRATEGY_NAMES,
    "bald:top2",
    "entropy:class_weighted",
    "class_weighted_entropy:max:both",
    "error_based:class_weighted",
    "0.8 entropy:sum + 0.2 random",
    "0.5 badge + 0.3 typiclust + 0.2 class_balanced",
)
MEASURES = (
    "entropy",
    "margin",
    "certainty",
    "bald",
    "variance",
    "localisation",
    "inconsistency",
)
ONE_CLASS = Classes(("cell",), n_labels=(3,), ap50=(0.5,))
N = 40

every_strategy = pytest.mark.parametrize("text", EVERY)


def scene(n: int, *, n_boxes: int | None = None, n_classes: int = 3) -> ScoredImage:
    """Return image number `n` of a pool of many kinds; without `n_boxes` it has 0 to 5."""
    rng = np.random.default_rng(n)
    boxes = [
        Box(
            score=float(rng.uniform(0.01, 0.9)),
            shares=tuple(rng.dirichlet(np.ones(n_classes)).tolist()),
            measures={name: float(rng.uniform()) for name in MEASURES},
        )
        for _ in range(n % 6 if n_boxes is None else n_boxes)
    ]
    at = rng.normal(size=8) + 5 * (n % 4)
    return image(f"{n:02}", *boxes, at=at.tolist(), n_classes=n_classes)


SCENES = [scene(n) for n in range(N)]
LABELLED = [scene(n) for n in range(N, N + 5)]


def select(
    text: str,
    images: Sequence[ScoredImage] = SCENES,
    *,
    labelled: Sequence[ScoredImage] = LABELLED,
    classes: Classes = CLASSES,
    groups: dict[str, str] | None = None,
    **request: object,
) -> Selection:
    asked = RoundPlan.model_validate({"strategy": parse_strategy(text), **request})
    reading = read(text, images, labelled=labelled, classes=classes, groups=groups)
    return choose(asked, build(asked.strategy, classes), reading)


def ids(selection: Selection) -> list[str]:
    return [i.image_id for i in selection.images]


@every_strategy
@pytest.mark.parametrize("budget", [1, 7, N])
def test_a_budget_in_images_is_met_and_no_image_comes_twice(text: str, budget: int) -> None:
    chosen = ids(select(text, budget=budget))
    assert len(chosen) == len(set(chosen)) == budget
    assert set(chosen) <= {i.image_id for i in SCENES}


@every_strategy
def test_the_same_seed_gives_the_same_batch_whatever_the_order_of_the_shards(text: str) -> None:
    first = select(text, budget=9, seed=3)
    again = select(text, SCENES[::-1], labelled=LABELLED[::-1], budget=9, seed=3)
    assert first == again


@every_strategy
def test_every_image_says_in_words_and_numbers_why_it_was_chosen(text: str) -> None:
    images = select(text, budget=9).images
    assert [i.rank for i in images] == list(range(1, 10))
    assert all(any(c.isdigit() for c in i.reason) for i in images)
    assert all(i.value is None or np.isfinite(i.value) for i in images)


@every_strategy
@pytest.mark.parametrize("budget", [1, 10, 25])
def test_a_budget_in_boxes_is_met_within_the_boxes_of_one_image(text: str, budget: int) -> None:
    images = select(text, budget=budget, budget_unit="boxes").images
    counts = [int((SCENES[int(i.image_id)].scores >= 0.25).sum()) for i in images]
    assert [i.expected_boxes for i in images] == counts
    costs = [max(count, 1) for count in counts]
    assert sum(costs) >= budget > sum(costs[:-1])


@every_strategy
def test_a_pool_smaller_than_the_budget_is_taken_whole_and_the_note_says_so(text: str) -> None:
    found = select(text, SCENES[:5], budget=20)
    assert sorted(ids(found)) == ["00", "01", "02", "03", "04"]
    assert found.note == "budget 20, but the pool has 5 images: all taken"


@every_strategy
def test_a_pool_with_fewer_boxes_than_the_budget_is_taken_whole(text: str) -> None:
    found = select(text, SCENES[:5], budget=1000, budget_unit="boxes")
    available = sum(max(int((s.scores >= 0.25).sum()), 1) for s in SCENES[:5])
    assert sorted(ids(found)) == ["00", "01", "02", "03", "04"]
    said = f"the pool has {available} boxes (at least 1 an image): all taken"
    assert found.note == f"budget 1000, but {said}"


@every_strategy
def test_an_empty_pool_is_an_error(text: str) -> None:
    with pytest.raises(EmptyPool, match="none of the 0 unlabelled images was scored"):
        select(text, [])


@every_strategy
def test_a_pool_without_any_box_still_gives_a_batch(text: str) -> None:
    empty = [scene(n, n_boxes=0) for n in range(10)]
    found = select(text, empty, budget=4)
    assert len(set(ids(found))) == 4
    assert [i.expected_boxes for i in found.images] == [None] * 4
    with pytest.raises(NothingExpected, match="no box in any of 10 images"):
        select(text, empty, budget=4, budget_unit="boxes")


@every_strategy
def test_one_class_is_enough(text: str) -> None:
    images = [scene(n, n_classes=1) for n in range(12)]
    labelled = [scene(n, n_classes=1) for n in range(12, 15)]
    assert len(set(ids(select(text, images, labelled=labelled, classes=ONE_CLASS, budget=5)))) == 5


@every_strategy
def test_nothing_labelled_yet_is_enough(text: str) -> None:
    nothing = Classes(CLASSES.names, n_labels=(0, 0, 0), ap50=(None, None, None))
    assert len(set(ids(select(text, labelled=[], classes=nothing, budget=5)))) == 5


@every_strategy
def test_copies_of_one_image_are_all_as_good(text: str) -> None:
    copies = [image(f"{n}", box(0.5, entropy=0.5), at=(1.0, 2.0)) for n in range(6)]
    assert len(set(ids(select(text, copies, labelled=[copies[0]], budget=4)))) == 4


@every_strategy
@pytest.mark.parametrize("column", ["embedding", "class_scores"])
def test_images_with_values_that_are_not_finite_are_left_out_and_named(
    text: str, column: str
) -> None:
    images = [with_nan(i, column) if i.image_id in {"11", "23"} else i for i in SCENES]
    found = select(text, images, labelled=[with_nan(LABELLED[0], column), *LABELLED], budget=N)
    assert not {"11", "23"} & set(ids(found))
    assert len(found.images) == N - 2
    assert "2 images have unusable scores (not finite): left out (11, 23)" in (found.note or "")


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_that_is_not_finite_is_no_value(measure: str) -> None:
    images = [with_nan(i, measure) if i.image_id == "11" else i for i in SCENES]
    found = select(measure, images, budget=5)
    assert "11" not in ids(found)
    assert found.note == "1 image has unusable scores (not finite): left out (11)"
    # Whoever does not look at it takes the image like any other.
    assert select("coreset", images, budget=N).note is None


@pytest.mark.parametrize("text", ["badge", "class_balanced", "class_weighted_entropy"])
def test_class_probabilities_that_are_not_finite_are_no_value(text: str) -> None:
    images = [with_nan(i, "class_probabilities") if i.image_id == "11" else i for i in SCENES]
    found = select(text, images, budget=N)
    assert "11" not in ids(found)


@every_strategy
def test_a_pool_of_unusable_images_is_an_error_that_names_some(text: str) -> None:
    with pytest.raises(EmptyPool, match=r"4 images have unusable .*\(00, 01, 02 and more\)"):
        select(text, [with_nan(i, "embedding") for i in SCENES[:4]])


@pytest.mark.parametrize("text", [t for t in EVERY if t != "random"])
def test_of_near_duplicates_a_batch_has_one(text: str) -> None:
    groups = {i.image_id: f"g{n // 4}" for n, i in enumerate(SCENES) if n < 24}
    chosen = ids(select(text, groups=groups, budget=15))
    taken = Counter(groups[i] for i in chosen if i in groups)
    assert len(chosen) == 15
    assert max(taken.values(), default=0) <= 1


@pytest.mark.parametrize("text", [t for t in EVERY if t != "random"])
def test_near_duplicates_come_back_only_when_nothing_else_is_left(text: str) -> None:
    groups = {i.image_id: "same" for i in SCENES[:5]}
    found = select(text, SCENES[:8], groups=groups, budget=6)
    assert len(set(ids(found))) == 6
    assert {"05", "06", "07"} <= set(ids(found))
    said = ["a near-duplicate, as nothing else was left" in i.reason for i in found.images]
    assert said == [False] * 4 + [True] * 2


def test_the_random_baseline_stays_a_uniform_draw_near_duplicates_too() -> None:
    groups = {i.image_id: "same" for i in SCENES}
    drawn = [f"{i:02}" for i in np.random.default_rng(7).permutation(N)[:9]]
    assert ids(select("random", groups=groups, budget=9, seed=7)) == drawn


@every_strategy
def test_the_whole_order_is_a_permutation_of_the_pool(text: str) -> None:
    pool = read(text, SCENES, labelled=LABELLED).pool
    assert sorted(c.row for c in order(text, pool, n=6)) == list(range(N))


class OnlyTwo:
    """A plug-in that runs out of images."""

    def summarise(self, image: ScoredImage) -> FloatArray:
        return np.zeros(0, np.float32)

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        yield from (Choice(row, 1.0, f"row {row}") for row in (3, 1))


def test_a_strategy_that_runs_out_of_images_is_told_in_the_note() -> None:
    reading = read("random", SCENES)
    found = choose(RoundPlan(strategy=RandomStrategy(), budget=5), OnlyTwo(), reading)
    assert ids(found) == ["03", "01"]
    assert found.note == "budget 5, but the strategy chose 2 images only"


def test_a_strategy_that_runs_out_of_boxes_is_told_in_the_note() -> None:
    empty = [scene(n, n_boxes=0) for n in range(4)]
    reading = read("random", [*empty, scene(4, n_boxes=9)])
    found = choose(
        RoundPlan(strategy=RandomStrategy(), budget=9, budget_unit="boxes"), OnlyTwo(), reading
    )
    assert ids(found) == ["03", "01"]
    said = "the strategy chose 2 boxes (at least 1 an image) only"
    assert found.note == f"budget 9, but {said}"


def test_the_other_parts_of_a_mix_fill_in_for_one_that_runs_out() -> None:
    mix = Mix([Part("two", 0.5, OnlyTwo()), Part("random", 0.5, Uniform())])
    scenes = [i.image_id for i in SCENES]
    reading = read_pool(SCENES, dict.fromkeys(scenes), mix, Needs())
    found = choose(RoundPlan(strategy=RandomStrategy(), budget=N), mix, reading)
    assert sorted(ids(found)) == scenes
    assert sum(" by two: " in i.reason for i in found.images) == 2
    empty = Mix([Part("two", 0.5, OnlyTwo()), Part("again", 0.5, OnlyTwo())])
    assert [c.row for c in empty.order(reading.pool, 5, 0)] == [3, 1]


def test_a_model_of_other_classes_is_refused_by_what_looks_at_classes() -> None:
    with pytest.raises(ValueError, match="image 01: the model knows 2 classes, the project 3"):
        select("class_weighted_entropy", [scene(1, n_classes=2)])
