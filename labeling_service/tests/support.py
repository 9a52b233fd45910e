"""What the tests of this service share: the other services as a fake, jobs finished by hand."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from labeling_service.app.core.labelling.builtin import BuiltinLabelling
from labeling_service.app.core.labelling.port import LabellingRound, NewTask
from labeling_service.app.services.reconcile import Reconciler
from labeling_service.app.services.rounds import Rounds
from labeling_service.app.services.tasks import Tasks
from shared.database import Database
from shared.errors import NotFound
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.models.data import (
    DatasetManifest,
    DatasetVersionCreate,
    DatasetVersionView,
    ImageView,
    ManifestItem,
    ProjectView,
    Split,
    SplitFractions,
)
from shared.models.geometry import Annotation
from shared.models.jobs import JobView
from shared.models.registry import AliasView, ModelView
from shared.models.rounds import AnswerCreate, LeaseCreate, RoundCreate, RoundView, TaskView
from shared.predictions import ScoredImage
from shared.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOX = Annotation(class_id=1, xyxy=(0.1, 0.2, 0.3, 0.4))

METRICS = {"map50": 0.5, "map50_95": 0.25, "per_class_map50": {"nine": 0.5}, "n_images": 10}
RESULTS: dict[str, dict[str, Any]] = {
    "score": {},
    "select": {},
    "close": {"round_id": "r", "dataset_version": 3, "n_labelled": 2, "n_skipped": 0, "n_boxes": 2},
    "train": {
        "project": "digits",
        "model_version": 5,
        "dataset_version": 3,
        "weights_sha256": "0" * 64,
        "metrics": {"test": METRICS, "val": METRICS},
        "seconds": {"train": 1.0, "evaluate": 1.0},
        "n_iterations": 10,
    },
    "score_heldout": {},
    "calibrate": {},
    "gate": {
        "project": "digits",
        "challenger": 5,
        "champion": None,
        "promoted": True,
        "reasons": ["no champion"],
        "challenger_metrics": METRICS,
        "champion_metrics": None,
    },
}


class SilentBell(Bell):
    """Rings nowhere: tests move jobs and rounds by hand."""

    def __init__(self) -> None:
        super().__init__(make_celery(Settings()))

    def ring(self, kind: str, job_id: str) -> None:
        pass

    def ring_reconciler(self, round_id: str) -> None:
        pass


def image_id(n: int) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()


def image_view(n: int, split: Split = "train", *, labelled: bool = False) -> ImageView:
    return ImageView(
        id=image_id(n),
        name=f"{n}.png",
        width=64,
        height=48,
        split=split,
        labelled=labelled,
        duplicate_group=None,
        key=f"k/{n}",
        thumbnail_key=f"t/{n}",
        created_at=NOW,
    )


@dataclass
class FakeGateway:
    """The other services: one project `digits`, whose images and production model tests set."""

    pool: list[ImageView] = field(default_factory=lambda: [image_view(n) for n in range(10)])
    production: int | None = None
    models: tuple[int, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    labels: dict[Split, tuple[Annotation, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ("three", "nine")
    latest_version: int | None = 1
    n_labelled: dict[Split, int] = field(default_factory=lambda: {"val": 2, "gate": 3, "test": 4})
    closed: list[DatasetVersionCreate] = field(default_factory=list)

    def project(self, name: str) -> ProjectView:
        if name != "digits":
            msg = f"unknown project: {name!r}"
            raise NotFound(msg)
        return ProjectView(
            name=name,
            classes=self.classes,
            splits=SplitFractions(),
            seed=0,
            created_at=NOW,
            n_images=len(self.pool),
            n_by_split={},
            n_labelled=0,
            latest_version=self.latest_version,
        )

    def aliases(self, project: str) -> AliasView:
        return AliasView(project=project, production=self.production, previous=None)

    def model(self, project: str, version: int) -> ModelView:
        if version not in (*self.models, self.production):
            msg = f"unknown model version: {version} of project {project!r}"
            raise NotFound(msg)
        return ModelView(
            project=project,
            version=version,
            aliases=(),
            dataset_version=1,
            round_id=None,
            classes=self.classes,
            metrics=self.metrics,
            weights_sha256="0" * 64,
            run_id="run",
            run_url="",
            created_at=NOW,
        )

    def iter_images(
        self, project: str, *, split: Split | None = None, labelled: bool | None = None
    ) -> Iterator[ImageView]:
        self.project(project)
        for image in sorted(self.pool, key=lambda i: i.id):
            if split in (None, image.split) and labelled in (None, image.labelled):
                yield image

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        return DatasetVersionView(
            project=project,
            version=version,
            content_hash="0" * 64,
            parent=None,
            round_id=None,
            manifest_key="m",
            n_images=self.n_labelled,
            n_boxes={},
            created_at=NOW,
        )

    def manifest(self, project: str, version: int) -> DatasetManifest:
        items = tuple(
            ManifestItem(
                image_id=image_id(1000 + n),
                name=f"{n}.png",
                key=f"k/{n}",
                width=64,
                height=48,
                split=split,
                annotations=annotations,
            )
            for n, (split, annotations) in enumerate(self.labels.items())
        )
        return DatasetManifest(project=project, classes=self.classes, items=items)

    def create_dataset_version(
        self, project: str, version: DatasetVersionCreate
    ) -> DatasetVersionView:
        if version.round_id not in [v.round_id for v in self.closed]:
            self.closed.append(version)
        return DatasetVersionView(
            project=project,
            version=[v.round_id for v in self.closed].index(version.round_id) + 1,
            content_hash="0" * 64,
            parent=None,
            round_id=version.round_id,
            manifest_key="m",
            n_images={"train": len(version.labels)},
            n_boxes={"train": 0},
            created_at=NOW,
        )


class World:
    """One installation of the service's own parts on a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.gateway = FakeGateway()
        self.jobs = JobStore(database, SilentBell(), Settings())
        self.labelling = BuiltinLabelling(database)
        self.reconciler = Reconciler(database, self.jobs, self.labelling)
        self.rounds = Rounds(database, self.jobs, self.gateway, self.labelling)
        self.tasks = Tasks(
            database, self.gateway, self.labelling, on_complete=self.reconciler.reconcile
        )

    def start(self, **request: Any) -> RoundView:
        usual = {"strategy": {"strategy": "random"}}
        return self.rounds.create("digits", RoundCreate.model_validate(usual | request))

    def round(self, round_id: str) -> RoundView:
        return self.rounds.get("digits", round_id)

    def job(self, round_id: str, step: str) -> JobView:
        job = self.jobs.find(f"{round_id}:{step}")
        assert job is not None, f"no job for step {step}"
        return job

    def steps(self, round_id: str) -> list[str]:
        return sorted(job.step or "" for job in self.jobs.list(round_id=round_id))

    def finish(self, round_id: str, step: str, **result: Any) -> None:
        """End the job of a step well, without telling the reconciler."""
        claim = self.jobs.claim(self.job(round_id, step).id, "worker")
        assert claim is not None
        assert self.jobs.finish(claim, "succeeded", result=RESULTS[step] | result)

    def fail(self, round_id: str, step: str, error: str) -> None:
        claim = self.jobs.claim(self.job(round_id, step).id, "worker")
        assert claim is not None
        assert self.jobs.finish(claim, "failed", error=error)

    def open_tasks(self, round_id: str, n: int) -> None:
        tasks = [NewTask(image_id(i), rank=i + 1, reason="because") for i in range(n)]
        self.labelling.open_round(LabellingRound(round_id, "digits", ("three", "nine")), tasks)

    def labelling_round(self, n_tasks: int = 2, **request: Any) -> str:
        """Start a round and bring it to `labelling`."""
        round_id = self.start(**request).id
        if self.round(round_id).state == "scoring":
            self.finish(round_id, "score")
            self.reconciler.reconcile(round_id)
        self.open_tasks(round_id, n_tasks)
        self.finish(round_id, "select")
        self.reconciler.reconcile(round_id)
        assert self.round(round_id).state == "labelling"
        return round_id

    def lease(self, annotator: str = "ann", round_id: str | None = None) -> TaskView:
        return self.tasks.lease("digits", LeaseCreate(annotator=annotator, round_id=round_id))

    def answer(
        self, task_id: str, annotator: str = "ann", *boxes: Annotation, skip: bool = False
    ) -> TaskView:
        outcome = "skipped" if skip else "labelled"
        answer = AnswerCreate.model_validate(
            {"annotator": annotator, "outcome": outcome, "annotations": boxes}
        )
        return self.tasks.answer("digits", task_id, answer)

    def answer_all(self, round_id: str) -> None:
        for task in self.tasks.list("digits", round_id):
            self.answer(task.id, "ann", BOX)


