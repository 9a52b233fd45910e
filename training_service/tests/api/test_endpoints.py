import hashlib
import io
import json
import runpy
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import onnx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from shared.database import Base, Database
from shared.detector.package import BASES
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.models.data import DatasetManifest
from shared.registry import ModelRegistry
from shared.settings import Settings
from training_service.app.main import create_app
from training_service.app.wiring import Dependencies
from training_service.tests.data import CLASSES, Datasets

EXAMPLE = Path(__file__).resolve().parents[3] / "docs/examples/other_detector/export.py"


@pytest.fixture
def client(mlflow_url: str, manifest: DatasetManifest, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        state_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        broker_url="memory://",
        service_key=SecretStr("s" * 32),
        signing_key=SecretStr("t" * 32),
        mlflow_url=mlflow_url,
    )

    def build(settings: Settings) -> Dependencies:
        database = Database(settings.database_url)
        Base.metadata.create_all(database.engine)
        bell = Bell(make_celery(settings))
        datasets = Datasets()
        datasets.add(manifest)
        jobs = JobStore(database, bell, settings)
        registry = ModelRegistry(settings.mlflow_url)
        return Dependencies(database, bell, jobs, registry, datasets, settings.max_upload_mb)

    key = settings.service_key.get_secret_value()
    with TestClient(
        create_app(settings, build), headers={"X-Fovea-Service-Key": key}
    ) as test_client:
        yield test_client


def test_a_training_is_a_job(client: TestClient) -> None:
    answer = client.post("/v1/projects/tiny/trainings", json={"dataset_version": 1})
    body = answer.json()
    assert answer.status_code == 202
    assert (body["kind"], body["state"], body["project"]) == ("training.train", "queued", "tiny")
    assert body["payload"]["params"]["epochs"] == 40


@pytest.mark.parametrize(
    ("project", "version", "detail"),
    [
        ("other", 1, "unknown project: 'other'"),
        ("tiny", 9, "unknown dataset version: 9 of project 'tiny'"),
    ],
)
def test_a_training_on_something_unknown_is_404_with_its_name(
    client: TestClient, project: str, version: int, detail: str
) -> None:
    answer = client.post(f"/v1/projects/{project}/trainings", json={"dataset_version": version})
    assert answer.status_code == 404
    assert answer.json()["detail"] == detail


@pytest.mark.parametrize("base", ["nope", "/etc", "../base", "fovea-digits/", ""])
def test_an_unknown_base_model_is_400_and_the_known_ones_are_named(
    client: TestClient, base: str
) -> None:
    body = {"dataset_version": 1, "params": {"base": base}}
    answer = client.post("/v1/projects/tiny/trainings", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "UnknownBaseModel")
    known = "known are fovea-digits, scratch, yolov8n.pt and model:N"
    assert answer.json()["detail"] == f"unknown base model: {base!r}; {known}"


def test_a_package_on_the_server_is_no_base_model(client: TestClient) -> None:
    body = {"dataset_version": 1, "params": {"base": str(BASES / "fovea-digits")}}
    assert client.post("/v1/projects/tiny/trainings", json=body).status_code == 400


@pytest.mark.parametrize("base", [None, "scratch", "yolov8n.pt", "fovea-digits"])
def test_every_known_base_model_is_taken(client: TestClient, base: str | None) -> None:
    body = {"dataset_version": 1, "params": {"base": base}}
    answer = client.post("/v1/projects/tiny/trainings", json=body)
    assert answer.status_code == 202
    assert answer.json()["payload"]["params"]["base"] == base


def test_parameters_outside_their_range_are_422(client: TestClient) -> None:
    body = {"dataset_version": 1, "params": {"image_size": 100}}
    answer = client.post("/v1/projects/tiny/trainings", json=body)
    assert answer.status_code == 422
    assert "image_size" in answer.json()["detail"]


def test_an_unknown_model_is_404_with_its_name(client: TestClient) -> None:
    for answer in (
        client.get("/v1/projects/tiny/models/7"),
        client.post("/v1/projects/tiny/evaluations", json={"model_version": 7}),
    ):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "unknown model version: 7 of project 'tiny'"


def test_a_model_number_that_there_can_never_be_is_422(client: TestClient) -> None:
    assert client.get(f"/v1/projects/tiny/models/{10**20}").status_code == 422


