"""Batches as tests ask for them, and workers that die in the middle of one."""

import json
from typing import Any, ClassVar

from fastapi.testclient import TestClient

from inference_service.app.models.schemas import BatchPart, BatchPartResult
from inference_service.app.services.batch_answers import BatchAnswerer, Progress
from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.app.worker import tasks
from inference_service.tests.neighbours import PROJECT
from shared.jobs.store import JobStore
from shared.jobs.worker import JobRunner
from shared.settings import Settings


class Killed(BaseException):
    """Passes every handler, as SIGKILL does."""


class Mortal(BatchAnswerer):
    """Dies in its second piece, after its files are written and before anybody knows."""

    n_pieces: ClassVar[int] = 0

    def answer(self, project: str, part: BatchPart, progress: Progress) -> BatchPartResult:
        result = super().answer(project, part, progress)
        Mortal.n_pieces += 1
        if Mortal.n_pieces % 2 == 0:
            raise Killed
        return result


def lines_of(*entries: dict[str, Any] | str) -> bytes:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    return "\n".join(lines).encode()


def create(
    client: TestClient, body: bytes, *, key: str | None = None, **query: Any
) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client.post(
        "/v1/batches", params={"project": PROJECT, **query}, content=body, headers=headers
    )
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def state(client: TestClient, batch: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/batches/{batch['id']}").json()
    return found


def output(client: TestClient, batch: dict[str, Any], file: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/batches/{batch['id']}/{file}")
    assert answer.headers["content-type"].startswith("application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def work(deps: Dependencies, worker: WorkerParts, settings: Settings, job_id: str) -> None:
    kind = deps.jobs.get(job_id).kind
    JobRunner("inference", deps.jobs, settings).run(job_id, tasks(worker)[kind])


def eager_reaper(deps: Dependencies) -> JobStore:
    """Return the rows as a reaper sees them to whom every running job is stale."""
    settings = deps.settings.model_copy(update={"job_stale_s": -1.0})
    return JobStore(deps.jobs.database, deps.jobs.bell, settings)
