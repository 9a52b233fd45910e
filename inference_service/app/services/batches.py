"""Batches: the file that comes in, its state, and the files that go out."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import BinaryIO, Literal

from inference_service.app.core.ports import Registry
from inference_service.app.models.schemas import BatchJob, BatchPartResult
from inference_service.app.services.serving import NoProductionModel
from shared.database import utcnow
from shared.errors import NotFound, TooLarge, ValidationFailed
from shared.jobs.store import JobStore, JobSubmit
from shared.models.batches import BatchCounts, BatchOutcome, BatchState, BatchView
from shared.models.jobs import JobView
from shared.objects.port import ObjectNotFound, ObjectStore

KIND = "inference.batch"
# Done again as a whole after a kill: some ten seconds of work.
PIECE_LINES = 256
MAX_LINES = 1_000_000
MAX_LINE_BYTES = 64 << 10

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


@dataclass(frozen=True)
class NewBatch:
    """What a caller asks for; version None is production's."""

    project: str
    name: str
    model_version: int | None
    expires_in: timedelta


@dataclass(frozen=True)
class Batches:
    """Takes batches in, and tells about them; the worker answers their lines."""

    store: ObjectStore
    jobs: JobStore
    registry: Registry

    def create(self, new: NewBatch, file: BinaryIO) -> BatchView:
        """Keep the lines of a file and submit their job.

        Raises:
            NoProductionModel: no version was given, and the project has none in production.
            UnknownModel: the project has no such version.
            ValidationFailed: no lines.
            TooLarge: too many.
        """
        version = self._version(new)
        batch_id = uuid.uuid4().hex
        try:
            payload = BatchJob(
                batch_id=batch_id,
                name=new.name,
                model_version=version,
                sizes=self._keep(new.project, batch_id, file),
                expires_at=utcnow() + new.expires_in,
            )
            job = JobSubmit(KIND, new.project, payload, key=_job_key(batch_id))
            with self.jobs.database.transaction() as session:
                submitted = self.jobs.submit(session, job)
        except BaseException:
            self._delete(f"{folder(new.project, batch_id)}/")
            raise
        return self._view(submitted)

    def get(self, batch_id: str) -> BatchView:
        """Return one batch.

        Raises:
            UnknownBatch: no batch has this id.
        """
        return self._view(self._job(batch_id))

    def list(self, project: str | None, limit: int) -> list[BatchView]:
        """Return batches, the newest first."""
        return [self._view(j) for j in self.jobs.list(project=project, kind=KIND, limit=limit)]

    def cancel(self, batch_id: str) -> BatchView:
        """Stop a batch; what is answered stays.

        Raises:
            UnknownBatch: no batch has this id.
            JobAlreadyFinished: it ended before.
        """
        return self._view(self.jobs.cancel(self._job(batch_id).id))

    def resume(self, batch_id: str) -> BatchView:
        """Go on with a batch that failed or was cancelled, where it stopped.

        Raises:
            UnknownBatch: no batch has this id.
            JobNotStopped: it is not over, or was completed.
        """
        return self._view(self.jobs.resume(self._job(batch_id).id))

    def output(self, batch_id: str, file: OutputFile) -> Iterator[bytes]:
        """Yield the result or the error file, of the pieces written so far, in the input's order.

        Raises:
            UnknownBatch: no batch has this id.
        """
        job = self._job(batch_id)
        n_pieces = len(BatchJob.model_validate(job.payload).sizes)
        keys = [outcome_key(job.project, batch_id, n) for n in range(n_pieces)]
        return self._read(keys, file)

    def _version(self, new: NewBatch) -> int:
        if new.model_version is not None:
            return self.registry.get(new.project, new.model_version).version
        version = self.registry.aliases(new.project).get("production")
        if version is None:
            msg = f"project {new.project!r} has no production model yet"
            raise NoProductionModel(msg)
        return version

    def _keep(self, project: str, batch_id: str, file: BinaryIO) -> tuple[int, ...]:
        sizes: list[int] = []
        numbered = _numbered(file)
        while lines := list(islice(numbered, PIECE_LINES)):
            if sum(sizes) + len(lines) > MAX_LINES:
                msg = f"a batch has at most {MAX_LINES} lines"
                raise TooLarge(msg)
            self.store.put(input_key(project, batch_id, len(sizes)), b"".join(lines))
            sizes.append(len(lines))
        if not sizes:
            msg = "a batch without lines: give one JSON object a line, with image_id, url or key"
            raise ValidationFailed(msg)
        return tuple(sizes)

    def _job(self, batch_id: str) -> JobView:
        job = self.jobs.find(_job_key(batch_id))
        if job is None:
            msg = f"unknown batch: {batch_id!r}"
            raise UnknownBatch(msg)
        return job

    def _view(self, job: JobView) -> BatchView:
        payload = BatchJob.model_validate(job.payload)
        counts = self._counts(job, sum(payload.sizes))
        return BatchView(
            id=payload.batch_id,
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

    def _read(self, keys: Iterable[str], file: OutputFile) -> Iterator[bytes]:
        for key in keys:
            try:
                lines = self.store.get(key).splitlines()
            except ObjectNotFound:
                continue
            outcomes = (BatchOutcome.model_validate_json(line) for line in lines)
            kept = (o.answer if file == "results" else o.error for o in outcomes)
            yield "".join(f"{each.model_dump_json()}\n" for each in kept if each).encode()

    def _delete(self, prefix: str) -> None:
        for key in list(self.store.list(prefix)):
            self.store.delete(key)


def folder(project: str, batch_id: str) -> str:
    """Return where the files of a batch lie."""
    return f"projects/{project}/batches/{batch_id}"


def input_key(project: str, batch_id: str, piece: int) -> str:
    """Return the key of some lines of a batch, as they came."""
    return f"{folder(project, batch_id)}/input/{piece:06}.jsonl"


def outcome_key(project: str, batch_id: str, piece: int) -> str:
    """Return the key of what became of some lines: one file, so that it is whole or not there."""
    return f"{folder(project, batch_id)}/outcomes/{piece:06}.jsonl"


def calibration_key(project: str, batch_id: str) -> str:
    """Return the key of the calibration that holds for a batch; without one it is empty."""
    return f"{folder(project, batch_id)}/calibration.json"


def _numbered(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line with its number and a tab before it; empty ones ask for nothing."""
    file.seek(0)
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        if line.strip():
            yield b"%d\t%s\n" % (number, line.rstrip(b"\r\n"))


def _state(job: JobView) -> BatchState:
    if job.state == "running" and job.cancel_requested:
        return "cancelling"
    if job.result is not None and BatchPartResult.model_validate(job.result).n_expired:
        return "expired"
    return _STATES[job.state]


def _job_key(batch_id: str) -> str:
    return f"batch/{batch_id}"
