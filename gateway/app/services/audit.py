"""The audit log: who changed what; written in batches, beside the requests."""

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.app.models.schemas import AuditEntry
from gateway.app.models.tables import AuditRow
from shared.database import Database
from shared.errors import AppError, BackendUnavailable
from shared.jobs.retire import deletion_of
from shared.jobs.store import JobStore

log = structlog.stdlib.get_logger()

FLUSH_EVERY_S = 1.0
MAX_WAITING = 100_000


@dataclass(frozen=True)
class Audited:
    """One request that could change something."""

    time: datetime
    principal: str
    method: str
    path: str
    project: str | None
    status: int
    request_id: str


class AuditLog:
    """Entries wait in memory for the next batch; a crash loses at most `FLUSH_EVERY_S` of them."""

    def __init__(self, database: Database) -> None:
        """Write to `database`."""
        self._database = database
        self._waiting: deque[Audited] = deque()
        self._flushing = threading.Lock()

    def add(self, entry: Audited) -> None:
        """Have an entry written with the next batch; never waits."""
        if len(self._waiting) >= MAX_WAITING:
            log.error("audit.entry_dropped", **asdict(self._waiting.popleft()))
        self._waiting.append(entry)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            BackendUnavailable: the database does not answer; the entries go on waiting.
            AppError: it does not take the entries; they are in the log instead.
        """
        with self._flushing:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not batch:
                return
            try:
                with self._database.transaction() as session:
                    session.execute(insert(AuditRow), [asdict(entry) for entry in batch])
            except BackendUnavailable:
                self._waiting.extendleft(reversed(batch))
                raise
            except (AppError, SQLAlchemyError):
                for entry in batch:
                    log.error("audit.entry_dropped", **asdict(entry))
                raise

    async def run(self) -> None:
        """Write a batch every `FLUSH_EVERY_S`, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await asyncio.to_thread(self.flush)
            except BackendUnavailable as exc:
                log.warning("audit.flush_failed", n_waiting=len(self._waiting), reason=str(exc))
            except (AppError, SQLAlchemyError) as exc:
                log.error("audit.flush_failed", n_waiting=len(self._waiting), reason=str(exc))

    def list(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return entries, the newest first; with `before`, only those with a smaller id."""
        self.flush()
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        with self._database.transaction() as session:
            return [_view(row) for row in session.scalars(query)]


def job_id_in(path: str) -> str | None:
    """Return the job that a path names; the id of a batch is that of its job."""
    match path.split("/"):
        case ["", "v1", "jobs" | "batches", job_id, *_] if job_id:
            return job_id
        case _:
            return None


def project_in(path: str, query: Mapping[str, str]) -> str | None:
    """Return the project that a request names itself, in its path or else in its query."""
    match path.split("/"):
        case ["", "v1", "projects", project, *_]:
            return project or None
        case _:
            return query.get("project") or None


def project_of_job(jobs: JobStore, job_id: str) -> str | None:
    """Return the project of a job, or of the batch that it was; None where nobody can tell."""
    try:
        job = deletion_of(jobs, job_id) or jobs.get(job_id)
    except AppError:
        return None
    return job.project


def _view(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        time=row.time,
        principal=row.principal,
        method=row.method,
        path=row.path,
        project=row.project,
        status=row.status,
        request_id=row.request_id,
    )
