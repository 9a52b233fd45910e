import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

from calibration_service.app.main import create_app
from calibration_service.app.services.evidence import EvidenceReader
from calibration_service.tests.conftest import AddModel
from calibration_service.tests.synthetic import LEFT, World, write
from shared.database import Base
from shared.objects.port import ObjectStore
from shared.settings import Settings

SECRET = "s" * 32
KEY = {"X-Fovea-Service-Key": SECRET}


@pytest.fixture
def gateway_url(world: World) -> Iterator[str]:
    """Serve the project's record, as the gateway would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            known = name == world.name
            body = (
                world.project(name).model_dump_json()
                if known
                else f'{{"error": "NotFound", "detail": "unknown project: {name!r}"}}'
            )
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(tmp_path: Path, gateway_url: str, mlflow_url: str) -> Iterator[TestClient]:
    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{tmp_path}/fovea.db",
            "broker_url": "memory://",
            "object_store_url": f"file:{tmp_path}/objects",
            "mlflow_url": mlflow_url,
            "gateway_url": gateway_url,
            "service_key": SECRET,
            "signing_key": SECRET,
        }
    )
    engine = create_engine(settings.database_url)
    Base.metadata.create_all(engine)
    engine.dispose()
    with TestClient(create_app(settings), headers=KEY) as client:
        yield client


def test_the_service_key_is_asked_for(client: TestClient, project: str) -> None:
    answer = client.get(f"/v1/projects/{project}/aliases", headers={"X-Fovea-Service-Key": "no"})
    assert answer.status_code == 401


def test_readiness_asks_every_back_end_and_names_the_one_that_is_down(client: TestClient) -> None:
    # The tests keep MLflow's records in a file: there is no server that could answer.
    answer = client.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks.pop("mlflow").startswith("BackendUnavailable: MLflow (sqlite:")
    assert checks == {"database": "ok", "broker": "ok", "objects": "ok"}


@pytest.mark.parametrize(
    ("method", "resource", "body"),
    [
        ("GET", "aliases", None),
        ("POST", "rollbacks", None),
        ("POST", "promotions", {"model_version": 1}),
        ("POST", "calibrations", {}),
        ("POST", "gates", {"model_version": 1}),
    ],
)
def test_an_unknown_project_is_404_with_its_name(
    client: TestClient, method: str, resource: str, body: dict[str, int] | None
) -> None:
    answer = client.request(method, f"/v1/projects/nobody/{resource}", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "unknown project: 'nobody'"


def test_an_unknown_version_is_404_with_its_number(
    client: TestClient, project: str, add_model: AddModel
) -> None:
    add_model(project)
    for resource in ("promotions", "calibrations", "gates"):
        answer = client.post(f"/v1/projects/{project}/{resource}", json={"model_version": 9})
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"unknown model version: 9 of project '{project}'"


def test_promote_roll_back_and_read(client: TestClient, project: str, add_model: AddModel) -> None:
    base = f"/v1/projects/{project}"
    nothing = {"project": project, "production": None, "previous": None}
    assert client.get(f"{base}/aliases").json() == nothing
    for _ in range(2):
        version = add_model(project)
        answer = client.post(f"{base}/promotions", json={"model_version": version})
        assert answer.status_code == 200
    assert answer.json() == {"project": project, "production": 2, "previous": 1}
    answer = client.post(f"{base}/rollbacks")
    assert answer.json() == {"project": project, "production": 1, "previous": None}
    answer = client.post(f"{base}/rollbacks")
    assert answer.status_code == 409
    assert answer.json()["error"] == "NoPreviousModel"


def test_a_model_that_was_not_scored_is_409_with_the_split(
    client: TestClient, project: str, store: ObjectStore, add_model: AddModel
) -> None:
    base = f"/v1/projects/{project}"
    add_model(project)
    write(store, project, 1, "val", [[(LEFT, 0, 0.9)]])
    answer = client.post(f"{base}/calibrations", json={})
    assert answer.status_code == 409
    expected = f"model version 1 of project '{project}' is not scored on 'test' yet: "
    assert answer.json()["detail"] == expected + "`fovea calibrate --model 1` scores it"
    answer = client.post(f"{base}/gates", json={"model_version": 1})
    assert answer.status_code == 409
    assert "is not scored on 'gate' yet" in answer.json()["detail"]


def test_a_model_that_the_gate_cannot_compare_with_is_not_promoted(
    client: TestClient, project: str, world: World, store: ObjectStore, add_model: AddModel
) -> None:
    base, body = f"/v1/projects/{project}", {"model_version": add_model(project)}
    world.label("gate", [[(LEFT, 0)]])
    answer = client.post(f"{base}/promotions", json=body)
    assert (answer.status_code, answer.json()["error"]) == (409, "NotScored")
    assert answer.json()["detail"].endswith("`fovea calibrate --model 1` scores it")
    assert client.get(f"{base}/aliases").json()["production"] is None
    write(store, project, 1, "gate", [[(LEFT, 0, 0.9)]])
    assert client.post(f"{base}/promotions", json=body).json()["production"] == 1


def test_a_scored_model_gets_its_jobs_with_the_version_pinned(
    client: TestClient, project: str, store: ObjectStore, add_model: AddModel
) -> None:
    base = f"/v1/projects/{project}"
    add_model(project)
    for split in ("val", "gate", "test"):
        write(store, project, 1, split, [[(LEFT, 0, 0.9)]])
    answer = client.post(f"{base}/calibrations", json={"dataset_version": 2})
    assert answer.status_code == 202
    assert answer.json()["kind"] == "calibration.calibrate"
    assert answer.json()["payload"] == {"model_version": 1, "dataset_version": 2}
    answer = client.post(f"{base}/gates", json={"model_version": 1})
    assert answer.status_code == 202
    assert answer.json()["kind"] == "calibration.gate"
    told = {"model_version": 1, "dataset_version": None, "promote": True}
    assert answer.json()["payload"] == told


def test_the_look_for_shards_reads_none(store: ObjectStore, world: World) -> None:
    store.put(f"projects/{world.name}/predictions/v1/val-0.parquet", b"not a shard")
    EvidenceReader(store, world).require_shards(world.name, 1, "val")
