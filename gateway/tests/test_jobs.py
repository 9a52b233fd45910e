"""Jobs as the gateway shows them."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from data_service.app.main import create_app as data_service
from gateway.app.main import create_app
from gateway.tests.conftest import Gateway
from gateway.tests.echo import Echo
from gateway.tests.upstream import serving
from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore, JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import DriftCreate
from shared.settings import Settings


def store_of(gateway: Gateway) -> JobStore:
    return JobStore(gateway.database, Bell(make_celery(gateway.settings)), gateway.settings)


def submit(gateway: Gateway, project: str = "p") -> JobView:
    job = JobSubmit("evidently.report", project, DriftCreate())
    with gateway.database.transaction() as session:
        return store_of(gateway).submit(session, job)


def test_jobs_are_listed_by_project_and_state(gateway: Gateway) -> None:
    first, second = submit(gateway), submit(gateway, "q")
    with gateway.client(role="viewer") as client:
        assert {j["id"] for j in client.get("/v1/jobs").json()} == {first.id, second.id}
        in_q = client.get("/v1/jobs", params={"project": "q", "state": "queued"}).json()
        assert [j["id"] for j in in_q] == [second.id]
        assert client.get("/v1/jobs", params={"state": "failed"}).json() == []
        assert client.get("/v1/jobs", params={"limit": 0}).status_code == 422


def test_an_unknown_job_is_404_with_its_name(gateway: Gateway) -> None:
    with gateway.client() as client:
        answers = [
            client.get("/v1/jobs/nope"),
            client.get("/v1/jobs/nope/events"),
            client.post("/v1/jobs/nope/cancellation"),
        ]
    assert [a.status_code for a in answers] == [404, 404, 404]
    assert {a.json()["detail"] for a in answers} == {"unknown job: 'nope'"}


def test_a_queued_job_is_cancelled_once(gateway: Gateway) -> None:
    job = submit(gateway)
    with gateway.client() as client:
        cancelled = client.post(f"/v1/jobs/{job.id}/cancellation")
        again = client.post(f"/v1/jobs/{job.id}/cancellation")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert again.status_code == 409
    assert again.json()["detail"] == f"job {job.id!r} is already cancelled"


def test_events_tell_each_change_and_end_with_the_job(gateway: Gateway) -> None:
    job = submit(gateway)
    store = store_of(gateway)

    def work() -> None:
        claim = store.claim(job.id, "w")
        assert claim is not None
        time.sleep(0.7)
        store.beat(claim, 0.5, "half")
        time.sleep(0.7)
        store.finish(claim, "succeeded", result={"n": 1})

    worker = threading.Timer(0.7, work)
    worker.start()
    seen = events_of(gateway, job.id)
    worker.join()
    assert [(e["state"], e["progress"]) for e in seen] == [
        ("queued", 0.0),
        ("running", 0.0),
        ("running", 0.5),
        ("succeeded", 1.0),
    ]
    assert seen[-1]["result"] == {"n": 1}


def test_events_of_a_job_that_is_over_are_one(gateway: Gateway) -> None:
    job = submit(gateway)
    store_of(gateway).cancel(job.id)
    assert [e["state"] for e in events_of(gateway, job.id)] == ["cancelled"]


def events_of(gateway: Gateway, job_id: str) -> list[dict[str, Any]]:
    with gateway.client() as client, client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.fixture
def farm(settings: Settings, database: Database) -> Iterator[Gateway]:
    """A gateway in front of the real data service, which has the project `farm`."""
    with serving(data_service(settings)) as data_url:
        settings = settings.model_copy(update={"data_url": data_url})
        with serving(create_app(settings)) as url:
            found = Gateway(url, settings, database, Echo())
            with found.client() as client:
                client.post("/v1/projects", json={"name": "farm"}).raise_for_status()
            yield found


def test_jobs_of_a_project_without_any_are_none(farm: Gateway) -> None:
    submit(farm, "farm")
    with farm.client(role="viewer") as client:
        assert len(client.get("/v1/jobs", params={"project": "farm"}).json()) == 1
        none = client.get("/v1/jobs", params={"project": "farm", "state": "failed"})
    assert (none.status_code, none.json()) == (200, [])


@pytest.mark.parametrize("name", ["nowhere", "a'b", "../farm", "", "Farm"])
def test_jobs_of_an_unknown_project_are_404_with_its_name(farm: Gateway, name: str) -> None:
    with farm.client(role="viewer") as client:
        answer = client.get("/v1/jobs", params={"project": name})
    assert (answer.status_code, answer.json()["detail"]) == (404, f"unknown project: {name!r}")


def test_jobs_of_an_unknown_round_are_404_with_its_name(farm: Gateway) -> None:
    step = JobSubmit("labeling.select", "farm", DriftCreate(), round_id="r1", step="select")
    with farm.database.transaction() as session:
        store_of(farm).submit(session, step)
    with farm.client(role="viewer") as client:
        known = client.get("/v1/jobs", params={"round_id": "r1", "state": "failed"})
        nowhere = client.get("/v1/jobs", params={"round_id": "r7"})
        elsewhere = client.get("/v1/jobs", params={"round_id": "r7", "project": "farm"})
    assert (known.status_code, known.json()) == (200, [])
    assert (nowhere.status_code, nowhere.json()["detail"]) == (404, "unknown round: 'r7'")
    assert elsewhere.json()["detail"] == "unknown round: 'r7' of project 'farm'"


def test_jobs_of_a_project_that_nobody_can_vouch_for_are_503(
    settings: Settings, database: Database
) -> None:
    with serving(create_app(settings)) as url:
        gateway = Gateway(url, settings, database, Echo())
        with gateway.client(role="viewer") as client:
            answer = client.get("/v1/jobs", params={"project": "farm"})
    assert answer.status_code == 503
    assert "data_service" in answer.json()["detail"]
