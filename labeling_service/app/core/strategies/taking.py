"""From an order of images to a batch: near-duplicates are passed over, the budget is met."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from labeling_service.app.core.strategies.pool import Choice, Distinct, Pool


@dataclass(frozen=True)
class Budget:
    """How much to take: so many images, or images with so many expected boxes.

    An image without expected boxes costs as much as one with one: somebody opens it.
    """

    amount: int
    unit: Literal["images", "boxes"] = "images"

    def n_images(self, pool: Pool) -> int:
        """Return about how many images of the pool it pays for; exact for a budget in images."""
        if self.unit == "images" or len(pool) == 0:
            return min(self.amount, len(pool))
        return min(-(-self.amount * len(pool) // self.available(pool)), len(pool))

    def available(self, pool: Pool) -> int:
        """Return what the whole pool would cost."""
        return len(pool) if self.unit == "images" else int(np.maximum(pool.expected_boxes, 1).sum())

    def cost(self, pool: Pool, row: int) -> int:
        """Return what one image of the pool costs."""
        return 1 if self.unit == "images" else max(int(pool.expected_boxes[row]), 1)


def take(choices: Iterable[Choice], pool: Pool, budget: Budget) -> list[Choice]:
    """Return the first of the choices that the budget pays for.

    An image that looks like one before it waits, and comes back only when the choices run out. A
    budget in boxes ends with the image that reaches it, so it is exceeded by less than that
    image's boxes.

    Args:
        choices: rows of the pool, the best first; read no further than needed.
        pool: what they were chosen from.
        budget: how much; one that the whole pool cannot reach takes all of it.

    Raises:
        ValueError: a row is chosen twice, or the pool has none of this number.
    """
    batch = _Batch(pool, budget)
    distinct = Distinct(pool)
    waiting: list[Choice] = []
    seen: set[int] = set()
    for choice in choices:
        if batch.full:
            break
        if choice.row in seen or not 0 <= choice.row < len(pool):
            msg = f"row {choice.row} is chosen twice, or is not one of the {len(pool)} of the pool"
            raise ValueError(msg)
        seen.add(choice.row)
        if distinct.admit(choice.row):
            batch.add(choice)
        else:
            waiting.append(choice)
    for choice in waiting:
        if batch.full:
            break
        reason = f"{choice.reason}; a near-duplicate, as nothing else was left"
        batch.add(choice._replace(reason=reason))
    return batch.taken


class _Batch:
    """What is taken so far."""

    def __init__(self, pool: Pool, budget: Budget) -> None:
        self.taken: list[Choice] = []
        self._pool = pool
        self._budget = budget
        self._left = min(budget.amount, budget.available(pool))

    @property
    def full(self) -> bool:
        return self._left <= 0

    def add(self, choice: Choice) -> None:
        self.taken.append(choice)
        self._left -= self._budget.cost(self._pool, choice.row)
