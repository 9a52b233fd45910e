"""A replay on the whole stack: a common start, isolated projects, the same numbers again."""

from pathlib import Path

import pytest

from shared.client import GatewayClient
from shared.models.data import ProjectCreate
from shared.models.rounds import TrainingParams
from shared.simulate.options import Cell, SimulationOptions
from shared.simulate.records import CellRecord
from shared.simulate.replay import Replay

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(900)]
HASH = "0" * 64
TRAINING = TrainingParams(iterations=6, image_size=96, batch=4)


@pytest.fixture(scope="module")
def records(client: GatewayClient, digits: Path) -> list[CellRecord]:
    """Random, entropy, and random once more by a program that was started again."""
    options = SimulationOptions(
        data=digits, strategies=("random", "entropy"), start=6, budget=5, training=TRAINING
    )
    replay = Replay(client, options, HASH, lambda _: None)
    cells = [Cell(strategy=name, seed=0, n_rounds=1) for name in ("random", "entropy")]
    first = [replay.run(cell) for cell in cells]
    return [*first, Replay(client, options, HASH, lambda _: None).run(cells[0])]


def test_cells_of_a_seed_start_from_the_same_model(records: list[CellRecord]) -> None:
    random, entropy, _ = records
    assert random.points[0] == entropy.points[0]
    assert [p.n_images for p in random.points] == [6, 11]
    assert [p.n_images for p in entropy.points] == [6, 11]


def test_strategies_choose_for_themselves(records: list[CellRecord]) -> None:
    random, entropy, _ = records
    assert len(set(random.selected[0])) == len(set(entropy.selected[0])) == 5
    assert set(random.selected[0]) != set(entropy.selected[0])


def test_a_cell_run_again_gives_the_same_numbers(records: list[CellRecord]) -> None:
    random, _, again = records
    assert again.points == random.points
    assert again.selected == random.selected


def test_a_start_that_was_stopped_while_it_read_reads_anew(
    client: GatewayClient, digits: Path, records: list[CellRecord]
) -> None:
    # All that is left of it: a project without images.
    client.create_project(ProjectCreate(name="start-s7-00000000", seed=7))
    options = SimulationOptions(data=digits, start=6, budget=5, training=TRAINING)
    start = Replay(client, options, HASH, lambda _: None).start(7)
    assert start.project != "start-s7-00000000"
    assert start.point.n_images == 6
    assert start.dataset == records[0].dataset


def test_a_warm_cell_goes_on_from_the_model_before(
    client: GatewayClient, digits: Path, records: list[CellRecord]
) -> None:
    options = SimulationOptions(
        data=digits, start=6, budget=5, training=TRAINING, warm_iterations=3
    )
    known = {project.name for project in client.projects()}
    cell = Cell(strategy="random", seed=0, n_rounds=2)
    warm = Replay(client, options, HASH, lambda _: None).run(cell)
    assert warm.points[0] == records[0].points[0]
    assert warm.selected[0] == records[0].selected[0]
    (name,) = {project.name for project in client.projects()} - known
    trainings = [found.request.training for found in client.rounds(name)]
    assert [t.base for t in trainings] == ["model:1", "model:2"]
    assert [t.iterations for t in trainings] == [3, 3]


def test_nothing_is_promoted_in_a_replay(client: GatewayClient, records: list[CellRecord]) -> None:
    assert records
    replayed = [p.name for p in client.projects() if p.name.startswith(("random-", "start-s0-"))]
    assert len(replayed) == 4
    assert {client.aliases(name).production for name in replayed} == {None}
