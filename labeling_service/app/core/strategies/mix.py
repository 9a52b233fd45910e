"""A mix of strategies, each with its share of every batch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labeling_service.app.core.strategies.aggregation import by_value
from labeling_service.app.core.strategies.pool import (
    Acquisition,
    Choice,
    Distinct,
    FloatArray,
    Pool,
)
from shared.predictions import ScoredImage


@dataclass(frozen=True)
class Part:
    """A strategy, what it is called, and its share in (0, 1)."""

    name: str
    share: float
    acquisition: Acquisition


class Mix:
    """Strata of one batch: the next image is from the part that is furthest behind its share.

    Of any number of images each part has its share, to one image. An image that two parts want is
    the first one's; the other takes its next, and so it does where the batch has a near-duplicate.
    Where a part has no more, the others fill in. Near-duplicates come after everything else.

    Source:
        Shares filled like seats by largest remainder. Mixing in a random part against the bias of
        a model's own choice is old practice; see Farquhar et al. 2021 (arXiv:2101.11665).
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """Mix these parts, whose shares sum to 1."""
        self._parts = parts

    def summarise(self, image: ScoredImage) -> FloatArray:
        """Return the parts' summaries one after the other, and before them how long each is."""
        summaries = [part.acquisition.summarise(image) for part in self._parts]
        lengths = np.array([len(summary) for summary in summaries], np.float32)
        return np.concatenate([lengths, *summaries])

    def order(self, pool: Pool, n: int, seed: int) -> Iterator[Choice]:
        """Yield from the parts in turn, by their shares."""
        orders: list[Iterable[Choice]] = [
            part.acquisition.order(view, max(round(part.share * n), 1), seed)
            for part, view in zip(self._parts, self._views(pool), strict=True)
        ]
        chosen: set[int] = set()
        drawn = [0] * len(orders)
        for distinct in (Distinct(pool), Distinct(pool.ungrouped())):
            passed: list[list[Choice]] = [[] for _ in orders]
            left = [
                distinct.among((c for c in order if c.row not in chosen), look_alikes)
                for order, look_alikes in zip(orders, passed, strict=True)
            ]
            for choice in self._in_turn(left, drawn):
                chosen.add(choice.row)
                yield choice
            orders = list(passed)

    def _in_turn(self, orders: Sequence[Iterator[Choice]], drawn: list[int]) -> Iterator[Choice]:
        """Yield from the parts by their shares until all are empty; `drawn` counts of each."""
        while True:
            total = sum(drawn) + 1
            behind = [p.share * total - d for p, d in zip(self._parts, drawn, strict=True)]
            for i in by_value(np.round(behind, 9)):
                choice = next(orders[i], None)
                if choice is not None:
                    break
            else:
                return
            drawn[i] += 1
            part = self._parts[i]
            yield choice._replace(reason=f"{part.share:.0%} by {part.name}: {choice.reason}")

    def _views(self, pool: Pool) -> Iterator[Pool]:
        """Yield the pool as each part sees it, with its own summaries."""
        n_parts = len(self._parts)
        lengths = pool.summaries[0, :n_parts].astype(int) if len(pool) else [0] * n_parts
        start = n_parts
        for length in lengths:
            yield replace(pool, summaries=pool.summaries[:, start : start + length])
            start += length
