"""The steps of a round: what state each belongs to, and the job that does it."""

from collections.abc import Mapping
from typing import Literal, assert_never, cast

from pydantic import BaseModel
from sqlalchemy.orm import Session

from labeling_service.app.core.strategies.needs import needs_of
from labeling_service.app.models.schemas import RoundStep
from labeling_service.app.models.tables import RoundRow
from shared.jobs.store import JobStore, JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import CalibrationCreate, GateCreate, ScoringCreate, TrainingCreate
from shared.models.rounds import RoundPlan, RoundState

JobStep = Literal["score", "select", "close", "train", "score_heldout", "calibrate", "gate"]
# In `label` no job runs: the round waits for people.
Step = JobStep | Literal["label"]

STATES: Mapping[Step, RoundState] = {
    "score": "scoring",
    "select": "selecting",
    "label": "labelling",
    "close": "labelling",
    "train": "training",
    "score_heldout": "calibrating",
    "calibrate": "calibrating",
    "gate": "gating",
}

KINDS: Mapping[JobStep, str] = {
    "score": "inference.score",
    "select": "labeling.select",
    "close": "labeling.close",
    "train": "training.train",
    "score_heldout": "inference.score",
    "calibrate": "calibration.calibrate",
    "gate": "calibration.gate",
}


def request_of(row: RoundRow) -> RoundPlan:
    """Return what was asked for."""
    return RoundPlan.model_validate(row.request)


def step_of(row: RoundRow) -> Step:
    """Return the step the round is at, or ended at."""
    return cast(Step, row.step)


def job_key(round_id: str, step: Step) -> str:
    """Return the key that makes the job of a step unique."""
    return f"{round_id}:{step}"


def first_step(request: RoundPlan) -> Step:
    """Return where a round begins: nothing is scored that neither the choice nor people look at.

    A replay (`stop_after` is `training`) is answered by oracles, who need no boxes to start from.
    """
    if request.purpose != "train":
        return "select"
    blind = not needs_of(request.strategy).images and request.budget_unit == "images"
    return "select" if blind and request.stop_after == "training" else "score"


def submit_step(session: Session, jobs: JobStore, row: RoundRow) -> JobView | None:
    """Insert the job of the round's step in the caller's transaction; None while people label."""
    step = step_of(row)
    if step == "label":
        return None
    job = JobSubmit(
        kind=KINDS[step],
        project=row.project,
        payload=payload(row, step),
        key=job_key(row.id, step),
        round_id=row.id,
        step=step,
    )
    return jobs.submit(session, job)


def payload(row: RoundRow, step: JobStep) -> BaseModel:
    """Return what the job of a step is told."""
    request = request_of(row)
    match step:
        case "score":
            needs = needs_of(request.strategy)
            return ScoringCreate(
                model_version=row.scored_by,
                unlabelled_only=not needs.labelled,
                consistency=needs.consistency,
            )
        case "select" | "close":
            return RoundStep(round_id=row.id)
        case "train":
            return TrainingCreate(
                dataset_version=_known(row.dataset_version),
                params=request.training,
                round_id=row.id,
            )
        case "score_heldout":
            return ScoringCreate(
                model_version=_known(row.model_version), splits=("val", "gate", "test")
            )
        case "calibrate":
            # Labels that come in meanwhile are of images that may not have been scored.
            return CalibrationCreate(
                model_version=_known(row.model_version),
                dataset_version=_known(row.dataset_version),
            )
        case "gate":
            return GateCreate(
                model_version=_known(row.model_version),
                dataset_version=_known(row.dataset_version),
                promote=request.auto_promote,
            )
        case _:
            assert_never(step)


def _known(version: int | None) -> int:
    if version is None:
        msg = "the step before has left no version"
        raise ValueError(msg)
    return version
