"""Jobs in the database: submit, claim, heartbeat, finish, cancel, reap."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import structlog
from pydantic import BaseModel
from sqlalchemy import CursorResult, Select, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, defer

from shared.database import Database, call_after_commit, utcnow
from shared.errors import Conflict, NotFound
from shared.jobs.bell import Bell
from shared.jobs.tables import JobRow, view
from shared.models.jobs import FINAL_STATES, JobState, JobView
from shared.settings import Settings

log = structlog.stdlib.get_logger()

FinalState = Literal["succeeded", "failed", "cancelled"]


class UnknownJob(NotFound):
    """No job has this id."""


class JobNotStopped(Conflict):
    """The job did not fail and was not cancelled, so there is nothing to resume."""


class JobAlreadyFinished(Conflict):
    """The job ended before, so it cannot be cancelled."""


@dataclass(frozen=True)
class JobSubmit:
    """What to do.

    Attributes:
        kind: name of the task.
        project: whose it is.
        payload: what the task is given.
        id: of the job, for what is stored under it before; unset: a new one.
        key: makes a second submit return the first job.
        round_id: of the round that it is a step of.
        step: of that round.
    """

    kind: str
    project: str
    payload: BaseModel
    id: str | None = None
    key: str | None = None
    round_id: str | None = None
    step: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, until somebody else gets it: worker and attempt fence it off.

    Attributes:
        job: as it was when it was claimed.
        worker: who has it.
        n_waits: how often it was put back before to wait for a back end.
    """

    job: JobView
    worker: str
    n_waits: int


