"""What to replay on the labels that a project has."""

from pathlib import Path

from shared.errors import Conflict
from shared.models.data import DatasetVersionView
from shared.models.rounds import RoundView, TrainingParams
from shared.models.strategies import RandomStrategy
from shared.simulate.options import SimulationOptions

MIN_TRAIN, MIN_TEST = 40, 20
# Below this many test images the interval is mostly that of the test set.
MANY_TEST = 100


class TooFewLabels(Conflict):
    """A replay of so few labels would say nothing."""


def plan_replay(
    version: DatasetVersionView,
    *,
    data: Path,
    output: Path,
    strategies: tuple[str, ...],
    seeds: int,
    training: TrainingParams,
) -> SimulationOptions:
    """Return the simulation for a dataset version: an eighth to start, three rounds of an eighth.

    Random goes on to three quarters, so that what a strategy saves can be read off its curve.

    Raises:
        TooFewLabels: fewer than 40 labelled train or 20 labelled test images; the numbers are said.
    """
    n_train, n_test = version.n_images.get("train", 0), version.n_images.get("test", 0)
    if n_train < MIN_TRAIN or n_test < MIN_TEST:
        msg = (
            f"project {version.project!r} has {n_train} labelled train and {n_test} labelled test "
            f"images; a replay needs {MIN_TRAIN} and {MIN_TEST}: label more, or choose by "
            "docs/strategies.md"
        )
        raise TooFewLabels(msg)
    eighth = n_train // 8
    return SimulationOptions(
        data=data,
        strategies=strategies,
        seeds=seeds,
        start=eighth,
        rounds=3,
        baseline_rounds=5,
        budget=eighth,
        training=training,
        output=output,
    )


def caveats(version: DatasetVersionView, rounds: list[RoundView]) -> list[str]:
    """Return what limits the advice, in sentences."""
    said = []
    n_train, n_test = version.n_images.get("train", 0), version.n_images.get("test", 0)
    n_chosen = sum(
        len(r.selected)
        for r in rounds
        if r.request.purpose == "train"
        and r.state == "done"
        and not isinstance(r.request.strategy, RandomStrategy)
    )
    if n_chosen:
        said.append(
            f"{n_chosen} of the {n_train} labelled train images were chosen by a strategy: the "
            "replay draws from these, not from the pool as it was, so differences look smaller"
        )
    if n_test < MANY_TEST:
        said.append(f"{n_test} test images are few: with another draw the order may be another")
    return said
