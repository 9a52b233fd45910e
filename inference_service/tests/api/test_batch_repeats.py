"""`Idempotency-Key`: a request that is sent again makes no second batch."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from fastapi.testclient import TestClient

from inference_service.app.services import batch_files, batches
from inference_service.app.wiring import Dependencies
from inference_service.tests.batches import create, state
from inference_service.tests.neighbours import PROJECT, LocalRegistry
from shared.objects.port import ObjectStore

BODY = b'{"image_id": "a"}\n{"image_id": "b"}\n'


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """A registry of two versions that nobody loads."""
    for version in (1, 2):
        (tmp_path / "registry" / str(version)).mkdir(parents=True)
    registry = LocalRegistry(tmp_path / "registry")
    registry.production = 1
    return registry


def refused(client: TestClient, body: bytes, key: str, **query: Any) -> dict[str, Any]:
    answer = client.post(
        "/v1/batches",
        params={"project": PROJECT, **query},
        content=body,
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 409
    error: dict[str, Any] = answer.json()
    return error


def inputs(deps: Dependencies) -> list[str]:
    return list(deps.store.list(f"projects/{PROJECT}/batches/"))


def test_the_same_request_again_is_the_same_batch_and_job(
    client: TestClient, deps: Dependencies, registry: LocalRegistry
) -> None:
    first = create(client, BODY, key="night-1", name="night")
    # Between two tries everything may change but the request.
    registry.production = 2
    deps.jobs.cancel(first["job_id"])
    again = create(client, BODY, key="night-1", name="night")
    assert again == state(client, first)
    assert (again["id"], again["model_version"], again["state"]) == (first["id"], 1, "cancelled")
    assert [job.id for job in deps.jobs.list()] == [first["job_id"]]
    assert inputs(deps) == [f"projects/{PROJECT}/batches/{first['id']}/input/000000.jsonl"]


def test_the_same_lines_as_a_form_are_the_same_request(client: TestClient) -> None:
    first = create(client, BODY, key="k")
    answer = client.post(
        "/v1/batches",
        params={"project": PROJECT},
        files={"file": ("lines.jsonl", BODY)},
        headers={"Idempotency-Key": "k"},
    )
    assert answer.json()["id"] == first["id"]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (BODY[:-1], {}),
        (BODY, {"name": "other"}),
        (BODY, {"model_version": 1}),
        (BODY, {"expires_in_h": 1}),
        (b"", {}),
    ],
)
def test_another_request_with_the_key_is_refused_by_its_name(
    client: TestClient, deps: Dependencies, body: bytes, query: dict[str, Any]
) -> None:
    made = create(client, BODY, key="night-1")
    error = refused(client, body, "night-1", **query)
    assert error["error"] == "IdempotencyKeyReused"
    assert error["detail"] == (
        f"Idempotency-Key 'night-1' made batch '{made['id']}' of other lines or options; "
        "take another key for another batch"
    )
    assert len(deps.jobs.list()) == len(inputs(deps)) == 1


def test_without_a_key_each_request_is_a_batch_and_so_it_is_with_another(
    client: TestClient,
) -> None:
    made = [create(client, BODY, key=key) for key in (None, None, "a", "b", "a b/c")]
    assert len({batch["id"] for batch in made}) == 5


@pytest.mark.parametrize("key", ["", "x" * 101])
def test_a_key_that_is_none_is_422(client: TestClient, key: str) -> None:
    answer = client.post(
        "/v1/batches",
        params={"project": PROJECT},
        content=BODY,
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


def test_a_refused_request_does_not_use_up_its_key(
    client: TestClient, registry: LocalRegistry
) -> None:
    registry.production = None
    assert refused(client, BODY, "k")["error"] == "NoProductionModel"
    registry.production = 1
    assert create(client, BODY, key="k")["state"] == "queued"


@pytest.mark.parametrize("same", [True, False], ids=["same lines", "other lines"])
def test_of_requests_at_once_one_makes_the_batch_and_no_file_is_lost(
    client: TestClient, deps: Dependencies, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    n_requests = 4
    all_there = threading.Barrier(n_requests)

    def keep_together(store: ObjectStore, project: str, batch_id: str, file: BinaryIO) -> Any:
        # None of them has seen the job of another.
        all_there.wait(timeout=60)
        return batch_files.keep_lines(store, project, batch_id, file)

    monkeypatch.setattr(batches, "keep_lines", keep_together)

    def send(n: int) -> dict[str, Any]:
        answer = client.post(
            "/v1/batches",
            params={"project": PROJECT},
            content=BODY if same else BODY * (n + 1),
            headers={"Idempotency-Key": "k"},
        )
        return {"status": answer.status_code, **answer.json()}

    with ThreadPoolExecutor(n_requests) as pool:
        answers = list(pool.map(send, range(n_requests)))
    [job] = deps.jobs.list()
    assert inputs(deps) == [f"projects/{PROJECT}/batches/{job.id}/input/000000.jsonl"]
    statuses = sorted(answer["status"] for answer in answers)
    assert statuses == ([202] * 4 if same else [202, 409, 409, 409])
    assert {answer["id"] for answer in answers if answer["status"] == 202} == {job.id}
    n_lines = sum(job.payload["sizes"])
    assert deps.store.get(inputs(deps)[0]).count(b"\n") == n_lines
