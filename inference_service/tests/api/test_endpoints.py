import base64
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from inference_service.app.core.in_flight import InFlight
from inference_service.app.core.pixel_budget import PixelBudget
from inference_service.app.wiring import Neighbours, WorkerParts, build
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry, score
from inference_service.tests.tiny import picture, png
from shared.models.registry import ScoringCreate
from shared.objects.wiring import object_store
from shared.served import Window, drift_row, read_served
from shared.settings import Settings
from shared.thresholds import Thresholds

URL = f"/v1/projects/{PROJECT}"


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def approx_detection(detection: dict[str, Any]) -> dict[str, Any]:
    return {key: pytest.approx(value, abs=1e-4) for key, value in detection.items()}


def version_of(client: TestClient) -> int:
    return int(client.get(f"{URL}/serving").json()["model_version"])


def test_prediction_of_a_file_names_image_and_model(client: TestClient) -> None:
    data = png(picture(3))
    answer = client.post(f"{URL}/predict", files={"file": ("a.png", data)})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["image_id"] == hashlib.sha256(data).hexdigest()
    assert (body["width"], body["height"], body["model_version"]) == (80, 60, 1)
    assert body["calibrated"] is False
    assert len(body["detections"]) > 3
    assert all(d["score"] >= 0.25 and len(d["class_scores"]) == 3 for d in body["detections"])
    assert answer.headers["X-Model-Version"] == "1"
    assert float(answer.headers["X-Inference-Ms"]) > 0


def test_concurrent_requests_each_get_their_own_answer(client: TestClient) -> None:
    def detections(seed: int) -> list[dict[str, Any]]:
        sent = {"file": ("a.png", png(picture(seed)))}
        found: list[dict[str, Any]] = client.post(f"{URL}/predict", files=sent).json()["detections"]
        return found

    alone = {seed: detections(seed) for seed in range(6)}
    seeds = [*range(6)] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(detections, seeds))
    for seed, found in zip(seeds, together, strict=True):
        # In another batch the last digits differ.
        assert found == [approx_detection(d) for d in alone[seed]]
    assert len({str(d) for d in alone.values()}) == 6


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b"", 400, "EmptyImage"),
        (b"hello", 415, "UnsupportedImage"),
        (png(picture(0))[:200], 400, "CorruptImage"),
    ],
)
def test_bad_image_is_refused_by_name(
    client: TestClient, data: bytes, status: int, error: str
) -> None:
    answer = client.post(f"{URL}/predict", files={"file": ("bad.png", data)})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "bad.png" in answer.json()["detail"]


def test_an_image_comes_as_a_file_as_bytes_in_base64_or_by_its_id(
    client: TestClient, gateway: LocalGateway
) -> None:
    data = png(picture(3))
    stored = gateway.add(3)
    by_file = client.post(f"{URL}/predict", files={"file": ("a.png", data)}).json()
    answers = [
        client.post(f"{URL}/predict", content=data, headers={"Content-Type": "image/png"}),
        client.post(f"{URL}/predict", json={"image": base64.b64encode(data).decode()}),
        # As `base64 FILE` writes it: in lines.
        client.post(f"{URL}/predict", json={"image": base64.encodebytes(data).decode()}),
        client.post(f"{URL}/predict", json={"image_id": stored.id}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = [d["xyxy"] for d in answer.json()["detections"]]
        assert found == [d["xyxy"] for d in by_file["detections"]]
    assert [a.json()["image_id"] for a in answers] == [by_file["image_id"]] * 3 + [stored.id]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give one of image_id, image, url: got none"),
        ({"url": "http://x/", "image_id": "a"}, "got image_id, url"),
        ({"image": "%%%"}, "not base64"),
        ({"image": "data:image/png;base64,AAAA"}, "without `data:"),
        ({"url": f"http://example.org/{'a' * 8192}"}, "at most 8192 characters"),
        ({"picture": "a"}, "picture: "),
    ],
)
def test_a_body_that_gives_no_image_is_422(
    client: TestClient, body: dict[str, str], message: str
) -> None:
    answer = client.post(f"{URL}/predict", json=body)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_an_image_of_the_server_s_own_network_is_refused(client: TestClient) -> None:
    answer = client.post(f"{URL}/predict", json={"url": "http://127.0.0.1:8000/v1/projects"})
    assert (answer.status_code, answer.json()["error"]) == (400, "UrlRefused")
    assert "127.0.0.1" in answer.json()["detail"]


