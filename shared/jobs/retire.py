"""Jobs that are over and wanted no longer: each makes way for the job that deletes its files.

The change of one row for the other is one transaction, so files are never deleted of a job that is
still there, and never left behind by one that is not.
"""

from datetime import timedelta
from typing import Any

from pydantic import RootModel
from sqlalchemy import delete, select

from shared.database import utcnow
from shared.errors import Conflict
from shared.jobs.store import JobNotStopped, JobStore, JobSubmit, UnknownJob
from shared.jobs.tables import JobRow, view
from shared.models.jobs import FINAL_STATES, JobView

# Of a sweep, which comes every half minute.
MAX_SWEPT = 100
TRY_AGAIN = timedelta(days=1)


class JobNotOver(Conflict):
    """The job, or a part of it, has not come to its end."""


class _Payload(RootModel[dict[str, Any]]):
    """As the job had it that made way."""


def deletion_kind(kind: str) -> str:
    """Return the task that deletes the files of a kind of job; it is given the same payload."""
    return f"{kind}_deletion"


def deletion_of(store: JobStore, job_id: str) -> JobView | None:
    """Return the job that a retired job made way for, if it was one."""
    return store.find(_deletion_key(job_id))


def retire(store: JobStore, job_id: str) -> JobView:
    """Remove a job that is over, with its parts, and submit the deletion of its files.

    Raises:
        UnknownJob: no job has this id.
        JobNotOver: it is not at its end, or a part of it is still stopping.
    """
    with store.database.transaction() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None:
            msg = f"unknown job: {job_id!r}"
            raise UnknownJob(msg)
        if row.state not in FINAL_STATES:
            msg = f"job {job_id!r} is {row.state}"
            raise JobNotOver(msg)
        running = JobRow.parent_id == job_id, JobRow.state == "running"
        if session.scalars(select(JobRow.id).where(*running).limit(1)).one_or_none():
            msg = f"job {job_id!r} is {row.state}, but a part of it is still stopping"
            raise JobNotOver(msg)
        gone = view(row)
        session.execute(delete(JobRow).where(JobRow.parent_id == job_id))
        session.delete(row)
        deletion = JobSubmit(
            deletion_kind(gone.kind),
            gone.project,
            _Payload(gone.payload),
            key=_deletion_key(job_id),
        )
        return store.submit(session, deletion)


def retire_old(store: JobStore, kind: str, age: timedelta) -> int:
    """Retire the jobs of a kind that ended so long ago, and return how many.

    A deletion that failed, or was cancelled, is tried again a day later: nobody else would.
    """
    ended = JobRow.finished_at < utcnow() - age, JobRow.state.in_(FINAL_STATES)
    undone = JobRow.finished_at < utcnow() - TRY_AGAIN, JobRow.state.in_(("failed", "cancelled"))
    with store.database.transaction() as session:
        old, again = (
            session.scalars(select(JobRow.id).where(JobRow.kind == name, *when).limit(MAX_SWEPT))
            for name, when in ((kind, ended), (deletion_kind(kind), undone))
        )
        old_ids, again_ids = old.all(), again.all()
    n_retired = 0
    for job_id in old_ids:
        try:
            retire(store, job_id)
        except (UnknownJob, JobNotOver):
            # Somebody resumed it, or deleted it, in between.
            continue
        n_retired += 1
    for job_id in again_ids:
        try:
            store.resume(job_id)
        except (UnknownJob, JobNotStopped):
            continue
    return n_retired


def _deletion_key(job_id: str) -> str:
    return f"{job_id}/deletion"
