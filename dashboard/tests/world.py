"""A made-up project and how its parts look in each situation."""

import io
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image, ImageDraw

from shared.map_colours import PALETTE
from shared.models.data import (
    SPLITS,
    ImageView,
    ManifestItem,
    ProjectView,
    Split,
    SplitFractions,
)
from shared.models.geometry import Annotation, Detection
from shared.models.jobs import JobView
from shared.models.registry import (
    AliasView,
    DriftResult,
)
from shared.models.rounds import (
    AnswerCreate,
    RoundPlan,
    RoundState,
    RoundView,
    SelectedImage,
    StepView,
    TaskView,
    TrainingParams,
)
from shared.models.search import DuplicateGroup, EmbeddingMap, MapMethod, MapPoint
from shared.models.simulations import SimulationView
from shared.models.strategies import KMeansStrategy, UncertaintyStrategy
from shared.simulate.statistics import summarise
from shared.tests.simulate.test_statistics import arms

NAME = "scenes"
CLASSES = ("two", "seven", "four", "nine")
WIDTH, HEIGHT = 320, 240
START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
BOXES = ((0.1, 0.2, 0.4, 0.6), (0.55, 0.3, 0.85, 0.8))


@dataclass
class World:
    """Everything the neighbour knows; a test changes it to make a situation."""

    projects: list[ProjectView]
    images: list[ImageView]
    rounds: list[RoundView]
    tasks: list[TaskView]
    aliases: AliasView
    jobs: list[JobView] = field(default_factory=list)
    drift: list[DriftResult] = field(default_factory=list)
    simulations: list[SimulationView] = field(default_factory=list)
    map: EmbeddingMap | None = None
    duplicates: list[DuplicateGroup] = field(default_factory=list)
    answers: list[tuple[str, AnswerCreate]] = field(default_factory=list)
    refuse_answers: str | None = None
    refuse_maps: str | None = None
    calls: list[str] = field(default_factory=list)


def project(n_images: int = 60, latest: int | None = 2) -> ProjectView:
    """Return the made-up project."""
    return ProjectView(
        name=NAME,
        classes=CLASSES,
        splits=SplitFractions(),
        seed=0,
        created_at=START,
        n_images=n_images,
        n_by_split={"train": n_images - 18, "val": 6, "gate": 6, "test": 6} if n_images else {},
        n_labelled=20 if n_images else 0,
        latest_version=latest,
    )


def image(i: int) -> ImageView:
    """Return the i-th image's record."""
    split: Split = SPLITS[0] if i < 42 else SPLITS[1 + (i - 42) // 6]
    key = f"{i:064x}"
    return ImageView(
        id=key,
        name=f"photos/scene_{i:04d}.jpg",
        width=WIDTH,
        height=HEIGHT,
        split=split,
        labelled=i < 20 or i >= 42,
        duplicate_group=None,
        key=key,
        thumbnail_key=key,
        created_at=START,
    )


def picture(image_id: str) -> bytes:
    """Return a picture with an object where each of `BOXES` is."""
    noise = random.Random(image_id)
    canvas = Image.new("RGB", (WIDTH, HEIGHT), (200 + noise.randrange(40),) * 3)
    pen = ImageDraw.Draw(canvas)
    for _ in range(60):
        x, y = noise.randrange(WIDTH), noise.randrange(HEIGHT)
        pen.ellipse((x, y, x + 40, y + 30), fill=(noise.randrange(120, 230),) * 3)
    for x1, y1, x2, y2 in BOXES:
        corners = (x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT)
        pen.ellipse(corners, fill=PALETTE[noise.randrange(len(PALETTE))])
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=90)
    return out.getvalue()


def detections() -> tuple[Detection, ...]:
    """Return what the made-up model sees in every picture."""
    scores = ((0.02, 0.91, 0.03, 0.04), (0.55, 0.1, 0.2, 0.3))
    return tuple(
        Detection(class_id=s.index(max(s)), xyxy=box, score=max(s), class_scores=s)
        for box, s in zip(BOXES, scores, strict=True)
    )


def round_view(index: int, state: RoundState, n_done: int = 0, **changes: Any) -> RoundView:
    """Return the round of an index; ten images each."""
    every = ("score", "select", "close", "train", "score_heldout", "calibrate", "gate")
    steps = every if index > 1 else every[1:]
    n_steps = {"labelling": 2, "training": 4, "done": len(steps), "failed": 4}.get(state, 1)
    view = RoundView(
        id=f"round-{index}",
        project=NAME,
        index=index,
        state=state,
        request=RoundPlan(
            strategy=UncertaintyStrategy(strategy="bald") if index > 1 else KMeansStrategy(),
            budget=10,
            training=TrainingParams(epochs=40),
        ),
        selected=tuple(
            SelectedImage(
                image_id=image(i).id, rank=rank, value=0.6 - rank / 50, reason=reason_of(index)
            )
            for rank, i in enumerate(range(10 * (index - 1), 10 * index), 1)
        ),
        n_tasks=10,
        n_done=10 if state == "done" else n_done,
        dataset_version=index if state == "done" else None,
        model_version=index if state == "done" else None,
        promoted=True if state == "done" else None,
        metrics={"map50": 0.4 + 0.13 * index, "map50_95": 0.21 + 0.09 * index}
        if state == "done"
        else {},
        steps=tuple(
            StepView(
                step=step,
                job_id=f"job-{index}-{step}",
                state="succeeded",
                seconds=74.2 if step == "train" else 3.4 + i,
            )
            for i, step in enumerate(steps[:n_steps])
        ),
        error=None,
        created_at=START + timedelta(hours=index),
        finished_at=None,
    )
    return view.model_copy(update=changes)


