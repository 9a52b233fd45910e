"""What is replayed on a project's own labels, and what limits the advice."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.cli.simulate import simulation_name
from shared.cli.strategy import trained_size
from shared.models.data import DatasetVersionView
from shared.models.rounds import RoundPlan, RoundView, SelectedImage, TrainingParams
from shared.models.strategies import Strategy, parse_strategy
from shared.simulate.options import SimulationOptions, cells_of
from shared.simulate.plan import TooFewLabels, caveats, plan_replay

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(n_train: int, n_test: int) -> DatasetVersionView:
    return DatasetVersionView(
        project="cells",
        version=3,
        content_hash="0" * 64,
        parent=2,
        round_id=None,
        manifest_key="m",
        n_images={"train": n_train, "val": 9, "gate": 9, "test": n_test},
        n_boxes={},
        created_at=NOW,
    )


def done(strategy: Strategy, n: int, size: int = 320) -> RoundView:
    return RoundView(
        id="r",
        project="cells",
        index=1,
        state="done",
        request=RoundPlan(strategy=strategy, training=TrainingParams(image_size=size)),
        selected=tuple(
            SelectedImage(image_id=f"i{i}", rank=i, value=None, reason="") for i in range(n)
        ),
        n_tasks=n,
        n_done=n,
        dataset_version=1,
        model_version=1,
        promoted=True,
        metrics={},
        steps=(),
        error=None,
        created_at=NOW,
        finished_at=NOW,
    )


def plan(n_train: int, n_test: int = 50) -> SimulationOptions:
    return plan_replay(
        version(n_train, n_test),
        data=Path("labels.zip"),
        output=Path("out"),
        strategies=("entropy", "random", "bald"),
        seeds=2,
        training=TrainingParams(iterations=100),
    )


def test_half_of_the_labels_are_given_out_and_random_goes_on() -> None:
    options = plan(160)
    assert (options.start, options.budget, options.rounds) == (20, 20, 3)
    assert options.baseline_rounds == 5
    assert {cell.strategy for cell in cells_of(options)} == {"random", "entropy", "bald"}


@pytest.mark.parametrize(("n_train", "n_test"), [(39, 20), (40, 19), (0, 0)])
def test_too_few_labels_are_said_with_their_numbers(n_train: int, n_test: int) -> None:
    words = f"'cells' has {n_train} labelled train and {n_test} labelled test images"
    with pytest.raises(TooFewLabels, match=words):
        plan(n_train, n_test)


def test_the_fewest_labels_there_may_be_are_enough_for_every_round() -> None:
    options = plan(40, 20)
    assert options.start + 5 * options.budget <= 40


def test_labels_that_a_strategy_chose_are_said_to_be_no_random_sample() -> None:
    rounds = [done(parse_strategy("random"), 20), done(parse_strategy("entropy"), 30)]
    first, second = caveats(version(50, 60), rounds)
    assert first.startswith("30 of the 50 labelled train images were chosen by a strategy")
    assert second.startswith("60 test images are few")
    assert caveats(version(50, 100), rounds[:1]) == []


def test_images_are_as_large_as_in_the_projects_own_rounds() -> None:
    rounds = [done(parse_strategy("random"), 1, 320), done(parse_strategy("random"), 1, 640)]
    assert trained_size(rounds) == 640
    assert trained_size([]) == TrainingParams().image_size


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Run.2", "my-run-2"), ("--x", "x"), ("", "simulation"), ("a" * 80, "a" * 63)],
)
def test_a_folders_name_becomes_a_simulations(text: str, name: str) -> None:
    assert simulation_name(text) == name
