"""One annotator's seat: the task at hand, the drafts, and answers that arrive exactly once."""

from dataclasses import dataclass, field
from typing import Literal

import streamlit as st

from dashboard.session import Desk
from shared.errors import AppError, NotFound
from shared.models.geometry import Annotation
from shared.models.rounds import AnswerCreate, LeaseCreate, TaskView


@dataclass
class Seat:
    """What is kept of one annotator between two clicks.

    Attributes:
        desk: client and project of the newest run of the page.
        annotator: the name that goes with the answers.
        task: the one at hand; None between two.
        drafts: boxes by task id, as of the last "Complete": what a failed save leaves behind.
        problem: why the last answer was not saved.
        previous: the task before this one, to go back to; its answer may be changed.
    """

    desk: Desk
    annotator: str
    task: TaskView | None = None
    drafts: dict[str, tuple[Annotation, ...]] = field(default_factory=dict)
    problem: str | None = None
    previous: TaskView | None = None

    def go_back(self) -> None:
        """Take up the task before this one again, with the boxes that were saved."""
        if self.previous is not None:
            self.drafts[self.previous.id] = self.previous.annotations or ()
            self.task, self.previous, self.problem = self.previous, None, None

    def drop(self, task_id: str) -> None:
        """Put the task away without an answer, boxes and all."""
        self.drafts.pop(task_id, None)
        if self.task is not None and self.task.id == task_id:
            self.task = None
        self.problem = None


def seat_at(desk: Desk, annotator: str) -> Seat:
    """Return this browser session's seat; another name or project is another seat."""
    seats: dict[tuple[str, str], Seat] = st.session_state.setdefault("seats", {})
    seat = seats.setdefault((desk.name, annotator), Seat(desk, annotator))
    seat.desk = desk
    return seat


def take_next(seat: Seat) -> bool:
    """Lease the next task; tell whether there was one.

    Raises:
        AppError: what the gateway says, unless it is that no task is open.
    """
    try:
        lease = LeaseCreate(annotator=seat.annotator)
        seat.task = seat.desk.client.lease_task(seat.desk.name, lease)
    except NotFound:
        return False
    seat.problem = None
    return True


def answer(
    seat: Seat,
    task_id: str,
    outcome: Literal["labelled", "skipped"],
    boxes: tuple[Annotation, ...],
) -> None:
    """Save an answer and make room for the next task; on failure keep everything and say why.

    A second click on the same button finds another task at hand, and does nothing.
    """
    if seat.task is None or seat.task.id != task_id:
        return
    said = AnswerCreate(annotator=seat.annotator, outcome=outcome, annotations=boxes)
    try:
        saved = seat.desk.client.answer_task(seat.desk.name, task_id, said)
    except AppError as exc:
        seat.problem = f"{str(exc).rstrip('.')}."
        return
    seat.drop(task_id)
    seat.previous = saved
    st.toast(_receipt(outcome, len(boxes)), icon=":material/check:")


def _receipt(outcome: str, n_boxes: int) -> str:
    if outcome == "skipped":
        return "Skipped"
    return (
        f"Saved: {n_boxes} box{'es' if n_boxes != 1 else ''}" if n_boxes else "Saved: nothing here"
    )
