"""Rounds, selection strategies and labelling tasks."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.models.geometry import MAX_INTEGER, Annotation, Detection, Frozen
from shared.models.strategies import FIRST_STRATEGY, USUAL_STRATEGY, Strategy

RoundState = Literal[
    "scoring",
    "selecting",
    "labelling",
    "training",
    "calibrating",
    "gating",
    "done",
    "failed",
    "cancelled",
]
MAX_ITERATIONS = 100_000
Purpose = Literal["train", "val", "gate", "test"]
BudgetUnit = Literal["images", "boxes"]


class TrainingParams(Frozen):
    """How a model is trained; the same for every round that is to be compared."""

    epochs: int = Field(
        default=40, ge=1, le=1000, description="Of no meaning where `iterations` is set."
    )
    iterations: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ITERATIONS,
        description="Optimizer steps, however many images there are; unset: what `epochs` make.",
    )
    image_size: int = Field(default=320, ge=32, le=2048, multiple_of=32)
    batch: int = Field(default=8, ge=1, le=256)
    learning_rate: float = Field(default=0.002, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)
    balance: bool = Field(
        default=False, description="Show images with rare classes more often (as LVIS does)."
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Of the head while training; unset: 0.1. Bayesian passes have the same "
        "afterwards, and 0.1 where this is 0.",
    )
    base: str | None = Field(
        default=None,
        description="`fovea-digits`, `scratch` or `yolov8n.pt`; `model:3` goes on from the "
        "project's version 3; unset: the setting.",
    )


class RoundCreate(Frozen):
    """One turn of the loop."""

    strategy: Strategy | None = Field(
        default=None,
        description=f"Unset: `{FIRST_STRATEGY}` before there is a model that scores the pool, then "
        f"`{USUAL_STRATEGY}`; `random` where the labels are for a held-out split.",
    )
    budget: int = Field(default=40, ge=1, le=100_000, description="How much to have labelled.")
    budget_unit: BudgetUnit = Field(
        default="images",
        description="`boxes` counts those that the model expects, of each image at least 1; the "
        "last image may exceed it.",
    )
    purpose: Purpose = Field(
        default="train",
        description="Which split the labels are for; `val`, `gate`, `test` end there.",
    )
    training: TrainingParams = TrainingParams()
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)
    auto_promote: bool = Field(default=True, description="Let the gate move the production alias.")
    scored_by: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="Model version that scores the pool; unset: production.",
    )
    stop_after: Literal["gating", "training"] = Field(
        default="gating",
        description="`training`: the model is trained and measured, then the round is done; it is "
        "neither calibrated nor compared nor promoted, and a random choice by images is made "
        "without scoring the pool first: for replays.",
    )


class RoundPlan(RoundCreate):
    """What a round does: what was asked for, its strategy chosen."""

    strategy: Strategy


class SelectedImage(Frozen):
    """An image that was chosen, and why."""

    image_id: str
    rank: int
    value: float | None = Field(description="What the strategy ranked by; none for random.")
    reason: str
    expected_boxes: int | None = Field(
        default=None, description="Boxes that the model expects in it; none before any training."
    )


class StepView(Frozen):
    """One step of a round and the job that does it."""

    step: str
    job_id: str
    state: str
    seconds: float | None


class RoundView(Frozen):
    """A round as it stands."""

    id: str
    project: str
    index: int = Field(description="1, 2, … within the project.")
    state: RoundState
    request: RoundPlan
    selected: tuple[SelectedImage, ...]
    n_tasks: int
    n_done: int
    dataset_version: int | None
    model_version: int | None
    promoted: bool | None
    metrics: dict[str, float]
    steps: tuple[StepView, ...]
    note: str | None = Field(default=None, description="What was not as asked for, in words.")
    error: str | None
    created_at: datetime
    finished_at: datetime | None


TaskState = Literal["open", "leased", "labelled", "skipped", "closed"]


class TaskView(Frozen):
    """One image to be labelled by one person."""

    id: str
    project: str
    round_id: str
    image_id: str
    rank: int
    reason: str
    state: TaskState
    pre_annotations: tuple[Detection, ...]
    annotations: tuple[Annotation, ...] | None
    annotator: str | None
    lease_expires_at: datetime | None
    updated_at: datetime


class LeaseCreate(Frozen):
    """Ask for the next open task; it is kept for this annotator for a while."""

    annotator: str = Field(min_length=1, max_length=100)
    round_id: str | None = None


class AnswerCreate(Frozen):
    """What the annotator says: boxes, nothing here (no boxes), or skip."""

    annotator: str = Field(min_length=1, max_length=100)
    outcome: Literal["labelled", "skipped"] = "labelled"
    annotations: tuple[Annotation, ...] = ()