def scored_image(
    n: int,
    boxes: list[dict[str, float]] | None = None,
    *,
    embedding: tuple[float, ...] = (0.0, 0.0),
    split: Split = "train",
) -> ScoredImage:
    """Return a scored image; each box has `score` and optionally measures."""
    boxes = boxes or []

    def column(name: str) -> Any:
        return np.array([b.get(name, 0.0) for b in boxes], dtype=np.float32)

    scores = column("score")
    class_scores = np.stack([scores / 4, scores], axis=1)
    with_background = np.concatenate([class_scores, 1 - scores[:, None]], axis=1)
    probabilities = with_background / with_background.sum(axis=1, keepdims=True)
    return ScoredImage(
        image_id=image_id(n),
        split=split,
        xyxy=np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (len(boxes), 1)),
        class_scores=class_scores.astype(np.float32),
        class_probabilities=np.repeat(probabilities[:, :, None], 2, axis=2).astype(np.float16),
        entropy=column("entropy"),
        margin=column("margin"),
        certainty=column("certainty"),
        bald=column("bald"),
        variance=column("variance"),
        localisation=column("localisation"),
        inconsistency=column("inconsistency"),
        embedding=np.array(embedding, np.float32),
        brightness=0.5,
        contrast=0.1,
        sharpness=1.0,
    )
