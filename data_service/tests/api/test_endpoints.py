import io
import zipfile
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from data_service.app.services.images import ImageQuery, list_images
from data_service.app.wiring import Dependencies
from data_service.app.worker import build
from data_service.tests.builders import png, yolo_files, zipped
from shared.jobs.worker import JobContext, JobReleased, JobRunner
from shared.models.data import IngestionReport

IngestFiles = Callable[..., IngestionReport]
FARM = "/v1/projects/farm"


def error(client: TestClient, method: str, path: str, **kwargs: object) -> tuple[int, str, str]:
    response = client.request(method, path, **kwargs)  # type: ignore[arg-type]
    body = response.json()
    return response.status_code, body["error"], body["detail"]


def run_job(deps: Dependencies, job_id: str) -> IngestionReport:
    claim = deps.jobs.claim(job_id, "worker")
    assert claim is not None
    context = JobContext(claim, JobRunner("data", deps.jobs, deps.settings))
    report = build(deps.settings)["data.ingest"](context)
    assert isinstance(report, IngestionReport)
    deps.jobs.finish(claim, "succeeded", result=report.model_dump(mode="json"))
    return report


def test_a_project_is_created_once(client: TestClient) -> None:
    body = {"name": "zoo", "classes": ["owl"], "seed": 7}
    created = client.post("/v1/projects", json=body)
    assert created.status_code == 201
    assert created.json()["classes"] == ["owl"]
    assert created.json()["n_by_split"] == {"train": 0, "val": 0, "gate": 0, "test": 0}
    assert error(client, "POST", "/v1/projects", json=body) == (
        409,
        "ProjectExists",
        "project exists already: 'zoo'",
    )
    assert [p["name"] for p in client.get("/v1/projects").json()] == ["farm", "zoo"]


def test_a_project_is_copied_under_another_name(client: TestClient) -> None:
    made = client.post(f"{FARM}/copies", json={"name": "ranch"})
    assert (made.status_code, made.json()["name"]) == (201, "ranch")
    assert error(client, "POST", f"{FARM}/copies", json={"name": "ranch"}) == (
        409,
        "ProjectExists",
        "project exists already: 'ranch'",
    )
    assert error(client, "POST", f"{FARM}/copies", json={"name": "x", "dataset_version": 2}) == (
        404,
        "UnknownVersion",
        "unknown dataset version: 2 of project 'farm'",
    )
    assert error(client, "POST", "/v1/projects/nope/copies", json={"name": "x"}) == (
        404,
        "UnknownProject",
        "unknown project: 'nope'",
    )


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"name": "a", "classes": ["x", "x"]}, 400, "class named twice: 'x'"),
        (
            {"name": "a", "splits": {"val": 0.5, "gate": 0.3, "test": 0.2}},
            400,
            "val, gate and test together are 1, nothing is left to train on",
        ),
    ],
)
def test_an_impossible_project_is_refused(
    client: TestClient, body: dict[str, object], status: int, detail: str
) -> None:
    assert error(client, "POST", "/v1/projects", json=body) == (status, "BadRequest", detail)


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/projects/nope", "unknown project: 'nope'"),
        ("/v1/projects/nope/images", "unknown project: 'nope'"),
        ("/v1/projects/nope/images/i", "unknown project: 'nope'"),
        ("/v1/projects/nope/dataset-versions", "unknown project: 'nope'"),
        ("/v1/projects/nope/dataset-versions/1", "unknown project: 'nope'"),
        (f"{FARM}/images/i", "unknown image: 'i'"),
        (f"{FARM}/images/i/content", "unknown image: 'i'"),
        (f"{FARM}/images/i/thumbnail", "unknown image: 'i'"),
        (f"{FARM}/images/i/ground-truth", "unknown image: 'i'"),
        (f"{FARM}/dataset-versions/9", "unknown dataset version: 9 of project 'farm'"),
        (f"{FARM}/dataset-versions/9/manifest", "unknown dataset version: 9 of project 'farm'"),
        (
            f"{FARM}/dataset-versions/9/export?format=yolo",
            "unknown dataset version: 9 of project 'farm'",
        ),
    ],
)
def test_an_unknown_thing_is_404_with_its_name(client: TestClient, path: str, detail: str) -> None:
    status, _, found = error(client, "GET", path)
    assert (status, found) == (404, detail)


def test_without_the_service_key_nobody_gets_in(client: TestClient) -> None:
    response = client.get("/v1/projects", headers={"X-Fovea-Service-Key": "wrong"})
    assert response.status_code == 401


@pytest.mark.parametrize("how", ["raw", "form"])
def test_an_upload_is_ingested_by_its_job(client: TestClient, deps: Dependencies, how: str) -> None:
    data = zipped(yolo_files(3))
    sent = {"content": data} if how == "raw" else {"files": {"file": ("set.zip", data)}}
    upload = client.post(f"{FARM}/uploads", **sent)
    assert upload.status_code == 201
    assert upload.json()["n_bytes"] == len(data)
    job = client.post(f"{FARM}/ingestions", json={"upload_id": upload.json()["upload_id"]})
    assert job.status_code == 202
    assert (job.json()["kind"], job.json()["project"]) == ("data.ingest", "farm")
    report = run_job(deps, job.json()["id"])
    assert (report.format, report.n_added, report.dataset_version) == ("yolo", 3, 1)


