"""The merged document, and what the gateway says about itself and its services."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from gateway.app.core.routes import SERVICES, service_of
from gateway.app.services.openapi import merge
from gateway.tests.conftest import Gateway
from gateway.tests.upstream import serving
from shared.settings import Settings

SETTINGS = ("inference_url", "labeling_url", "training_url", "calibration_url", "evidently_url")


class Thing(BaseModel):
    """A schema."""

    n: int


def service(resource: str) -> FastAPI:
    router = APIRouter()

    @router.get(f"/v1/projects/{{project}}/{resource}")
    def read(project: str) -> Thing:
        return Thing(n=len(project))

    @router.get("/v1/projects/{project}/images")
    def not_ours(project: str) -> Thing:
        return Thing(n=len(project))

    app = FastAPI()
    app.include_router(router)

    @app.get("/healthz")
    def healthz() -> None:
        return None

    return app


class TestWithServices:
    @pytest.fixture
    def settings(self, settings: Settings) -> Iterator[Settings]:
        resources = ("scorings", "rounds", "trainings", "gates", "drift-reports")
        with ExitStack() as stack:
            urls = {
                name: stack.enter_context(serving(service(resource)))
                for name, resource in zip(SETTINGS, resources, strict=True)
            }
            yield settings.model_copy(update=urls)

    def test_one_document_has_every_path_once_and_docs_read_it(self, gateway: Gateway) -> None:
        gateway.data.document = service("uploads").openapi()
        with gateway.client("") as client:
            document = client.get("/openapi.json").json()
            assert "/openapi.json" in client.get("/docs").text
        assert sorted(p for p in document["paths"] if "projects" in p) == [
            "/v1/projects/{project}/drift-reports",
            "/v1/projects/{project}/gates",
            "/v1/projects/{project}/images",
            "/v1/projects/{project}/rounds",
            "/v1/projects/{project}/scorings",
            "/v1/projects/{project}/trainings",
            "/v1/projects/{project}/uploads",
        ]
        assert "/v1/jobs/{job_id}/events" in document["paths"]
        assert "/healthz" not in document["paths"]
        assert [name for name in document["components"]["schemas"] if "Thing" in name] == ["Thing"]
        assert document["info"]["title"] == "Fovea"

    def test_readiness_names_what_is_down(self, gateway: Gateway) -> None:
        with gateway.client("") as client:
            answer = client.get("/readyz")
        checks = answer.json()["checks"]
        assert answer.status_code == 503
        assert sorted(checks) == sorted(["database", "broker", *SERVICES])
        assert [name for name, result in checks.items() if result != "ok"] == ["broker"]


def test_without_a_service_the_document_is_503_with_its_name(gateway: Gateway) -> None:
    with gateway.client("") as client:
        answer = client.get("/openapi.json")
        ready = client.get("/readyz").json()["checks"]
    assert answer.status_code == 503
    assert "_service (http://127.0.0.1:1)" in answer.json()["detail"]
    assert ready["data_service"] == "ok"
    assert ready["training_service"].startswith("BackendUnavailable: http://127.0.0.1:1")


def document(path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Outer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {path: {"get": {"schema": reference}}},
        "components": {"schemas": schemas},
    }


def test_schemas_that_differ_also_by_what_they_refer_to_are_prefixed() -> None:
    outer = {"properties": {"inner": {"$ref": "#/components/schemas/Inner"}}}
    same = {"type": "string"}
    own = document("/v1/jobs", {})
    first = document("/v1/projects", {"Outer": outer, "Inner": {"type": "integer"}, "Same": same})
    second = document(
        "/v1/projects/{project}/rounds", {"Outer": outer, "Inner": {"type": "number"}, "Same": same}
    )
    merged = merge(own, {"data_service": first, "labeling_service": second})
    assert merged["components"]["schemas"] == {
        "Inner": {"type": "integer"},
        "Outer": outer,
        "Same": same,
        "labeling_service_Inner": {"type": "number"},
        "labeling_service_Outer": {
            "properties": {"inner": {"$ref": "#/components/schemas/labeling_service_Inner"}}
        },
    }
    assert merged["paths"]["/v1/projects/{project}/rounds"] == {
        "get": {"schema": {"$ref": "#/components/schemas/labeling_service_Outer"}}
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/projects", "data_service"),
        ("/v1/projects/p", "data_service"),
        ("/v1/files/projects/p/images/a.png", "data_service"),
        ("/v1/projects/p/images/i/thumbnail", "data_service"),
        ("/v1/projects/p/predictions/i", "inference_service"),
        ("/v1/projects/p/predict", "inference_service"),
        ("/v1/batches", "inference_service"),
        ("/v1/batches/b/results", "inference_service"),
        ("/v1/projects/p/tasks/t/answer", "labeling_service"),
        ("/v1/projects/p/models/3", "training_service"),
        ("/v1/projects/p/aliases", "calibration_service"),
        ("/v1/projects/p/drift-reports/r/html", "evidently_service"),
    ],
)
def test_the_resource_decides_the_service(path: str, expected: str) -> None:
    assert service_of(path) == expected
