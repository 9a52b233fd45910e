from typing import Any

import pytest

from labeling_service.tests.support import World, image_view
from shared.models.registry import ScoringCreate
from shared.models.strategies import parse_strategy


@pytest.mark.parametrize(
    ("line", "labelled_too", "consistency"),
    [
        ("random", False, False),
        ("entropy", False, False),
        ("coreset", True, False),
        ("typiclust", True, False),
        ("inconsistency:mean", False, True),
        ("0.5 random + 0.5 coreset", True, False),
        ("0.5 inconsistency + 0.3 typiclust + 0.2 random", True, True),
    ],
)
def test_a_scoring_is_told_what_the_strategy_needs(
    world: World, line: str, *, labelled_too: bool, consistency: bool
) -> None:
    world.gateway.production = 4
    round_id = world.start(strategy=parse_strategy(line)).id
    scoring = ScoringCreate.model_validate(world.job(round_id, "score").payload)
    assert scoring.model_version == 4
    assert scoring.unlabelled_only is not labelled_too
    assert scoring.consistency is consistency


@pytest.mark.parametrize(
    ("request_", "step"),
    [
        ({}, "score"),
        ({"stop_after": "training"}, "select"),
        ({"stop_after": "training", "budget_unit": "boxes"}, "score"),
        ({"stop_after": "training", "strategy": {"strategy": "kmeans"}}, "score"),
        ({"purpose": "val"}, "select"),
    ],
)
def test_a_round_scores_only_what_somebody_looks_at(
    world: World, request_: dict[str, Any], step: str
) -> None:
    world.gateway.production = 4
    world.gateway.pool += [image_view(99, "val")]
    assert world.steps(world.start(**request_).id) == [step]