def test_a_single_uploaded_image_is_ingested(client: TestClient, deps: Dependencies) -> None:
    upload = client.post(f"{FARM}/uploads", files={"file": ("../cow.png", png(1))}).json()
    job = client.post(f"{FARM}/ingestions", json={"upload_id": upload["upload_id"]}).json()
    assert run_job(deps, job["id"]).n_added == 1
    [image] = client.get(f"{FARM}/images", params={"name": "cow.png"}).json()["images"]
    assert client.get(f"{FARM}/images/{image['id']}/content").content == png(1)


def test_a_raw_image_is_called_as_the_query_says_and_its_upload_goes_when_it_is_ingested(
    client: TestClient, deps: Dependencies
) -> None:
    params = {"name": "Brown cow.png"}
    upload = client.post(f"{FARM}/uploads", params=params, content=png(1)).json()["upload_id"]
    job = client.post(f"{FARM}/ingestions", json={"upload_id": upload}).json()["id"]
    claim = deps.jobs.claim(job, "worker")
    assert claim is not None
    ingest = build(deps.settings)["data.ingest"]
    context = JobContext(claim, JobRunner("data", deps.jobs, deps.settings))
    report = ingest(context)
    [image] = client.get(f"{FARM}/images").json()["images"]
    assert image["name"] == "Brown cow.png"
    assert list(deps.store.list("projects/farm/uploads/")) == []
    # Its end was not written down before the worker died: the next attempt ends the same.
    assert ingest(context) == report
    again = client.post(f"{FARM}/ingestions", json={"upload_id": upload})
    assert (again.status_code, again.json()["error"]) == (404, "UnknownUpload")


def test_the_upload_of_a_job_that_failed_stays(client: TestClient, deps: Dependencies) -> None:
    upload = client.post(f"{FARM}/uploads", content=zipped(yolo_files(1))).json()["upload_id"]
    job = client.post(f"{FARM}/ingestions", json={"upload_id": upload}).json()["id"]
    claim = deps.jobs.claim(job, "worker")
    assert claim is not None
    runner = JobRunner("data", deps.jobs, deps.settings)
    runner.stop()
    with pytest.raises(JobReleased):
        build(deps.settings)["data.ingest"](JobContext(claim, runner))
    assert len(list(deps.store.list("projects/farm/uploads/"))) == 1
    deps.jobs.release(claim, "released", attempt_counts=False)
    assert run_job(deps, job).n_added == 1


@pytest.mark.parametrize("name", ["", "../cow.png", ".cow.png", "a/b.png", "a\\b.png", "a\0.png"])
def test_a_name_that_is_no_file_name_is_422(client: TestClient, name: str) -> None:
    response = client.post(f"{FARM}/uploads", params={"name": name}, content=png(1))
    assert response.status_code == 422


@pytest.mark.parametrize("part", ["cow", "_1.p", "BROWN", "%"])
def test_images_are_found_by_a_part_of_their_name(
    client: TestClient, ingest_files: IngestFiles, part: str
) -> None:
    ingest_files({"brown%cow_1.png": png(1), "horsex1xp.png": png(2)})
    found = client.get(f"{FARM}/images", params={"name": part}).json()["images"]
    assert [image["name"] for image in found] == ["brown%cow_1.png"]


@pytest.mark.parametrize("version", ["2147483648", "99999999999999999999", "-1"])
def test_a_version_over_the_range_is_422(client: TestClient, version: str) -> None:
    assert error(client, "GET", f"{FARM}/dataset-versions/{version}")[:2] == (
        422,
        "ValidationFailed",
    )


def test_a_seed_over_the_range_is_422(client: TestClient) -> None:
    body = {"name": "zoo", "seed": 10**20}
    assert error(client, "POST", "/v1/projects", json=body)[:2] == (422, "ValidationFailed")


@pytest.mark.parametrize("how", ["raw", "form", "stream"])
def test_an_upload_over_the_limit_is_413(client: TestClient, how: str) -> None:
    data = bytes(4 << 20)
    sent: dict[str, object] = {"content": data}
    if how == "form":
        sent = {"files": {"file": ("a.zip", data)}}
    if how == "stream":
        sent = {"content": (data[i : i + 65536] for i in range(0, len(data), 65536))}
    assert error(client, "POST", f"{FARM}/uploads", **sent) == (
        413,
        "TooLarge",
        "the upload is larger than 2 MiB (FOVEA_MAX_UPLOAD_MB)",
    )


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"path": "/etc"}, 403, "path is not under FOVEA_INGEST_ROOTS: '/etc'"),
        ({"upload_id": "u"}, 404, "unknown upload: 'u'"),
        ({"s3": "s3://theirs/a"}, 403, "address is not under FOVEA_INGEST_S3: 's3://theirs/a'"),
        ({"urls_upload_id": "u"}, 404, "unknown upload: 'u'"),
        (
            {},
            400,
            "an ingestion needs one of path, upload_id, urls_upload_id, s3: got none",
        ),
        (
            {"path": "/a", "s3": "s3://a"},
            400,
            "an ingestion needs one of path, upload_id, urls_upload_id, s3: got path, s3",
        ),
    ],
)
def test_an_impossible_ingestion_is_refused_at_once(
    client: TestClient, body: dict[str, object], status: int, detail: str
) -> None:
    found = error(client, "POST", f"{FARM}/ingestions", json=body)
    assert (found[0], found[2]) == (status, detail)


