"""Tasks as annotators see them: lease the next one, answer it.

Every change locks the round's row before the task's, so that a lease, an answer, the closing and a
cancellation see each other; the change itself is a compare-and-set.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import structlog
from sqlalchemy import ColumnElement, CursorResult, Select, and_, or_, select, update
from sqlalchemy.orm import Session

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.core.labelling.port import Labelling
from labeling_service.app.models.errors import (
    AlreadyAnswered,
    LeaseLost,
    NoOpenTask,
    RoundNotLabelling,
    SkippedWithBoxes,
    UnknownClass,
    UnknownRound,
    UnknownTask,
)
from labeling_service.app.models.tables import RoundRow, TaskRow
from shared.database import Database, utcnow
from shared.models.geometry import Annotation, Detection
from shared.models.rounds import AnswerCreate, LeaseCreate, TaskState, TaskView

log = structlog.stdlib.get_logger()

LEASE = timedelta(minutes=15)
DONE_STATES = ("labelled", "skipped")


class Tasks:
    """The tasks of the built-in labelling back end."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        labelling: Labelling,
        on_complete: Callable[[str], None],
    ) -> None:
        """Keep tasks in `database`; after a round's last answer call `on_complete` with its id."""
        self._database = database
        self._gateway = gateway
        self._labelling = labelling
        self._on_complete = on_complete

    def get(self, project: str, task_id: str) -> TaskView:
        """Return one task.

        Raises:
            NotFound: the project, or the task in it, does not exist.
        """
        with self._database.transaction() as session:
            row = session.get(TaskRow, task_id)
        return task_view(self._require(row, project, task_id))

    def list(self, project: str, round_id: str) -> Sequence[TaskView]:
        """Return a round's tasks in the order of their rank.

        Raises:
            NotFound: the project, or the round in it, does not exist.
        """
        query = select(TaskRow).where(TaskRow.round_id == round_id, TaskRow.project == project)
        with self._database.transaction() as session:
            rows = session.scalars(query.order_by(TaskRow.rank, TaskRow.image_id)).all()
        if not rows:
            self._require_round(project, round_id)
        return [task_view(row) for row in rows]

    def lease(self, project: str, lease: LeaseCreate) -> TaskView:
        """Keep the next task for an annotator for 15 minutes: by round, then rank.

        Who has a task already gets it again, for another 15 minutes.

        Raises:
            NotFound: the project does not exist.
            UnknownRound: it asks for a round that the project does not have.
            NoOpenTask: every task is answered, or kept for somebody else.
        """
        with self._database.transaction() as session:
            round_ids = session.scalars(_labelling_rounds(project, lease.round_id)).all()
            leased = self._lease_next(session, round_ids, lease.annotator)
        if leased is None:
            self._require_round(project, lease.round_id)
            where = "" if lease.round_id is None else f" in round {lease.round_id!r}"
            msg = f"no open task of project {project!r}{where} for {lease.annotator!r}"
            raise NoOpenTask(msg)
        return task_view(leased)

    def answer(self, project: str, task_id: str, answer: AnswerCreate) -> TaskView:
        """Save an answer; the same one twice is fine, and the last answer moves the round on.

        Raises:
            NotFound: the project, or the task in it, does not exist.
            UnknownClass: an annotation's class is not in the class map.
            SkippedWithBoxes: a skipped task has no annotations.
            AlreadyAnswered: somebody else answered before.
            LeaseLost: the task is kept for somebody else now.
            RoundNotLabelling: the round takes no answers (any more).
        """
        if answer.outcome == "skipped" and answer.annotations:
            msg = f"a skipped task has no annotations, but {len(answer.annotations)} are given"
            raise SkippedWithBoxes(msg)
        with self._database.transaction() as session:
            row = session.get(TaskRow, task_id)
            if row is not None and row.project == project:
                row = _save(session, row, answer)
        saved = task_view(self._require(row, project, task_id))
        if self._labelling.progress(saved.round_id).complete:
            self._on_complete(saved.round_id)
        return saved

    def _lease_next(
        self, session: Session, round_ids: Sequence[str], annotator: str
    ) -> TaskRow | None:
        now = utcnow()
        mine = and_(
            TaskRow.state == "leased",
            TaskRow.annotator == annotator,
            TaskRow.lease_expires_at > now,
        )
        for condition in (mine, _free(now)):
            while (row := session.scalars(_first(round_ids, condition)).first()) is not None:
                values = {
                    "state": "leased",
                    "annotator": annotator,
                    "lease_expires_at": now + LEASE,
                    "updated_at": now,
                }
                if _set_if(session, row, condition, values):
                    return row
        return None

    def _require_round(self, project: str, round_id: str | None) -> None:
        """Raise NotFound for an unknown project, or for a round that it does not have."""
        if round_id is not None:
            with self._database.transaction() as session:
                row = session.get(RoundRow, round_id)
            if row is not None and row.project == project:
                return
        self._gateway.project(project)
        if round_id is not None:
            msg = f"unknown round: {round_id!r} of project {project!r}"
            raise UnknownRound(msg)

    def _require(self, row: TaskRow | None, project: str, task_id: str) -> TaskRow:
        if row is None or row.project != project:
            self._gateway.project(project)
            msg = f"unknown task: {task_id!r} of project {project!r}"
            raise UnknownTask(msg)
        return row


