"""Batches are deleted with their files, by hand or when they are old."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from inference_service.app.services import batch_files
from inference_service.app.services.batches import BatchDeleted
from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.tests.batches import (
    Killed,
    Mortal,
    create,
    eager_reaper,
    lines_of,
    output,
    state,
    work,
)
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry
from shared.jobs.retire import retire_old
from shared.jobs.tables import JobRow
from shared.models.batches import BATCH_KIND, KEPT
from shared.objects.port import ObjectStore
from shared.settings import Settings

FOLDER = f"projects/{PROJECT}/batches/"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "PIECE_LINES", 2)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    registry = LocalRegistry(tmp_path_factory.mktemp("registry"))
    registry.add(1)
    registry.production = 1
    return registry


@dataclass
class Bench:
    """The service, with somebody to work for it."""

    client: TestClient
    deps: Dependencies
    worker: WorkerParts
    settings: Settings
    body: bytes

    def create(self, key: str | None = None) -> dict[str, Any]:
        return create(self.client, self.body, key=key)

    def work(self, job_id: str) -> None:
        work(self.deps, self.worker, self.settings, job_id)

    def done(self) -> dict[str, Any]:
        made = self.create()
        self.work(made["job_id"])
        return state(self.client, made)

    def half_done(self) -> dict[str, Any]:
        """Return a batch whose worker was killed after its second piece."""
        made = self.create()
        mortal = replace(self.worker, answerer=Mortal(**vars(self.worker.answerer)))
        with pytest.raises(Killed):
            work(self.deps, mortal, self.settings, made["job_id"])
        return made

    def delete(self, batch: dict[str, Any]) -> Any:
        return self.client.delete(f"/v1/batches/{batch['id']}")

    def files(self, batch: dict[str, Any]) -> list[str]:
        return list(self.deps.store.list(f"{FOLDER}{batch['id']}/"))


@pytest.fixture
def bench(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
) -> Bench:
    images = [gateway.add(n) for n in range(5)]
    body = lines_of(*({"image_id": image.id} for image in images))
    return Bench(client, deps, worker, settings, body)


def test_a_batch_that_is_over_is_deleted_with_its_files_and_says_so(bench: Bench) -> None:
    done, other = bench.done(), bench.done()
    assert len(bench.files(done)) == 7
    answer = bench.delete(done)
    job = answer.json()
    assert (answer.status_code, job["kind"], job["project"]) == (
        202,
        "inference.batch_deletion",
        PROJECT,
    )
    # At once, whenever a worker comes to delete its files.
    for method, path in (
        ("GET", ""),
        ("GET", "/results"),
        ("GET", "/errors"),
        ("POST", "/cancel"),
        ("POST", "/resume"),
        ("DELETE", ""),
    ):
        gone = bench.client.request(method, f"/v1/batches/{done['id']}{path}")
        assert (gone.status_code, gone.json()["error"]) == (410, "BatchDeleted")
        assert gone.json()["detail"].startswith(f"batch '{done['id']}' was deleted on 20")
    assert [batch["id"] for batch in bench.client.get("/v1/batches").json()] == [other["id"]]
    bench.work(job["id"])
    assert bench.deps.jobs.get(job["id"]).result == {"n_files": 7}
    assert bench.files(done) == []
    assert len(bench.files(other)) == 7
    assert bench.client.get(f"/v1/batches/{done['id']}").status_code == 410
    assert len(output(bench.client, other, "results")) == 5


def test_a_batch_that_goes_on_is_not_deleted_and_its_state_is_said(bench: Bench) -> None:
    made = bench.create()
    refused = bench.delete(made)
    assert (refused.status_code, refused.json()["error"]) == (409, "BatchNotOver")
    assert refused.json()["detail"] == (
        f"batch '{made['id']}' is queued: it can be deleted once it is over"
    )
    running = bench.half_done()
    assert "is in_progress: " in bench.delete(running).json()["detail"]
    bench.client.post(f"/v1/batches/{running['id']}/cancel")
    assert "is cancelling: " in bench.delete(running).json()["detail"]
    eager_reaper(bench.deps).reap()
    assert state(bench.client, running)["state"] == "cancelled"
    assert bench.delete(running).status_code == 202
    assert state(bench.client, made)["state"] == "queued"


def test_a_batch_is_not_deleted_while_a_piece_of_it_is_still_stopping(bench: Bench) -> None:
    made = bench.half_done()
    bench.client.post(f"/v1/batches/{made['id']}/cancel")
    # Its own worker heard of it, that of a piece did not.
    jobs = bench.deps.jobs
    running = [p for p in jobs.list(parent_id=made["id"]) if p.state == "running"]
    assert len(running) == 1
    with jobs.database.transaction() as session:
        row = session.get(JobRow, made["id"])
        assert row is not None
        row.state = "cancelled"
    refused = bench.delete(made)
    assert (refused.status_code, refused.json()["error"]) == (409, "JobNotOver")
    assert "is cancelled, but a part of it is still stopping" in refused.json()["detail"]
    eager_reaper(bench.deps).reap()
    assert bench.delete(made).status_code == 202


def test_a_deletion_that_is_killed_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    done = bench.done()
    job = bench.delete(done).json()
    store_type = type(bench.worker.answerer.store)
    n_deleted = 0

    def delete(self: ObjectStore, key: str) -> None:
        nonlocal n_deleted
        if n_deleted == 3:
            raise Killed
        n_deleted += 1
        original(self, key)

    original = store_type.delete
    with monkeypatch.context() as patched:
        patched.setattr(store_type, "delete", delete)
        with pytest.raises(Killed):
            bench.work(job["id"])
    assert len(bench.files(done)) == 4
    eager_reaper(bench.deps).reap()
    bench.work(job["id"])
    assert (bench.files(done), bench.deps.jobs.get(job["id"]).state) == ([], "succeeded")


def test_who_reads_a_batch_that_is_deleted_is_not_left_with_half_of_it(bench: Bench) -> None:
    done = bench.done()
    reading: Iterator[bytes] = bench.deps.batches.output(done["id"], "results")
    assert next(reading).count(b"\n") == 2
    bench.work(bench.delete(done).json()["id"])
    with pytest.raises(BatchDeleted):
        list(reading)


def test_a_key_is_forgotten_with_its_batch(bench: Bench) -> None:
    first = bench.create(key="night")
    bench.work(first["job_id"])
    bench.delete(first)
    second = bench.create(key="night")
    assert second["id"] != first["id"]
    bench.work(second["job_id"])
    assert state(bench.client, second)["counts"]["answered"] == 5


def test_old_batches_are_deleted_by_themselves_and_running_ones_are_not(bench: Bench) -> None:
    done, queued, running = bench.done(), bench.create(), bench.half_done()
    jobs = bench.deps.jobs
    ended, kept_until = (datetime.fromisoformat(done[k]) for k in ("finished_at", "kept_until"))
    assert kept_until - ended == timedelta(days=30)
    assert state(bench.client, queued)["kept_until"] is None
    assert retire_old(jobs, BATCH_KIND, KEPT) == 0
    assert retire_old(jobs, BATCH_KIND, timedelta(0)) == 1
    [deletion] = jobs.list(kind="inference.batch_deletion")
    bench.work(deletion.id)
    assert bench.files(done) == []
    assert bench.client.get(f"/v1/batches/{done['id']}").status_code == 410
    assert state(bench.client, queued)["state"] == "queued"
    assert state(bench.client, running)["state"] == "in_progress"
    assert retire_old(jobs, BATCH_KIND, timedelta(0)) == 0