def test_images_are_paged_in_the_order_of_their_ids(
    client: TestClient, ingest_files: IngestFiles
) -> None:
    ingest_files({f"{i}.png": png(i) for i in range(5)})
    found: list[str] = []
    cursor = None
    for expected in (2, 2, 1):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"{FARM}/images", params=query).json()
        assert len(page["images"]) == expected
        found += [image["id"] for image in page["images"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert found == sorted(set(found))
    assert len(found) == 5
    assert client.get(f"{FARM}/images", params={"split": "val"}).json()["images"] == []


def test_the_bytes_of_an_image_and_its_thumbnail_are_served(
    client: TestClient, ingest_files: IngestFiles
) -> None:
    ingest_files({"a.png": png(1)})
    [image] = client.get(f"{FARM}/images").json()["images"]
    content = client.get(f"{FARM}/images/{image['id']}/content")
    thumbnail = client.get(f"{FARM}/images/{image['id']}/thumbnail")
    assert (content.headers["content-type"], content.content) == ("image/png", png(1))
    assert thumbnail.headers["content-type"] == "image/jpeg"


def test_hidden_labels_are_served_and_their_absence_is_404(
    client: TestClient, ingest_files: IngestFiles
) -> None:
    ingest_files(yolo_files(1) | {"images/x.png": png(70)}, as_oracle=True)
    images = client.get(f"{FARM}/images").json()["images"]
    by_name = {image["name"]: image["id"] for image in images}
    truth = client.get(f"{FARM}/images/{by_name['p0.png']}/ground-truth").json()
    assert truth["annotations"][0]["source"] == "oracle"
    path = f"{FARM}/images/{by_name['x.png']}/ground-truth"
    detail = f"no ground truth for image: '{by_name['x.png']}'"
    assert error(client, "GET", path) == (404, "NoGroundTruth", detail)


def test_a_version_is_made_read_and_exported(client: TestClient, ingest_files: IngestFiles) -> None:
    ingest_files(yolo_files(2))
    image = client.get(f"{FARM}/images").json()["images"][0]["id"]
    label = {"image_id": image, "annotations": [{"class_id": 0, "xyxy": [0, 0, 0.5, 0.5]}]}
    body = {"round_id": "r1", "labels": [label]}
    made = client.post(f"{FARM}/dataset-versions", json=body)
    assert (made.status_code, made.json()["version"]) == (201, 2)
    assert client.post(f"{FARM}/dataset-versions", json=body).json() == made.json()
    assert client.get(f"{FARM}/dataset-versions/2").json() == made.json()
    assert len(client.get(f"{FARM}/dataset-versions").json()) == 2
    manifest = client.get(f"{FARM}/dataset-versions/2/manifest").json()
    assert len(manifest["items"]) == 2
    export = client.get(f"{FARM}/dataset-versions/2/export", params={"format": "coco"})
    assert export.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(export.content)) as archive:
        assert "annotations/instances_train.json" in archive.namelist()


def test_a_signed_address_is_served_and_a_changed_one_is_not(
    client: TestClient, deps: Dependencies, ingest_files: IngestFiles
) -> None:
    ingest_files({"a.png": png(1)})
    [image] = list_images(deps.database, "farm", ImageQuery()).images
    address = deps.store.signed_url(image.key, 60).removeprefix(deps.settings.gateway_url)
    assert client.get(address).content == png(1)
    assert error(client, "GET", address + "0") == (
        403,
        "Forbidden",
        f"bad signature for file: '{image.key}'",
    )
    expired = deps.store.signed_url(image.key, -1).removeprefix(deps.settings.gateway_url)
    assert error(client, "GET", expired)[0] == 410
    gone = deps.store.signed_url("no/such.png", 60).removeprefix(deps.settings.gateway_url)
    assert error(client, "GET", gone) == (404, "ObjectNotFound", "unknown object: 'no/such.png'")


def test_readiness_names_the_broker_that_is_down(client: TestClient) -> None:
    response = client.get("/readyz")
    checks = response.json()["checks"]
    assert response.status_code == 503
    assert (checks["database"], checks["object store"]) == ("ok", "ok")
    assert "BackendUnavailable: broker" in checks["broker"]