class JobStore:
    """All that is ever done to a job row."""

    def __init__(self, database: Database, bell: Bell, settings: Settings) -> None:
        """Keep rows in `database`, and ring through `bell`."""
        self.database = database
        self.bell = bell
        self._settings = settings

    def submit(self, session: Session, job: JobSubmit) -> JobView:
        """Insert the job in the caller's transaction and ring after its commit.

        A job with the same key is returned instead of a second one being made.
        """
        key = job.key or uuid.uuid4().hex
        row = JobRow(
            id=job.id or uuid.uuid4().hex,
            key=key,
            kind=job.kind,
            project=job.project,
            payload=job.payload.model_dump(mode="json"),
            round_id=job.round_id,
            step=job.step,
            state="queued",
            max_attempts=self._settings.job_max_attempts,
        )
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:
            return view(session.scalars(select(JobRow).where(JobRow.key == key)).one())
        call_after_commit(session, lambda: self.bell.ring(row.kind, row.id))
        return view(row)

    def get(self, job_id: str) -> JobView:
        """Return one job.

        Raises:
            UnknownJob: no job has this id.
        """
        with self.database.transaction() as session:
            return view(_require(session, job_id))

    def find(self, key: str) -> JobView | None:
        """Return the job with this key, if there is one."""
        with self.database.transaction() as session:
            row = session.scalars(select(JobRow).where(JobRow.key == key)).one_or_none()
            return view(row) if row else None

    def list(
        self,
        *,
        project: str | None = None,
        state: JobState | None = None,
        round_id: str | None = None,
        parent_id: str | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> Sequence[JobView]:
        """Return jobs, the newest first; parts only of the job `parent_id`, without payload."""
        query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id).limit(limit)
        query = query.where(JobRow.parent_id == parent_id)
        for column, value in (
            (JobRow.project, project),
            (JobRow.state, state),
            (JobRow.round_id, round_id),
            (JobRow.kind, kind),
        ):
            if value is not None:
                query = query.where(column == value)
        if parent_id is not None:
            query = query.options(defer(JobRow.payload, raiseload=True))
        with self.database.transaction() as session:
            return [view(row, with_payload=parent_id is None) for row in session.scalars(query)]

    def cancel(self, job_id: str) -> JobView:
        """Cancel a queued job at once; ask a running one to stop.

        Raises:
            UnknownJob: no job has this id.
            JobAlreadyFinished: it ended before.
        """
        with self.database.transaction() as session:
            row = _require(session, job_id)
            if row.state in FINAL_STATES:
                msg = f"job {job_id!r} is already {row.state}"
                raise JobAlreadyFinished(msg)
            # Parts first, as the reaper takes them: two that wait for each other would wait long.
            self._stop_parts(session, row.id)
            row.cancel_requested = True
            if row.state == "queued":
                self._end(session, row, "cancelled", error=None)
            return view(row)

    def resume(self, job_id: str) -> JobView:
        """Put a job that failed or was cancelled back in the queue, with its parts.

        Raises:
            UnknownJob: no job has this id.
            JobNotStopped: it is not over, or succeeded, or a part of it is not over.
        """
        with self.database.transaction() as session:
            row = _require(session, job_id)
            if row.state not in ("failed", "cancelled"):
                msg = f"job {job_id!r} is {row.state}: only a failed or cancelled one is resumed"
                raise JobNotStopped(msg)
            running = JobRow.parent_id == job_id, JobRow.state == "running"
            if session.scalars(select(JobRow.id).where(*running).limit(1)).one_or_none():
                msg = f"job {job_id!r} is {row.state}, but a part of it is still stopping"
                raise JobNotStopped(msg)
            stopped = JobRow.state.in_(("failed", "cancelled"))
            session.execute(
                update(JobRow)
                .where(or_(JobRow.id == job_id, JobRow.parent_id == job_id), stopped)
                .values(
                    state="queued",
                    worker=None,
                    error=None,
                    finished_at=None,
                    attempts=0,
                    n_waits=0,
                    cancel_requested=False,
                    rung_at=utcnow(),
                )
            )
            row = _require(session, job_id)
            self._ring_later(session, row)
            return view(row)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a queued job for this worker; None when somebody else has it or it is over."""
        now = utcnow()
        with self.database.transaction() as session:
            taken = _rowcount(
                session,
                update(JobRow)
                .where(JobRow.id == job_id, JobRow.state == "queued")
                .values(
                    state="running",
                    worker=worker,
                    attempts=JobRow.attempts + 1,
                    heartbeat_at=now,
                    started_at=func.coalesce(JobRow.started_at, now),
                ),
            )
            if not taken:
                return None
            row = _require(session, job_id)
            return Claim(view(row), worker, row.n_waits)

    def beat(self, claim: Claim, progress: float | None = None, message: str | None = None) -> bool:
        """Give a sign of life; return False when the job is no longer this worker's."""
        values: dict[str, Any] = {"heartbeat_at": utcnow()}
        if progress is not None:
            values["progress"] = min(max(progress, 0.0), 1.0)
        if message is not None:
            values["message"] = message
        with self.database.transaction() as session:
            return bool(_rowcount(session, _owned(claim).values(**values)))

    def cancel_requested(self, job_id: str) -> bool:
        """Tell whether somebody asked for this job to stop."""
        with self.database.transaction() as session:
            return bool(_require(session, job_id).cancel_requested)

    def beat_in(self, session: Session, claim: Claim) -> bool:
        """Give a sign of life in the caller's transaction, which then holds the row."""
        return bool(_rowcount(session, _owned(claim).values(heartbeat_at=utcnow())))

    def finish(
        self,
        claim: Claim,
        state: FinalState,
        *,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End the job, if it is still this worker's, and ring the round reconciler."""
        with self.database.transaction() as session:
            row = _require(session, claim.job.id)
            if not _is_owner(row, claim):
                return False
            self._end(session, row, state, error=error, result=result)
            return True

    def release(
        self, claim: Claim, message: str, *, attempt_counts: bool, ring: bool = True
    ) -> bool:
        """Put the job back in the queue, for another try by any worker; a cancelled one ends.

        Without `ring` the try comes when the reaper rings, after its interval: that is one wait.
        """
        with self.database.transaction() as session:
            row = _require(session, claim.job.id)
            if not _is_owner(row, claim):
                return False
            if row.cancel_requested:
                self._end(session, row, "cancelled", error=None)
                return True
            row.state, row.worker, row.message, row.rung_at = "queued", None, message, utcnow()
            if not attempt_counts:
                row.attempts -= 1
            if ring:
                self._ring_later(session, row)
            else:
                row.n_waits += 1
            return True

    def reap(self) -> int:
        """Give stale jobs to another worker, ring again for waiting ones; return how many."""
        with self.database.transaction() as session:
            stale = session.scalars(
                select(JobRow)
                .where(
                    JobRow.state == "running",
                    JobRow.heartbeat_at < _ago(self._settings.job_stale_s),
                )
                .with_for_update(skip_locked=True)
            ).all()
            for row in stale:
                self._requeue_or_fail(session, row)
            waiting = session.scalars(
                select(JobRow).where(
                    JobRow.state == "queued",
                    JobRow.rung_at < _ago(self._settings.reconcile_interval_s),
                    # A worker that has done one part rings for the next.
                    or_(JobRow.parent_id.is_(None), JobRow.key.in_(_first_waiting_parts())),
                )
            ).all()
            for row in waiting:
                row.rung_at = utcnow()
                self._ring_later(session, row)
            return len(stale) + len(waiting)

    def _stop_parts(self, session: Session, job_id: str) -> None:
        """Cancel the parts that wait, and ask those that run to stop."""
        mine = JobRow.parent_id == job_id
        waiting = update(JobRow).where(mine, JobRow.state == "queued")
        session.execute(
            waiting.values(state="cancelled", cancel_requested=True, finished_at=utcnow())
        )
        running = update(JobRow).where(mine, JobRow.state == "running")
        session.execute(running.values(cancel_requested=True))

    def _requeue_or_fail(self, session: Session, row: JobRow) -> None:
        log.warning("job.stale", job_id=row.id, kind=row.kind, worker=row.worker)
        if row.cancel_requested:
            self._end(session, row, "cancelled", error=None)
        elif row.attempts >= row.max_attempts:
            error = f"the worker was lost {row.attempts} times (last: {row.worker})"
            self._end(session, row, "failed", error=error)
        else:
            row.state, row.worker, row.rung_at = "queued", None, utcnow()
            row.message = f"worker lost, waiting for attempt {row.attempts + 1}"
            self._ring_later(session, row)

    def _ring_later(self, session: Session, row: JobRow) -> None:
        kind, job_id = row.kind, row.id
        call_after_commit(session, lambda: self.bell.ring(kind, job_id))

    def _end(
        self,
        session: Session,
        row: JobRow,
        state: FinalState,
        *,
        error: str | None,
        result: dict[str, Any] | None = None,
    ) -> None:
        row.state, row.error, row.result, row.finished_at = state, error, result, utcnow()
        if state == "succeeded":
            row.progress = 1.0
            # Their results are in its own.
            session.execute(delete(JobRow).where(JobRow.parent_id == row.id))
        else:
            self._stop_parts(session, row.id)
        round_id = row.round_id
        if round_id is not None:
            call_after_commit(session, lambda: self.bell.ring_reconciler(round_id))


def _first_waiting_parts() -> Select[Any]:
    """Return the query for the first waiting part of each job that somebody works on."""
    parent = aliased(JobRow)
    works = select(parent.id).where(parent.id == JobRow.parent_id, parent.state == "running")
    first = select(func.min(JobRow.key)).where(JobRow.state == "queued", works.exists())
    return first.group_by(JobRow.parent_id)


def _require(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id, populate_existing=True)
    if row is None:
        msg = f"unknown job: {job_id!r}"
        raise UnknownJob(msg)
    return row


def _owned(claim: Claim) -> Any:
    return update(JobRow).where(
        JobRow.id == claim.job.id,
        JobRow.state == "running",
        JobRow.worker == claim.worker,
        JobRow.attempts == claim.job.attempts,
    )


def _is_owner(row: JobRow, claim: Claim) -> bool:
    mine = (claim.worker, claim.job.attempts)
    return row.state == "running" and (row.worker, row.attempts) == mine


def _rowcount(session: Session, statement: Any) -> int:
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def _ago(seconds: float) -> datetime:
    return utcnow() - timedelta(seconds=seconds)
