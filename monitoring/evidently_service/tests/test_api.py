"""The drift service's endpoints, with a gateway that knows one project."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from monitoring.evidently_service.app.main import create_app
from monitoring.evidently_service.app.services.drift import DriftJob, DriftReporter
from monitoring.evidently_service.tests.data import (
    PROJECT,
    RegisteredModels,
    fill,
    scored_images,
    serve,
    settings_in,
    store_in,
)
from shared.database import Base, Database
from shared.errors import NotFound
from shared.models.registry import DriftCreate, DriftResult
from shared.service import INTERNAL_KEY

REPORTS = f"/v1/projects/{PROJECT}/drift-reports"


class OneProject:
    """Stands for the gateway's client: asks about projects and nothing else."""

    def project(self, name: str) -> "OneProject":
        if name != PROJECT:
            msg = f"unknown project: {name!r}"
            raise NotFound(msg)
        return self

    @property
    def name(self) -> str:
        return PROJECT

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(
        "monitoring.evidently_service.app.wiring.GatewayClient", lambda *_: OneProject()
    )
    return create_app(settings_in(tmp_path))


@pytest.fixture
def client(app: FastAPI, tmp_path: Path) -> Iterator[TestClient]:
    database = Database(settings_in(tmp_path).database_url)
    Base.metadata.create_all(database.engine)
    database.close()
    with TestClient(app, headers={INTERNAL_KEY: "insecure-default"}) as client:
        yield client


def make(folder: Path, report_id: str) -> DriftResult:
    store = store_in(folder)
    fill(store, 3)
    serve(store, 3, scored_images(30, 1), report_id)
    reporter = DriftReporter(store, RegisteredModels())
    job = DriftJob(report_id, PROJECT, DriftCreate(batch=report_id))
    return reporter.create(job, lambda _fraction, _message: None)


def test_a_report_is_asked_for_by_a_job(client: TestClient) -> None:
    answer = client.post(REPORTS, json={"batch": "b"})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["project"], job["state"]) == ("evidently.report", PROJECT, "queued")
    assert job["payload"]["batch"] == "b"


def test_reports_are_listed_and_read(client: TestClient, tmp_path: Path) -> None:
    assert client.get(REPORTS).json() == []
    second, first = make(tmp_path, "b2"), make(tmp_path, "a1")
    listed = [DriftResult.model_validate(r) for r in client.get(REPORTS).json()]
    assert listed == [second, first]
    data = client.get(f"{REPORTS}/a1/json").json()
    assert data["result"]["report_id"] == "a1"
    page = client.get(f"{REPORTS}/a1/html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith("sandbox allow-scripts allow-downloads")


@pytest.mark.parametrize("kind", ["html", "json"])
def test_an_unknown_report_is_404_with_its_name(client: TestClient, kind: str) -> None:
    answer = client.get(f"{REPORTS}/nope/{kind}")
    assert (answer.status_code, answer.json()["error"]) == (404, "UnknownDriftReport")
    assert answer.json()["detail"] == "unknown drift report: 'nope'"


@pytest.mark.parametrize("path", ["", "/r/html", "/r/json"])
def test_an_unknown_project_is_404_with_its_name(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/projects/nope/drift-reports{path}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "unknown project: 'nope'")
    assert client.post("/v1/projects/nope/drift-reports", json={}).status_code == 404