def test_a_copy_of_something_unknown_is_404_with_its_name(client: TestClient) -> None:
    body = {"source_project": "other", "model_version": 1}
    answer = client.post("/v1/projects/nope/models/copies", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (404, "unknown project: 'nope'")
    answer = client.post("/v1/projects/tiny/models/copies", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "unknown model version: 1 of project 'other'"


def test_a_project_without_models_has_an_empty_list(client: TestClient) -> None:
    answer = client.get("/v1/projects/tiny/models")
    assert (answer.status_code, answer.json()) == (200, [])
    assert client.get("/v1/projects/other/models").status_code == 404


@pytest.mark.parametrize("name", ["a'b", "x' or name != '", "a:b", "Tiny", "a.b"])
def test_models_of_a_name_that_is_no_slug_are_404_with_it(client: TestClient, name: str) -> None:
    answer = client.get(f"/v1/projects/{quote(name)}/models")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"unknown project: {name!r}")


def test_the_service_is_ready_when_its_back_ends_answer(client: TestClient) -> None:
    checks = client.get("/readyz").json()["checks"]
    assert checks == {"database": "ok", "broker": "ok", "mlflow": "ok"}


OUTPUTS = {"boxes": "boxes", "scores": "scores", "normalised": False}


def packed(tmp_path: Path, **changes: Any) -> bytes:
    """Return the documented example of another detector, as a zip."""
    folder = tmp_path / "example"
    if not folder.exists():
        runpy.run_path(str(EXAMPLE))["export"](folder, list(CLASSES))
    description = json.loads((folder / "model.json").read_text()) | changes
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.json", json.dumps(description))
        archive.write(folder / "model.onnx", "model.onnx")
    return buffer.getvalue()


def test_somebody_elses_detector_is_registered_once(client: TestClient, tmp_path: Path) -> None:
    url = "/v1/projects/tiny/models/imports"
    made = client.post(url, content=packed(tmp_path))
    assert made.status_code == 201, made.text
    assert (made.json()["classes"], made.json()["aliases"]) == (list(CLASSES), ["candidate"])
    assert client.post(url, content=packed(tmp_path)).json()["version"] == made.json()["version"]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"classes": ["cow", "hen"]}, 409, "the classes of project 'tiny' are"),
        ({"weights_sha256": "0" * 64}, 422, "SHA-256 is"),
        ({"input": {"name": "pixels"}}, 422, "no input or output 'pixels'"),
        ({"kind": "horoscope"}, 422, "kind"),
        ({"image_size": 1}, 422, "image_size"),
        (
            {"input": {"name": "images", "layout": "NHWC"}},
            422,
            "'images' has shape (any, 3, 64, 64), and has to have (any, any, any, 3)",
        ),
        (
            {"input": {"name": "images", "std": [0, 1, 1]}},
            422,
            "input.std.0: Input should be greater than 0",
        ),
        (
            {"outputs": OUTPUTS | {"background": "last"}},
            422,
            "'scores' has shape (any, 64, 2), and has to have (any, any, 3)",
        ),
        (
            {"outputs": OUTPUTS | {"boxes": "scores"}},
            422,
            "'scores' has shape (any, 64, 2), and has to have (any, any, 4)",
        ),
    ],
)
def test_a_detector_that_does_not_fit_is_refused_by_name(
    client: TestClient, tmp_path: Path, changes: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post("/v1/projects/tiny/models/imports", content=packed(tmp_path, **changes))
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]


def test_what_is_no_package_is_refused(client: TestClient, tmp_path: Path) -> None:
    url = "/v1/projects/tiny/models/imports"
    assert client.post(url, content=b"no zip").status_code == 400
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.json", "{}")
    answer = client.post(url, content=buffer.getvalue())
    assert (answer.status_code, answer.json()["error"]) == (400, "BadRequest")
    assert "model.onnx" in answer.json()["detail"]


def test_a_graph_that_reads_other_files_is_refused(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "example"
    runpy.run_path(str(EXAMPLE))["export"](folder, list(CLASSES))
    model = onnx.load(folder / "model.onnx")
    weight = model.graph.initializer.add()
    weight.name, weight.data_type = "stolen", onnx.TensorProto.FLOAT
    weight.dims.extend([1])
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    answer = client.post(
        "/v1/projects/tiny/models/imports", content=packed(tmp_path, weights_sha256=digest)
    )
    assert answer.status_code == 422
    assert "keeps weights in other files, as 'stolen'" in answer.json()["detail"]
