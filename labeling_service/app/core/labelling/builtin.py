"""The built-in labelling back end: tasks are rows, answered through this service's own API."""

import uuid
from collections.abc import Collection, Sequence
from typing import Literal, cast

from sqlalchemy import func, select, update

from labeling_service.app.core.labelling.port import Answer, LabellingRound, NewTask, Progress
from labeling_service.app.models.tables import TaskRow
from shared.database import Database, utcnow
from shared.models.geometry import Annotation

DONE_STATES = ("labelled", "skipped")
UNANSWERED_STATES = ("open", "leased")


class BuiltinLabelling:
    """Keeps the tasks in the table `task`."""

    def __init__(self, database: Database) -> None:
        """Keep the tasks in `database`."""
        self._database = database

    def open_round(self, labelling_round: LabellingRound, tasks: Sequence[NewTask]) -> None:
        """Insert the tasks in one transaction; known images keep theirs."""
        with self._database.transaction() as session:
            query = select(TaskRow.image_id).where(TaskRow.round_id == labelling_round.id)
            known = set(session.scalars(query))
            session.add_all(
                _row(labelling_round, task) for task in tasks if task.image_id not in known
            )

    def progress(self, round_id: str) -> Progress:
        """Return how far the round is."""
        query = (
            select(TaskRow.state, func.count())
            .where(TaskRow.round_id == round_id)
            .group_by(TaskRow.state)
        )
        with self._database.transaction() as session:
            counts = dict(session.execute(query).all())
        return Progress(
            n_tasks=sum(counts.values()),
            n_labelled=counts.get("labelled", 0),
            n_skipped=counts.get("skipped", 0),
        )

    def answers(self, round_id: str) -> Sequence[Answer]:
        """Return the answers given so far."""
        query = (
            select(TaskRow)
            .where(TaskRow.round_id == round_id, TaskRow.state.in_(DONE_STATES))
            .order_by(TaskRow.rank, TaskRow.image_id)
        )
        with self._database.transaction() as session:
            return [_answer(row) for row in session.scalars(query)]

    def skipped(self, project: str) -> Collection[str]:
        """Return the images that somebody skipped."""
        query = select(TaskRow.image_id).where(
            TaskRow.project == project, TaskRow.state == "skipped"
        )
        with self._database.transaction() as session:
            return set(session.scalars(query))

    def close_round(self, round_id: str) -> None:
        """Close the tasks that nobody answered."""
        statement = (
            update(TaskRow)
            .where(TaskRow.round_id == round_id, TaskRow.state.in_(UNANSWERED_STATES))
            .values(state="closed", lease_expires_at=None, updated_at=utcnow())
        )
        with self._database.transaction() as session:
            session.execute(statement)


def _row(labelling_round: LabellingRound, task: NewTask) -> TaskRow:
    return TaskRow(
        id=uuid.uuid4().hex,
        round_id=labelling_round.id,
        project=labelling_round.project,
        image_id=task.image_id,
        rank=task.rank,
        reason=task.reason,
        pre_annotations=[d.model_dump(mode="json") for d in task.pre_annotations],
    )


def _answer(row: TaskRow) -> Answer:
    return Answer(
        image_id=row.image_id,
        outcome=cast(Literal["labelled", "skipped"], row.state),
        annotations=tuple(Annotation.model_validate(a) for a in row.annotations or ()),
        annotator=row.annotator or "",
    )