def reason_of(index: int) -> str:
    """Return a reason as the service words it."""
    if index == 1:
        return "nearest to centre 4 of 10: stands for 37 images"
    return "BALD 0.412, max over 3 boxes: the passes disagree between two and seven"


def tasks_of(view: RoundView) -> list[TaskView]:
    """Return the open tasks of a round, the answered ones first."""
    return [
        TaskView(
            id=f"task-{chosen.rank}",
            project=NAME,
            round_id=view.id,
            image_id=chosen.image_id,
            rank=chosen.rank,
            reason=chosen.reason,
            state="labelled" if chosen.rank <= view.n_done else "open",
            pre_annotations=detections(),
            annotations=None,
            annotator=None,
            lease_expires_at=None,
            updated_at=START,
        )
        for chosen in view.selected
    ]


def job(kind: str, progress: float, message: str) -> JobView:
    """Return a running job."""
    return JobView(
        id=f"job-{kind}",
        kind=kind,
        project=NAME,
        round_id="round-3",
        step=None,
        state="running" if progress else "queued",
        progress=progress,
        message=message,
        attempts=1,
        max_attempts=3,
        cancel_requested=False,
        payload={},
        result=None,
        error=None,
        created_at=START,
        started_at=START,
        finished_at=None,
        seconds=41.0 if progress else None,
    )


def drift_report(name: str, *drifted: str) -> DriftResult:
    """Return a report in which some columns drifted."""
    columns = {"score": 0.44, "n_boxes": 0.31, "brightness": 0.72, "sharpness": 0.55}
    return DriftResult(
        report_id=name,
        project=NAME,
        model_version=2,
        n_reference=18,
        n_current=60,
        drifted_columns=drifted,
        columns=columns | dict.fromkeys(drifted, 0.00002),
        threshold=0.01,
        html_key="html",
        json_key="json",
    )


def simulation(name: str, offset: float) -> SimulationView:
    """Return a simulation in which entropy is `offset` above random."""
    results = summarise(arms(offset=offset, spread=0.01))
    return SimulationView(project=NAME, name=name, results=results, created_at=START)


def map_of(images: list[ImageView], method: MapMethod) -> EmbeddingMap:
    """Return a map with an image of each class in turn."""
    place = random.Random(method)
    points = tuple(
        MapPoint(
            image_id=view.id,
            x=place.gauss(i % 5, 0.3),
            y=place.gauss(i % 5 % 2, 0.3),
            split=view.split,
            class_id=i % 5 if i % 5 < len(CLASSES) else None,
            uncertainty=place.random(),
        )
        for i, view in enumerate(images)
    )
    return EmbeddingMap(
        project=NAME,
        model_version=2,
        method=method,
        made_at=START,
        n_images=len(images),
        points=points,
    )


def busy_world() -> World:
    """Return a project in its third round, which waits for labels."""
    rounds = [round_view(1, "done"), round_view(2, "done"), round_view(3, "labelling", n_done=4)]
    return World(
        projects=[project()],
        images=[image(i) for i in range(60)],
        rounds=rounds,
        tasks=tasks_of(rounds[-1]),
        aliases=AliasView(project=NAME, production=2, previous=1),
        jobs=[
            job("inference.score", 0.62, "31 of 50 images"),
            job("evidently.report", 0.0, ""),
        ],
        drift=[
            drift_report("2026-11-20-unshifted"),
            drift_report("2026-11-20-shifted", "brightness", "sharpness"),
        ],
        simulations=[simulation("advice-v2", 0.08), simulation("other", 0.0)],
        map=map_of([image(i) for i in range(60)], "umap"),
        duplicates=[
            DuplicateGroup(name="a", images=(image(3), image(4)), crosses=False),
            DuplicateGroup(name="b", images=(image(5), image(43), image(44)), crosses=True),
        ],
    )


def empty_world() -> World:
    """Return a gateway without a project."""
    return World([], [], [], [], AliasView(project=NAME, production=None, previous=None))


def fresh_world() -> World:
    """Return a project with images and nothing else."""
    world = empty_world()
    world.projects = [project(latest=None)]
    world.images = [image(i) for i in range(60)]
    return world


def manifest_item(view: ImageView) -> ManifestItem:
    """Return an image's labels: a two and a seven."""
    return ManifestItem(
        image_id=view.id,
        name=view.name,
        key=view.key,
        width=view.width,
        height=view.height,
        split=view.split,
        annotations=(
            Annotation(class_id=1, xyxy=(0.12, 0.22, 0.39, 0.58)),
            Annotation(class_id=0, xyxy=BOXES[1]),
        ),
    )
