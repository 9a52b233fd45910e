import pytest

from inference_service.app.core.body_budget import BodyBudget
from inference_service.app.core.in_flight import ServingBusy


def take(budget: BodyBudget, *sizes: int) -> None:
    with budget.share() as take:
        for size in sizes:
            take(size)


def test_what_is_taken_is_given_back() -> None:
    budget = BodyBudget(100)
    for _ in range(3):
        take(budget, 60, 40)


def test_more_than_is_left_is_refused_and_what_was_taken_comes_back() -> None:
    budget = BodyBudget(3 << 20)
    with budget.share() as first:
        first(2 << 20)
        with pytest.raises(ServingBusy, match="others hold 3 MiB of files"):
            take(budget, 1 << 20, 1)
        take(budget, 1 << 20)
    take(budget, 3 << 20)
