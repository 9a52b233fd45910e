"""The whole service over HTTP, with the real gateway client; jobs are finished by hand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeling_service.app.main import create_app
from labeling_service.app.wiring import Dependencies
from labeling_service.app.worker import build
from labeling_service.tests.gateway import serve_gateway
from labeling_service.tests.support import RESULTS, FakeGateway, image_id
from shared.database import Base, Database
from shared.jobs.store import JobStore
from shared.jobs.worker import JobRunner
from shared.service import INTERNAL_KEY
from shared.settings import Settings
from shared.simulate.statistics import summarise
from shared.tests.simulate.test_statistics import arms

PROJECT = "/v1/projects/digits"
BOX = {"class_id": 1, "xyxy": [0.1, 0.2, 0.3, 0.4], "source": "human"}


@dataclass
class Service:
    http: TestClient
    gateway: FakeGateway
    settings: Settings

    @property
    def deps(self) -> Dependencies:
        deps: Dependencies = self.http.app.state.built["deps"]  # type: ignore[attr-defined]
        return deps

    @property
    def jobs(self) -> JobStore:
        return self.deps.jobs

    def post(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        response = self.http.post(f"{PROJECT}{path}", json=body)
        return response.status_code, response.json()

    def get(self, path: str) -> Any:
        return self.http.get(f"{PROJECT}{path}").json()

    def answer(self, task_id: str, **body: Any) -> tuple[int, Any]:
        response = self.http.put(f"{PROJECT}/tasks/{task_id}/answer", json=body)
        return response.status_code, response.json()

    def finish(self, round_id: str, step: str) -> None:
        """End a job of another service's worker well."""
        job = self.jobs.find(f"{round_id}:{step}")
        assert job is not None
        claim = self.jobs.claim(job.id, "worker")
        assert claim is not None
        self.jobs.finish(claim, "succeeded", result=RESULTS[step])
        self.deps.reconciler.reconcile(round_id)

    def work(self, round_id: str, step: str) -> None:
        """Run a job of this service as its worker does."""
        job = self.jobs.find(f"{round_id}:{step}")
        assert job is not None
        function = build(self.settings)[job.kind]
        JobRunner("labeling", self.jobs, self.settings).run(job.id, function)
        self.deps.reconciler.reconcile(round_id)


# Needs no scores, which these tests make up.
AT_RANDOM = {"strategy": {"strategy": "random"}}


@pytest.fixture
def service(tmp_path: Path, valkey_url: str) -> Iterator[Service]:
    gateway = FakeGateway()
    with serve_gateway(gateway) as url:
        settings = Settings(
            database_url=f"sqlite:///{tmp_path}/fovea.db",
            object_store_url=f"file:{tmp_path}/objects",
            broker_url=valkey_url,
            gateway_url=url,
        )
        database = Database(settings.database_url)
        Base.metadata.create_all(database.engine)
        database.close()
        headers = {INTERNAL_KEY: settings.service_key.get_secret_value()}
        with TestClient(create_app(settings), headers=headers) as http:
            yield Service(http, gateway, settings)


def test_a_round_is_run_from_the_first_request_to_the_last(service: Service) -> None:
    status, created = service.post("/rounds", {"budget": 2, "seed": 3, **AT_RANDOM})
    assert (status, created["state"], created["index"]) == (201, "scoring", 1)
    round_id = created["id"]
    service.finish(round_id, "score")
    service.work(round_id, "select")
    assert service.get(f"/rounds/{round_id}")["state"] == "labelling"
    assert len(service.get(f"/rounds/{round_id}/tasks")) == 2
    for _ in range(2):
        status, task = service.post("/leases", {"annotator": "ann"})
        assert status == 200
        answered = service.answer(task["id"], annotator="ann", annotations=[BOX])
        assert answered[0] == 200
        assert service.get(f"/tasks/{task['id']}") == answered[1]
    service.work(round_id, "close")
    for step in ("train", "score_heldout", "calibrate", "gate"):
        service.finish(round_id, step)
    [done] = service.get("/rounds")
    assert (done["state"], done["n_tasks"], done["n_done"]) == ("done", 2, 2)
    assert (done["dataset_version"], done["model_version"]) == (1, 5)
    [closed] = service.gateway.closed
    chosen = {s["image_id"] for s in done["selected"]}
    assert {label.image_id for label in closed.labels} == chosen
    assert chosen < {image_id(n) for n in range(10)}


