"""Batches: the file that comes in, its state, and the files that go out."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Literal

from inference_service.app.core.ports import Registry
from inference_service.app.models.schemas import BatchJob, BatchPartResult
from inference_service.app.services.batch_files import (
    MAX_LINES,
    delete_files,
    keep_lines,
    outcome_key,
)
from inference_service.app.services.serving import NoProductionModel
from shared.database import utcnow
from shared.errors import Conflict, Gone, NotFound
from shared.jobs.retire import deletion_of, retire
from shared.jobs.store import (
    JobAlreadyFinished,
    JobNotStopped,
    JobStore,
    JobSubmit,
    UnknownJob,
)
from shared.models.batches import (
    BATCH_KIND,
    KEPT,
    BatchCounts,
    BatchOutcome,
    BatchState,
    BatchView,
)
from shared.models.jobs import FINAL_STATES, JobView
from shared.objects.port import ObjectNotFound, ObjectStore

_READ_BYTES = 1 << 20

OutputFile = Literal["results", "errors"]
_STATES: dict[str, BatchState] = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class UnknownBatch(NotFound):
    """No batch has this id."""


class BatchDeleted(Gone):
    """The batch was deleted, with its files."""


class BatchNotOver(Conflict):
    """The batch is not at its end, so it cannot be deleted."""


class IdempotencyKeyReused(Conflict):
    """A batch of other lines or options was made with this key."""


@dataclass(frozen=True)
class NewBatch:
    """What a caller asks for.

    Attributes:
        project: whose models answer.
        name: the caller's own.
        model_version: None is production's.
        expires_in: how long it may take.
        key: the same one again makes no second batch.
    """

    project: str
    name: str
    model_version: int | None
    expires_in: timedelta
    key: str | None = None


@dataclass(frozen=True)
class Batches:
    """Takes batches in, and tells about them; the worker answers their lines."""

    store: ObjectStore
    jobs: JobStore
    registry: Registry

    def create(self, new: NewBatch, file: BinaryIO) -> BatchView:
        """Keep the lines of a file and submit their job; a repeated request gets its first batch.

        Raises:
            IdempotencyKeyReused: its key came with other lines or options before.
            NoProductionModel: no version was given, and the project has none in production.
            UnknownModel: the project has no such version.
            ValidationFailed: no lines.
            TooLarge: too many.
        """
        digest = None if new.key is None else _digest(new, file)
        # Before the model is looked for: production may have changed since.
        if new.key is not None and (first := self.jobs.find(_request_key(new))):
            return self._repeated(new, digest, first)
        version = self._version(new)
        batch_id = uuid.uuid4().hex
        try:
            payload = BatchJob(
                batch_id=batch_id,
                name=new.name,
                model_version=version,
                sizes=keep_lines(self.store, new.project, batch_id, file),
                expires_at=utcnow() + new.expires_in,
                request_sha256=digest,
            )
            key = None if new.key is None else _request_key(new)
            job = JobSubmit(BATCH_KIND, new.project, payload, id=batch_id, key=key)
            with self.jobs.database.transaction() as session:
                submitted = self.jobs.submit(session, job)
        except BaseException:
            delete_files(self.store, new.project, batch_id)
            raise
        if submitted.id != batch_id:
            # The same request came twice at once, and the other one was first.
            delete_files(self.store, new.project, batch_id)
            return self._repeated(new, digest, submitted)
        return self._view(submitted)

    def get(self, batch_id: str) -> BatchView:
        """Return one batch.

        Raises:
            UnknownBatch: no batch has this id.
            BatchDeleted: it was deleted.
        """
        return self._view(self._job(batch_id))

    def list(self, project: str | None, limit: int) -> list[BatchView]:
        """Return batches, the newest first."""
        found = self.jobs.list(project=project, kind=BATCH_KIND, limit=limit)
        return [self._view(job) for job in found]

    def cancel(self, batch_id: str) -> BatchView:
        """Stop a batch; what is answered stays.

        Raises:
            UnknownBatch, BatchDeleted: as `get`.
            JobAlreadyFinished: it ended before.
        """
        job = self._job(batch_id)
        try:
            return self._view(self.jobs.cancel(job.id))
        except JobAlreadyFinished as exc:
            msg = f"batch {batch_id!r} is already {_state(job)}"
            raise JobAlreadyFinished(msg) from exc

    def resume(self, batch_id: str) -> BatchView:
        """Go on with a batch that failed or was cancelled, where it stopped.

        Raises:
            UnknownBatch, BatchDeleted: as `get`.
            JobNotStopped: it is not over, or was completed.
        """
        job = self._job(batch_id)
        try:
            return self._view(self.jobs.resume(job.id))
        except JobNotStopped as exc:
            msg = f"batch {batch_id!r} is {_state(job)}: only a failed or cancelled one is resumed"
            raise JobNotStopped(msg) from exc

    def delete(self, batch_id: str) -> JobView:
        """Delete a batch that is over, and return the job that deletes its files.

        Raises:
            UnknownBatch, BatchDeleted: as `get`.
            BatchNotOver, JobNotOver: it goes on, or a piece of it is still stopping.
        """
        job = self._job(batch_id)
        if job.state not in FINAL_STATES:
            msg = f"batch {batch_id!r} is {_state(job)}: it can be deleted once it is over"
            raise BatchNotOver(msg)
        return retire(self.jobs, job.id)

    def output(self, batch_id: str, file: OutputFile) -> Iterator[bytes]:
        """Yield the result or the error file, of the pieces written so far, in the input's order.

        Raises:
            UnknownBatch, BatchDeleted: as `get`; also in the middle, lest half look like all.
        """
        return self._read(self._job(batch_id), file)

    def _version(self, new: NewBatch) -> int:
        if new.model_version is not None:
            return self.registry.get(new.project, new.model_version).version
        version = self.registry.aliases(new.project).get("production")
        if version is None:
            msg = f"project {new.project!r} has no production model yet"
            raise NoProductionModel(msg)
        return version

    def _repeated(self, new: NewBatch, digest: str | None, first: JobView) -> BatchView:
        if BatchJob.model_validate(first.payload).request_sha256 != digest:
            msg = (
                f"Idempotency-Key {new.key!r} made batch {first.id!r} of other lines or options; "
                "take another key for another batch"
            )
            raise IdempotencyKeyReused(msg)
        return self._view(first)

    def _job(self, batch_id: str) -> JobView:
        try:
            job = self.jobs.get(batch_id)
        except UnknownJob:
            job = None
        if job is not None and job.kind == BATCH_KIND:
            return job
        if deletion := deletion_of(self.jobs, batch_id):
            msg = f"batch {batch_id!r} was deleted on {deletion.created_at:%Y-%m-%d %H:%M} UTC"
            raise BatchDeleted(msg)
        msg = f"unknown batch: {batch_id!r}"
        raise UnknownBatch(msg)

    def _view(self, job: JobView) -> BatchView:
        payload = BatchJob.model_validate(job.payload)
        counts = self._counts(job, sum(payload.sizes))
        return BatchView(
            id=job.id,
            project=job.project,
            name=payload.name,
            model_version=payload.model_version,
            job_id=job.id,
            state=_state(job),
            counts=counts,
            message=job.message,
            error=job.error,
            created_at=job.created_at,
            expires_at=payload.expires_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            kept_until=job.finished_at and job.finished_at + KEPT,
        )

    def _counts(self, job: JobView, total: int) -> BatchCounts:
        if job.result is not None:
            done = [BatchPartResult.model_validate(job.result)]
        else:
            parts = self.jobs.list(parent_id=job.id, state="succeeded", limit=MAX_LINES)
            done = [BatchPartResult.model_validate(part.result) for part in parts]
        return BatchCounts(
            total=total,
            answered=sum(part.n_answered for part in done),
            failed=sum(part.n_failed for part in done),
        )

    def _read(self, job: JobView, file: OutputFile) -> Iterator[bytes]:
        payload, whole = BatchJob.model_validate(job.payload), True
        for piece in range(len(payload.sizes)):
            key = outcome_key(job.project, payload.batch_id, piece)
            try:
                lines = self.store.get(key).splitlines()
            except ObjectNotFound:
                whole = False
                continue
            outcomes = (BatchOutcome.model_validate_json(line) for line in lines)
            kept = (o.answer if file == "results" else o.error for o in outcomes)
            yield "".join(f"{each.model_dump_json()}\n" for each in kept if each).encode()
        if not whole:
            self._job(job.id)


def _digest(new: NewBatch, file: BinaryIO) -> str:
    options = [new.name, new.model_version, new.expires_in.total_seconds()]
    digest = hashlib.sha256(json.dumps(options).encode())
    file.seek(0)
    while chunk := file.read(_READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _request_key(new: NewBatch) -> str:
    return f"batch/{new.project}/{new.key}"


def _state(job: JobView) -> BatchState:
    if job.state == "running" and job.cancel_requested:
        return "cancelling"
    if job.result is not None and BatchPartResult.model_validate(job.result).n_expired:
        return "expired"
    return _STATES[job.state]
