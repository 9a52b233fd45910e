"""Parts of a long job: rows of their own, that any worker of the queue may claim."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func, select

from shared.database import call_after_commit
from shared.jobs.store import Claim, JobStore
from shared.jobs.tables import JobRow

# A worker that has done a part rings for the next, so more workers than this join in time too.
MAX_BELLS = 16


@dataclass(frozen=True)
class Part:
    """What to do, and with how many things."""

    payload: BaseModel
    size: int


@dataclass(frozen=True)
class Tally:
    """How far the parts of a job are.

    Attributes:
        done: things done, of open parts by their progress.
        total: things in all.
        n_parts: parts in all; none before the job is cut.
        n_open: parts that are not at their end.
        failed: why the first part that failed, or was cancelled, did.
    """

    done: float = 0.0
    total: int = 0
    n_parts: int = 0
    n_open: int = 0
    failed: str | None = None


def insert_parts(store: JobStore, claim: Claim, kind: str, parts: Sequence[Part]) -> bool:
    """Cut a job into parts, unless it is no longer this worker's; all of them, or none."""
    job = claim.job
    rows = [
        JobRow(
            id=uuid.uuid4().hex,
            key=f"{job.id}/{number:06}",
            kind=kind,
            project=job.project,
            parent_id=job.id,
            size=part.size,
            payload=part.payload.model_dump(mode="json"),
            state="queued",
            max_attempts=job.max_attempts,
        )
        for number, part in enumerate(parts)
    ]
    with store.database.transaction() as session:
        if not store.beat_in(session, claim):
            return False
        session.add_all(rows)
        # The worker that cuts takes the first one.
        for row in rows[1 : MAX_BELLS + 1]:
            call_after_commit(session, partial(store.bell.ring, kind, row.id))
    return True


def tally_parts(store: JobStore, job_id: str) -> Tally:
    """Return how far the parts of a job are; a job that was not cut has none."""
    of_job = JobRow.parent_id == job_id
    sums = func.sum(JobRow.size), func.sum(JobRow.size * JobRow.progress), func.count()
    done, total, n_parts, n_open, failed = 0.0, 0, 0, 0, None
    with store.database.transaction() as session:
        by_state = select(JobRow.state, *sums).where(of_job).group_by(JobRow.state)
        for state, size, progressed, count in session.execute(by_state).all():
            done, total, n_parts = done + progressed, total + size, n_parts + count
            if state == "failed" or (state == "cancelled" and failed is None):
                bad = select(JobRow).where(of_job, JobRow.state == state).order_by(JobRow.key)
                row = session.scalars(bad.limit(1)).one()
                failed = f"part {_number(row)} {state}" + (f": {row.error}" if row.error else "")
            if state in ("queued", "running"):
                n_open += count
    return Tally(done, total, n_parts, n_open, failed)


def waiting_part(store: JobStore, job_id: str) -> str | None:
    """Return the first part of a job that nobody works on."""
    waiting = select(JobRow.id).where(JobRow.parent_id == job_id, JobRow.state == "queued")
    with store.database.transaction() as session:
        return session.scalars(waiting.order_by(JobRow.key).limit(1)).one_or_none()


def ring_next(store: JobStore, job_id: str) -> None:
    """Ring for the first part of a job that nobody works on, if the job is worked on."""
    waiting = JobRow.parent_id == job_id, JobRow.state == "queued"
    with store.database.transaction() as session:
        state = session.scalars(select(JobRow.state).where(JobRow.id == job_id)).one_or_none()
        first = select(JobRow).where(*waiting).order_by(JobRow.key).limit(1)
        row = session.scalars(first).one_or_none() if state == "running" else None
        if row is not None:
            call_after_commit(session, partial(store.bell.ring, row.kind, row.id))


def parent_of(store: JobStore, job_id: str) -> str | None:
    """Return the job that a job is a part of, if it is one."""
    with store.database.transaction() as session:
        parent = select(JobRow.parent_id).where(JobRow.id == job_id)
        return session.scalars(parent).one_or_none()


def part_results(store: JobStore, job_id: str) -> list[dict[str, Any]]:
    """Return the results of a job's parts in their order."""
    results = select(JobRow.result).where(JobRow.parent_id == job_id).order_by(JobRow.key)
    with store.database.transaction() as session:
        return [result or {} for result in session.scalars(results)]


def _number(row: JobRow) -> int:
    return int(row.key.rpartition("/")[2]) + 1