def test_errors_have_their_status_and_name(service: Service) -> None:
    _, created = service.post("/rounds", {"budget": 2, **AT_RANDOM})
    round_id = created["id"]
    status, body = service.post("/rounds", {"budget": 2})
    assert (status, body["error"]) == (409, "RoundInProgress")
    assert round_id in body["detail"]
    status, body = service.post("/leases", {"annotator": "ann"})
    assert (status, body["error"]) == (404, "NoOpenTask")
    service.finish(round_id, "score")
    service.work(round_id, "select")
    _, task = service.post("/leases", {"annotator": "ann"})
    wrong = BOX | {"class_id": 7}
    status, body = service.answer(task["id"], annotator="ann", annotations=[wrong])
    assert (status, body["error"]) == (422, "UnknownClass")
    assert body["detail"] == "unknown class id: 7; project 'digits' has 2 classes, 0 to 1"
    flat = BOX | {"xyxy": [0.3, 0.2, 0.3, 0.4]}
    status, body = service.answer(task["id"], annotator="ann", annotations=[flat])
    assert (status, body["error"]) == (422, "ValidationFailed")
    assert "degenerate box" in body["detail"]
    status, body = service.answer(task["id"], annotator="bob", annotations=[])
    assert (status, body["error"]) == (410, "LeaseLost")
    status, body = service.post(f"/rounds/{round_id}/cancellation")
    assert (status, body["state"]) == (200, "cancelled")
    status, body = service.answer(task["id"], annotator="ann", annotations=[])
    assert (status, body["error"]) == (409, "RoundNotLabelling")


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/projects/nope/rounds", "unknown project: 'nope'"),
        ("/v1/projects/digits/rounds/r7", "unknown round: 'r7' of project 'digits'"),
        ("/v1/projects/digits/rounds/r7/tasks", "unknown round: 'r7' of project 'digits'"),
        ("/v1/projects/digits/tasks/t7", "unknown task: 't7' of project 'digits'"),
        ("/v1/projects/nope/simulations", "unknown project: 'nope'"),
        ("/v1/projects/digits/simulations/s7", "unknown simulation: 's7' of project 'digits'"),
    ],
)
def test_unknown_things_are_404_with_their_name(service: Service, path: str, detail: str) -> None:
    response = service.http.get(path)
    assert (response.status_code, response.json()["detail"]) == (404, detail)


def test_what_a_simulation_came_to_is_kept_with_its_project(service: Service) -> None:
    body = summarise(arms(offset=0.1)).model_dump(mode="json")
    kept = service.http.put(f"{PROJECT}/simulations/first", json=body)
    assert (kept.status_code, kept.json()["results"]) == (200, body)
    assert service.get("/simulations/first") == kept.json()
    assert service.get("/simulations") == [kept.json()]


@pytest.mark.parametrize(("name", "changes"), [("No slug", {}), ("first", {"arms": None})])
def test_a_simulation_that_is_none_is_422(
    service: Service, name: str, changes: dict[str, Any]
) -> None:
    body = summarise(arms(offset=0.1)).model_dump(mode="json") | changes
    assert service.http.put(f"{PROJECT}/simulations/{name}", json=body).status_code == 422
    not_finite = json.dumps(body | {"settings": {"noise": float("nan")}})
    assert service.http.put(f"{PROJECT}/simulations/a", content=not_finite).status_code == 422
    assert service.get("/simulations") == []


def test_an_empty_pool_is_a_conflict(service: Service) -> None:
    service.gateway.pool = []
    status, body = service.post("/rounds", {})
    assert (status, body["error"]) == (409, "EmptyPool")


def test_requests_without_the_service_key_are_refused(service: Service) -> None:
    response = service.http.get(f"{PROJECT}/rounds", headers={INTERNAL_KEY: "wrong"})
    assert response.status_code == 401


def test_the_service_is_ready_and_counts_its_requests(service: Service) -> None:
    assert service.http.get("/healthz").status_code == 200
    assert service.http.get("/readyz").json()["checks"] == {"database": "ok", "broker": "ok"}
    assert service.http.get("/metrics").status_code == 200
