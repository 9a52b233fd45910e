"""Cells on a running stack: rounds of isolated projects, answered by oracles."""

import platform
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from shared.bases import OWN_MODEL
from shared.cli.data import ingest_path
from shared.cli.oracle import answer_tasks
from shared.client import GatewayClient
from shared.errors import AppError, BadRequest
from shared.models.data import IngestionCreate, ProjectCopy, ProjectCreate
from shared.models.registry import ModelCopy, TrainingResult
from shared.models.rounds import RoundCreate, RoundView
from shared.models.simulations import DatasetFacts
from shared.models.strategies import RandomStrategy, Strategy, parse_strategy
from shared.simulate.options import Cell, SimulationOptions
from shared.simulate.records import CellRecord, Point

POLL_S = 1.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """What all cells of a seed begin with: labels and the model that learnt from them."""

    project: str
    dataset_version: int
    model_version: int
    point: Point
    dataset: DatasetFacts


class Replay:
    """Runs cells one after the other through the services of one stack."""

    def __init__(
        self, client: GatewayClient, options: SimulationOptions, content_hash: str, say: Say
    ) -> None:
        """Work through `client`; `say` is told in words what is going on."""
        self._client = client
        self._options = options
        self._say = say
        self._starts: dict[int, Start] = {}
        self._content_hash = content_hash

    def run(self, cell: Cell) -> CellRecord:
        """Run one cell to its end.

        Raises:
            AppError: a round failed; the message has its step and error.
        """
        started = time.monotonic()
        start = self.start(cell.seed)
        prefix = f"{cell.slug[:48]}-"
        self._end_what_was_stopped(prefix)
        project = f"{prefix}{uuid.uuid4().hex[:8]}"
        copy = ProjectCopy(name=project, dataset_version=start.dataset_version)
        self._client.copy_project(start.project, copy)
        model = self._client.copy_model(
            project, ModelCopy(source_project=start.project, model_version=start.model_version)
        ).version
        points, selected = [start.point], []
        for index in range(1, cell.n_rounds + 1):
            if not self._client.images(project, split="train", labelled=False, limit=1).images:
                break
            self._say(f"{cell.slug}: round {index} of {cell.n_rounds}")
            found = self._round(project, self._request(cell, index, model))
            model = _known(found.model_version)
            points.append(self._point(project, found))
            selected.append(tuple(image.image_id for image in found.selected))
        return CellRecord(
            cell=cell,
            settings=self._options.settings(),
            dataset=start.dataset,
            points=tuple(points),
            selected=tuple(selected),
            seconds=round(time.monotonic() - started, 1),
            machine=platform.platform(),
        )

    def _end_what_was_stopped(self, prefix: str) -> None:
        """Cancel the round of a cell that was stopped half-way: it would take the cores."""
        for project in self._client.projects():
            if project.name.startswith(prefix):
                for found in self._client.rounds(project.name):
                    if found.finished_at is None:
                        self._client.cancel_round(project.name, found.id)

    def start(self, seed: int) -> Start:
        """Return the common start of a seed; it is labelled and trained once."""
        if seed not in self._starts:
            self._starts[seed] = self._make_start(seed)
        return self._starts[seed]

    def _make_start(self, seed: int) -> Start:
        project = self._read(seed)
        self._say(f"seed {seed}: training on {self._options.start} random images")
        request = RoundCreate(
            strategy=RandomStrategy(),
            budget=self._options.start,
            training=self._options.training.model_copy(update={"seed": seed}),
            seed=seed,
            stop_after="training",
        )
        found = self._round(project, request)
        return Start(
            project=project,
            dataset_version=_known(found.dataset_version),
            model_version=_known(found.model_version),
            point=self._point(project, found),
            dataset=self._facts(project),
        )

    def _read(self, seed: int) -> str:
        """Return a project of this seed that has the data."""
        prefix = f"start-s{seed}-"
        for project in self._client.projects():
            # One without a round was stopped while it read, and may lack images: it is left.
            if project.name.startswith(prefix) and self._client.rounds(project.name):
                return project.name
        name = f"{prefix}{uuid.uuid4().hex[:8]}"
        self._say(f"seed {seed}: reading {self._options.data}")
        self._client.create_project(ProjectCreate(name=name, seed=seed))
        ingest_path(self._client, name, self._options.data, IngestionCreate(as_oracle=True))
        return name

    def _request(self, cell: Cell, index: int, model: int) -> RoundCreate:
        options = self._options
        training: dict[str, int | str] = {"seed": cell.training_seed, "balance": cell.balanced}
        if options.warm_iterations is not None:
            # The whole pool comes in one round, which trains as long as all of random's together.
            iterations = options.warm_iterations * (cell.n_rounds if cell.full_pool else 1)
            training |= {"iterations": iterations, "base": f"{OWN_MODEL}{model}"}
        budget = 100_000 if cell.full_pool else options.budget
        return RoundCreate(
            strategy=strategy_of(cell),
            budget=budget,
            budget_unit="images" if cell.full_pool else options.budget_unit,
            training=options.training.model_copy(update=training),
            seed=1000 * cell.seed + index,
            scored_by=model,
            stop_after="training",
        )

    def _round(self, project: str, request: RoundCreate) -> RoundView:
        """Run a round to its end, also one that an earlier run of this program began."""
        rounds = [r for r in self._client.rounds(project) if r.state not in {"failed", "cancelled"}]
        # A round's plan is what was asked for: a replay names its strategies.
        same = [r for r in rounds if dict(r.request) == dict(request)]
        found = same[-1] if same else self._client.create_round(project, request)
        while found.finished_at is None:
            if found.state == "labelling" and found.n_done < found.n_tasks:
                answer_tasks(
                    self._client,
                    project,
                    found.id,
                    noise=self._options.noise,
                    seed=request.seed,
                )
            time.sleep(POLL_S)
            found = self._client.round(project, found.id)
        if found.state != "done":
            msg = f"round {found.index} of project {project!r} is {found.state}: {found.error}"
            raise AppError(msg)
        return found

    def _point(self, project: str, found: RoundView) -> Point:
        job = next(step.job_id for step in found.steps if step.step == "train")
        training = TrainingResult.model_validate(self._client.job(job).result)
        version = self._client.dataset_version(project, training.dataset_version)
        test = training.metrics.get("test")
        if test is None:
            msg = f"{self._options.data} leaves no labelled test image, so nothing can be measured"
            raise BadRequest(msg)
        return Point(
            n_images=version.n_images.get("train", 0),
            n_boxes=version.n_boxes.get("train", 0),
            map50=test.map50,
            map50_95=test.map50_95,
            per_class_map50=test.per_class_map50,
        )

    def _facts(self, project: str) -> DatasetFacts:
        view = self._client.project(project)
        return DatasetFacts(
            name=self._options.data.resolve().name,
            classes=view.classes,
            n_pool=view.n_by_split.get("train", 0),
            n_test=view.n_by_split.get("test", 0),
            content_hash=self._content_hash,
        )


def strategy_of(cell: Cell) -> Strategy:
    """Return the strategy that a cell chooses by.

    Raises:
        BadRequest: there is none of that name.
    """
    return parse_strategy(cell.strategy)


def _known(version: int | None) -> int:
    if version is None:
        msg = "a finished round has no version"
        raise ValueError(msg)
    return version