def task_view(row: TaskRow) -> TaskView:
    """Return the row as callers see it."""
    annotations = None
    if row.annotations is not None:
        annotations = tuple(Annotation.model_validate(a) for a in row.annotations)
    return TaskView(
        id=row.id,
        project=row.project,
        round_id=row.round_id,
        image_id=row.image_id,
        rank=row.rank,
        reason=row.reason,
        state=cast(TaskState, row.state),
        pre_annotations=tuple(Detection.model_validate(d) for d in row.pre_annotations),
        annotations=annotations,
        annotator=row.annotator,
        lease_expires_at=row.lease_expires_at,
        updated_at=row.updated_at,
    )


def _labelling_rounds(project: str, round_id: str | None) -> Select[str]:
    query = select(RoundRow.id).where(RoundRow.project == project, RoundRow.step == "label")
    query = query.where(RoundRow.finished_at.is_(None)).order_by(RoundRow.index)
    if round_id is not None:
        query = query.where(RoundRow.id == round_id)
    return query.with_for_update()


def _free(now: datetime) -> ColumnElement[bool]:
    expired = and_(TaskRow.state == "leased", TaskRow.lease_expires_at <= now)
    return or_(TaskRow.state == "open", expired)


def _first(round_ids: Sequence[str], condition: ColumnElement[bool]) -> Select[TaskRow]:
    return (
        select(TaskRow)
        .join(RoundRow, RoundRow.id == TaskRow.round_id)
        .where(TaskRow.round_id.in_(round_ids), condition)
        .order_by(RoundRow.index, TaskRow.rank, TaskRow.image_id)
        .limit(1)
    )


def _set_if(
    session: Session, row: TaskRow, condition: ColumnElement[bool], values: dict[str, Any]
) -> bool:
    """Change the row if the condition still holds, and read it again."""
    statement = update(TaskRow).where(TaskRow.id == row.id, condition).values(**values)
    statement = statement.execution_options(synchronize_session=False)
    changed = cast("CursorResult[Any]", session.execute(statement)).rowcount
    session.refresh(row)
    return bool(changed)


def _save(session: Session, row: TaskRow, answer: AnswerCreate) -> TaskRow:
    # A shared lock: answers go side by side, the closing of the round waits for them.
    labelling_round = session.get_one(
        RoundRow, row.round_id, with_for_update={"read": True}, populate_existing=True
    )
    row = session.get_one(TaskRow, row.id, with_for_update=True, populate_existing=True)
    _check_classes(labelling_round, answer)
    annotations = [a.model_dump(mode="json") for a in answer.annotations]
    if row.state in DONE_STATES:
        if row.annotator != answer.annotator:
            msg = f"task {row.id!r} was answered by {row.annotator!r}"
            raise AlreadyAnswered(msg)
        if row.state == answer.outcome and row.annotations == annotations:
            return row
    if labelling_round.step != "label" or labelling_round.finished_at is not None:
        msg = f"round {labelling_round.id!r} takes no answers: it is {_phase(labelling_round)}"
        raise RoundNotLabelling(msg)
    _check_lease(row, answer.annotator)
    row.state, row.annotations, row.annotator = answer.outcome, annotations, answer.annotator
    row.lease_expires_at, row.updated_at = None, utcnow()
    log.info("task.answered", task_id=row.id, round_id=row.round_id, outcome=answer.outcome)
    return row


def _check_classes(labelling_round: RoundRow, answer: AnswerCreate) -> None:
    n_classes = len(labelling_round.classes)
    for annotation in answer.annotations:
        if annotation.class_id >= n_classes:
            msg = (
                f"unknown class id: {annotation.class_id}; project {labelling_round.project!r} "
                f"has {n_classes} classes, 0 to {n_classes - 1}"
            )
            raise UnknownClass(msg)


def _check_lease(row: TaskRow, annotator: str) -> None:
    expires_at = row.lease_expires_at
    held = row.state == "leased" and expires_at is not None and expires_at > utcnow()
    if held and row.annotator != annotator:
        msg = f"task {row.id!r} is kept for {row.annotator!r} now; lease the next one"
        raise LeaseLost(msg)


def _phase(labelling_round: RoundRow) -> str:
    closing = labelling_round.step == "close" and labelling_round.finished_at is None
    return "closing" if closing else labelling_round.state