def test_more_requests_than_may_be_inside_are_told_to_come_back(client: TestClient) -> None:
    deps = client.app_state["deps"]
    client.app_state["deps"] = replace(deps, in_flight=InFlight(1))
    sent = {"file": ("a.png", png(picture(0)))}
    with client.app_state["deps"].in_flight.enter():
        answer = client.post(f"{URL}/predict", files=sent)
    assert (answer.status_code, answer.json()["error"]) == (503, "ServingBusy")
    assert answer.headers["Retry-After"] == "1"
    assert client.post(f"{URL}/predict", files=sent).status_code == 200


def test_other_body_is_415_and_missing_field_is_422(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    assert client.post(f"{URL}/predict", content=b"x", headers=headers).status_code == 415
    assert client.post(f"{URL}/predict", files={"other": b"x"}).status_code == 422


def test_project_without_production_model_is_409_and_unknown_project_404(
    client: TestClient, registry: LocalRegistry
) -> None:
    registry.production = None
    sent = {"file": ("a.png", png(picture(0)))}
    answer = client.post(f"{URL}/predict", files=sent)
    assert (answer.status_code, answer.json()["error"]) == (409, "NoProductionModel")
    assert "'shapes'" in answer.json()["detail"]
    answer = client.post("/v1/projects/nothing/predict", files=sent)
    assert (answer.status_code, answer.json()["detail"]) == (404, "unknown project: 'nothing'")


def test_unknown_image_is_404_with_its_name(client: TestClient) -> None:
    answer = client.post(f"{URL}/predict", json={"image_id": "nope"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "unknown image: 'nope'")
    answer = client.get(f"{URL}/predictions/nope")
    assert answer.status_code == 404
    assert "'nope'" in answer.json()["detail"]


def test_promotion_changes_the_model_without_a_failed_request(
    client: TestClient, registry: LocalRegistry
) -> None:
    registry.add(2)
    assert version_of(client) == 1
    seen = []

    def ask(_: int) -> int:
        answer = client.post(f"{URL}/predict", files={"file": ("a.png", png(picture(1)))})
        assert answer.status_code == 200, answer.text
        seen.append(answer.json()["model_version"])
        return int(answer.status_code)

    with ThreadPoolExecutor(3) as pool:
        asked = pool.map(ask, range(60))
        registry.production = 2
        assert set(asked) == {200}
    eventually(lambda: version_of(client) == 2)
    assert ask(0) == 200
    assert seen[-1] == 2


def test_registry_down_does_not_mean_predict_down(
    client: TestClient, settings: Settings, gateway: LocalGateway, registry: LocalRegistry
) -> None:
    assert version_of(client) == 1
    registry.down = True
    eventually(lambda: client.get(f"{URL}/serving").json()["registry_error"] is not None)
    sent = {"file": ("a.png", png(picture(1)))}
    assert client.post(f"{URL}/predict", files=sent).status_code == 200
    restarted = build(settings, Neighbours(gateway, registry))
    restarted.start()
    image = restarted.predictor.uploaded(png(picture(1)), "a.png", None)
    assert restarted.predictor.predict(PROJECT, image).model_version == 1
    restarted.close()


def test_registry_down_before_any_model_is_503_with_its_name(
    client: TestClient, registry: LocalRegistry
) -> None:
    registry.down = True
    answer = client.get(f"{URL}/serving")
    assert answer.status_code == 503
    assert "MLflow" in answer.json()["detail"]


def test_calibration_is_applied(client: TestClient, registry: LocalRegistry) -> None:
    registry.calibrate(1, 0.9)
    body = client.post(f"{URL}/predict", files={"file": ("a.png", png(picture(3)))}).json()
    assert body["calibrated"] is True
    assert body["detections"]
    assert min(d["score"] for d in body["detections"]) >= 0.9


def test_unknown_component_keeps_the_old_model_and_says_why(
    client: TestClient, registry: LocalRegistry
) -> None:
    assert version_of(client) == 1
    registry.add(2)
    known = registry.calibrate(2, 0.9)
    registry.calibrations[2] = known.replace('"thresholds"', '"horoscope"')
    registry.production = 2
    eventually(lambda: client.get(f"{URL}/serving").json()["refused"] is not None)
    body = client.get(f"{URL}/serving").json()
    assert body["model_version"] == 1
    assert body["refused"]["model_version"] == 2
    assert "horoscope" in body["refused"]["reason"]


def test_served_image_is_logged_with_the_numbers_of_its_scoring(
    client: TestClient, settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    image = gateway.add(7)
    scoring = ScoringCreate(model_version=1)
    score(worker.scorer, scoring)
    sent = client.post(f"{URL}/predict?batch=night", json={"image_id": image.id})
    assert sent.status_code == 200, sent.text
    store = object_store(settings)
    eventually(lambda: len(read_served(store, PROJECT, 1, Window(batch="night"))) == 1)
    assert read_served(store, PROJECT, 1, Window(batch="day")) == []
    served = read_served(store, PROJECT, 1)[0]
    assert served.prediction_id == sent.json()["prediction_id"]
    assert served.image_id == image.id
    scored = worker.stored.find(PROJECT, 1, image.id)
    reference = drift_row(scored, Thresholds.default(3))
    assert served.row.n_boxes == reference.n_boxes == len(sent.json()["detections"]) > 0
    assert served.row.class_counts == reference.class_counts
    classes = ("ring", "cross", "dot")
    assert served.row.columns(classes) == pytest.approx(reference.columns(classes), abs=1e-5)
    assert served.row.embedding == pytest.approx(reference.embedding, abs=1e-5)


def test_stored_prediction_comes_from_the_shards(
    client: TestClient, gateway: LocalGateway, worker: WorkerParts
) -> None:
    images = [gateway.add(i) for i in range(5)]
    scoring = ScoringCreate(model_version=1)
    score(worker.scorer, scoring)
    body = client.get(f"{URL}/predictions/{images[2].id}?min_score=0.5").json()
    assert (body["image_id"], body["model_version"], body["split"]) == (images[2].id, 1, "train")
    assert body["detections"]
    assert all(d["score"] >= 0.5 and d["bald"] >= 0 for d in body["detections"])
    scored = worker.stored.find(PROJECT, 1, images[2].id)
    best = body["detections"][0]
    for name in ("entropy", "margin", "certainty", "bald", "variance", "localisation"):
        assert best[name] == pytest.approx(float(getattr(scored, name)[0])), name
    assert {d["inconsistency"] for d in body["detections"]} == {None}
    again = ScoringCreate(model_version=1, consistency=True)
    score(worker.scorer, again)
    body = client.get(f"{URL}/predictions/{images[2].id}?min_score=0.5").json()
    assert all(0 <= d["inconsistency"] <= 1 for d in body["detections"])


def test_scoring_and_reindexing_are_jobs(client: TestClient) -> None:
    answer = client.post(f"{URL}/scorings", json={"model_version": 1, "splits": ["val"]})
    assert (answer.status_code, answer.json()["kind"]) == (202, "inference.score")
    answer = client.post(f"{URL}/reindexings")
    assert (answer.status_code, answer.json()["kind"]) == (202, "inference.reindex")
    answer = client.post(f"{URL}/scorings", json={"model_version": 9})
    assert answer.status_code == 404
    assert "unknown model version: 9" in answer.json()["detail"]


def test_readiness_asks_the_broker_too(client: TestClient) -> None:
    answer = client.get("/readyz")
    checks = answer.json()["checks"]
    assert answer.status_code == 503
    assert checks.pop("broker").startswith("BackendUnavailable: broker (redis://127.0.0.1:1/0)")
    assert checks == {"database": "ok", "object_store": "ok", "vector_store": "ok"}


def test_a_prediction_waits_for_its_pixels_and_then_is_refused(client: TestClient) -> None:
    budget = PixelBudget(80 * 60, wait_s=0.05)
    sent = {"file": ("a.png", png(picture(1)))}
    deps = client.app_state["deps"]
    client.app_state["deps"] = replace(deps, predictor=replace(deps.predictor, pixels=budget))
    with budget.spend(1):
        answer = client.post(f"{URL}/predict", files=sent)
    assert (answer.status_code, answer.json()["error"]) == (503, "DecodingBusy")
    assert client.post(f"{URL}/predict", files=sent).status_code == 200
