from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from labeling_service.app.core.strategies.pool import Choice, Pool
from labeling_service.app.core.strategies.taking import Budget, take


def pool_of(boxes: Sequence[int], groups: Sequence[str | None] = ()) -> Pool:
    nothing = np.zeros((len(boxes), 0), np.float32)
    return Pool(
        ids=[f"{n}" for n in range(len(boxes))],
        groups=groups or [None] * len(boxes),
        embeddings=nothing,
        summaries=nothing,
        expected_boxes=np.array(boxes, np.int64),
        labelled=nothing,
    )


def in_order(*rows: int) -> Iterator[Choice]:
    for row in rows:
        yield Choice(row, None, "next")


def rows(choices: Sequence[Choice]) -> list[int]:
    return [choice.row for choice in choices]


def test_no_more_choices_are_asked_for_than_are_needed() -> None:
    def endless() -> Iterator[Choice]:
        yield from in_order(2, 0)
        pytest.fail("a third choice was asked for")

    # The one that shows that the budget is full is not drawn up either.
    taken = take(endless(), pool_of([1, 1, 1]), Budget(1))
    assert rows(taken) == [2]


@pytest.mark.parametrize(("budget", "taken"), [(1, [0]), (3, [0]), (4, [0, 1]), (5, [0, 1, 2])])
def test_a_budget_in_boxes_ends_with_the_image_that_reaches_it(
    budget: int, taken: list[int]
) -> None:
    pool = pool_of([3, 1, 4, 2])
    assert rows(take(in_order(0, 1, 2, 3), pool, Budget(budget, "boxes"))) == taken


def test_an_image_without_boxes_costs_a_budget_in_boxes_one() -> None:
    pool = pool_of([0] * 2000 + [1] * 10)
    budget = Budget(5, "boxes")
    assert rows(take(in_order(*range(2010)), pool, budget)) == [0, 1, 2, 3, 4]
    assert (budget.cost(pool, 0), budget.cost(pool, 2000)) == (1, 1)
    assert (budget.available(pool), budget.n_images(pool)) == (2010, 5)


def test_a_budget_in_boxes_that_cannot_be_reached_takes_the_whole_pool() -> None:
    pool = pool_of([2, 0, 1, 0, 0])
    budget = Budget(50, "boxes")
    assert budget.available(pool) == 6
    assert rows(take(in_order(0, 1, 2, 3, 4), pool, budget)) == [0, 1, 2, 3, 4]


def test_images_that_look_alike_are_passed_over_until_nothing_else_is_left() -> None:
    pool = pool_of([1] * 5, ["x", "x", "y", "x", None])
    assert rows(take(in_order(0, 1, 2, 3, 4), pool, Budget(3))) == [0, 2, 4]
    taken = take(in_order(0, 1, 2, 3, 4), pool, Budget(4))
    assert rows(taken) == [0, 2, 4, 1]
    assert taken[-1].reason == "next; a near-duplicate, as nothing else was left"


def test_images_without_a_group_look_like_no_other() -> None:
    assert rows(take(in_order(0, 1, 2), pool_of([1] * 3), Budget(3))) == [0, 1, 2]


def test_in_an_ungrouped_pool_near_duplicates_are_taken_like_others() -> None:
    pool = pool_of([1] * 3, ["x", "x", "x"]).ungrouped()
    assert rows(take(in_order(2, 0, 1), pool, Budget(2))) == [2, 0]


@pytest.mark.parametrize("wrong", [[1, 1], [0, 3], [-1]])
def test_a_strategy_that_chooses_twice_or_what_is_not_there_is_an_error(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="is chosen twice, or is not one of the 3 of the pool"):
        take(in_order(*wrong), pool_of([1] * 3), Budget(3))


@pytest.mark.parametrize(
    ("budget", "n_images"),
    [(Budget(3), 3), (Budget(9), 4), (Budget(5, "boxes"), 2), (Budget(99, "boxes"), 4)],
)
def test_how_many_images_a_budget_pays_for(budget: Budget, n_images: int) -> None:
    # 10 boxes in 4 images: 2.5 each.
    assert budget.n_images(pool_of([4, 3, 2, 1])) == n_images


def test_a_budget_in_boxes_of_a_pool_without_any_is_no_division_by_zero() -> None:
    assert Budget(5, "boxes").n_images(pool_of([0, 0])) == 2
    assert Budget(5, "boxes").n_images(pool_of([])) == 0
