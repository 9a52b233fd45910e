"""Moves rounds on: one short transaction per transition, as often as anybody asks.

Killing any process at any time delays a round and loses nothing: a transition changes the round and
inserts the next job in the same transaction, and only if the round is still where it was read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from pydantic import ValidationError
from sqlalchemy import CursorResult, select, update

from labeling_service.app.core.labelling.port import Labelling
from labeling_service.app.models.schemas import ClosingResult
from labeling_service.app.models.tables import RoundRow
from labeling_service.app.services.steps import (
    STATES,
    JobStep,
    Step,
    job_key,
    request_of,
    step_of,
    submit_step,
)
from shared.database import Database, utcnow
from shared.jobs.store import JobStore
from shared.models.jobs import JobView
from shared.models.registry import GateVerdict, Metrics, TrainingResult
from shared.models.rounds import RoundState

log = structlog.stdlib.get_logger()

FOLLOWS: Mapping[Step, Step] = {
    "score": "select",
    "select": "label",
    "score_heldout": "calibrate",
    "calibrate": "gate",
}


@dataclass(frozen=True)
class Change:
    """One transition: the new step (the old one, where the round ends) and what is learnt by it."""

    step: Step
    state: RoundState
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        """Tell whether the round is over after this."""
        return self.state in ("done", "failed", "cancelled")


class Reconciler:
    """Compares rounds with their jobs and does what is due; safe to run many times at once."""

    def __init__(self, database: Database, jobs: JobStore, labelling: Labelling) -> None:
        """Move the rounds in `database`, with jobs in the same one."""
        self._database = database
        self._jobs = jobs
        self._labelling = labelling

    def reconcile(self, round_id: str) -> None:
        """Move one round as far as it can go now; an unknown or finished one is left alone."""
        while self._advance(round_id):
            pass

    def sweep(self) -> int:
        """Move every unfinished round; return how many there are."""
        query = select(RoundRow.id).where(RoundRow.finished_at.is_(None)).order_by(RoundRow.id)
        with self._database.transaction() as session:
            round_ids = session.scalars(query).all()
        for round_id in round_ids:
            self.reconcile(round_id)
        return len(round_ids)

    def _advance(self, round_id: str) -> bool:
        with self._database.transaction() as session:
            row = session.get(RoundRow, round_id)
        if row is None or row.finished_at is not None:
            return False
        change = self._due(row)
        if change is None:
            return False
        self._apply(row, change)
        return True

    def _due(self, row: RoundRow) -> Change | None:
        step = step_of(row)
        if step == "label":
            complete = self._labelling.progress(row.id).complete
            return _to("close") if complete else None
        job = self._jobs.find(job_key(row.id, step))
        if job is None:
            return _to(step)
        if job.state == "succeeded":
            return _after(row, step, job)
        if job.state == "failed":
            return _end(step, "failed", error=f"step {step!r} failed: {job.error}")
        if job.state == "cancelled":
            return _end(step, "cancelled", error=f"the job of step {step!r} was cancelled")
        return None

    def _apply(self, row: RoundRow, change: Change) -> None:
        moved = (
            update(RoundRow)
            .where(
                RoundRow.id == row.id, RoundRow.state == row.state, RoundRow.version == row.version
            )
            .values(
                step=change.step,
                state=change.state,
                version=row.version + 1,
                finished_at=utcnow() if change.ends else None,
                **change.values,
            )
        )
        with self._database.transaction() as session:
            if cast("CursorResult[Any]", session.execute(moved)).rowcount == 0:
                return  # somebody else was first; the caller looks again
            if not change.ends:
                fresh = session.get_one(RoundRow, row.id, populate_existing=True)
                submit_step(session, self._jobs, fresh)
        log.info("round.moved", round_id=row.id, state=change.state, step=change.step)
        if change.state in ("failed", "cancelled"):
            self._labelling.close_round(row.id)


def _to(step: Step, **values: Any) -> Change:
    return Change(step, STATES[step], values)


def _end(step: Step, state: RoundState, **values: Any) -> Change:
    return Change(step, state, values)


def _after(row: RoundRow, step: JobStep, job: JobView) -> Change:
    """Return what follows a step that went well; a result nobody can read fails the round."""
    try:
        return _follow(row, step, job)
    except ValidationError as exc:
        error = f"step {step!r} left an unreadable result (job {job.id!r}): {exc.errors()[0]}"
        return _end(step, "failed", error=error)


def _follow(row: RoundRow, step: JobStep, job: JobView) -> Change:
    match step:
        case "close":
            version = ClosingResult.model_validate(job.result).dataset_version
            if request_of(row).purpose != "train":
                return _end(step, "done", dataset_version=version)
            return _to("train", dataset_version=version)
        case "train":
            training = TrainingResult.model_validate(job.result)
            learnt = {
                "model_version": training.model_version,
                "metrics": _flat(training.metrics.get("test")),
            }
            if request_of(row).stop_after == "training":
                return _end(step, "done", **learnt)
            return _to("score_heldout", **learnt)
        case "gate":
            return _end(step, "done", promoted=GateVerdict.model_validate(job.result).promoted)
        case _:
            return _to(FOLLOWS[step])


def _flat(metrics: Metrics | None) -> dict[str, float]:
    if metrics is None:
        return {}
    per_class = {f"map50/{name}": value for name, value in metrics.per_class_map50.items()}
    return {"map50": metrics.map50, "map50_95": metrics.map50_95, **per_class}
