"""Jobs as the gateway shows them."""

import json
import threading
import time
from typing import Any

from gateway.tests.conftest import Gateway
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore, JobSubmit
from shared.models.jobs import JobView
from shared.models.registry import DriftCreate


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
