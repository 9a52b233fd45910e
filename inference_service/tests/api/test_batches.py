from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from inference_service.app.services import batch_answers, batch_files
from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.tests.batches import (
    Killed,
    Mortal,
    create,
    eager_reaper,
    lines_of,
    output,
    state,
    work,
)
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry
from inference_service.tests.tiny import picture, png
from shared.errors import AppError, RateLimited, Unauthorised
from shared.models.data import ImageView
from shared.settings import Settings


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "PIECE_LINES", 5)


def test_every_line_is_answered_or_failed_with_its_reason(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
) -> None:
    images = [gateway.add(n) for n in range(8)]
    gateway.store.put("imports/a.png", png(picture(20)))
    gateway.store.put("imports/cut.png", png(picture(21))[:200])
    body = lines_of(
        *({"custom_id": f"c{n}", "image_id": image.id} for n, image in enumerate(images)),
        {"key": "imports/a.png"},
        "",
        {"custom_id": "gone", "image_id": "nope"},
        {"url": "http://127.0.0.1/a.png"},
        {"key": "imports/none.png"},
        {"key": "projects/other/images/a.png"},
        {"key": "../a.png"},
        {"key": "imports/cut.png"},
        "{not json",
        {"custom_id": "empty"},
        {"image_id": "a", "url": "b"},
        {"picture": "a"},
        '{"image_id": "' + "x" * batch_files.MAX_LINE_BYTES + '"}',
        {"custom_id": "last", "image_id": images[0].id},
        {"key": "a" * 300},
        {"image_id": "\u00e9" * 32_000},
        {"url": "http://a..b/a.png"},
        {"custom_id": "posted", "image_id": images[0].id, "method": "POST"},
        {"custom_id": "far", "url": "http://1.1.1.1:99999999999999999999/a.png"},
    )
    made = create(client, body, name="night")
    assert (made["state"], made["name"], made["model_version"]) == ("queued", "night", 1)
    assert made["counts"] == {"total": 26, "answered": 0, "failed": 0}
    work(deps, worker, settings, made["job_id"])
    done = state(client, made)
    assert (done["state"], done["error"]) == ("completed", None)
    assert done["counts"] == {"total": 26, "answered": 10, "failed": 16}

    answers = output(client, made, "results")
    assert [a["line"] for a in answers] == [*range(1, 10), 22]
    assert [a["custom_id"] for a in answers] == [*(f"c{n}" for n in range(8)), None, "last"]
    assert [a["image_id"] for a in answers[:8]] == [image.id for image in images]
    single = client.post("/v1/projects/shapes/predict", json={"image_id": images[3].id}).json()
    seen = answers[3]["detections"]
    assert [d["class_id"] for d in seen] == [d["class_id"] for d in single["detections"]]
    for mine, alone in zip(seen, single["detections"], strict=True):
        assert mine["score"] == pytest.approx(alone["score"], abs=1e-4)

    errors = {e["line"]: e for e in output(client, made, "errors")}
    reasons = {line: (e["error"], e["custom_id"]) for line, e in errors.items()}
    assert reasons == {
        11: ("NotFound", "gone"),
        12: ("UrlRefused", None),
        13: ("ObjectNotFound", None),
        14: ("Forbidden", None),
        15: ("BadKey", None),
        16: ("CorruptImage", None),
        17: ("ValidationFailed", None),
        18: ("ValidationFailed", "empty"),
        19: ("ValidationFailed", None),
        20: ("ValidationFailed", None),
        21: ("ValidationFailed", None),
        23: ("BadKey", None),
        24: ("ValidationFailed", None),
        25: ("UrlRefused", None),
        26: ("ValidationFailed", "posted"),
        27: ("UrlRefused", "far"),
    }
    assert "'nope'" in errors[11]["detail"]
    assert "give one of image_id, url, key: got none" in errors[18]["detail"]
    assert errors[21]["detail"] == "a line of more than 65536 bytes"


def test_large_images_are_answered_as_small_ones_are(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [gateway.add(n) for n in range(4)]
    gateway.store.put("imports/cut.png", png(picture(21))[:-200])
    lines = lines_of(*({"image_id": image.id} for image in images), {"key": "imports/cut.png"})
    # As some editors begin a file.
    marked = b"\xef\xbb\xbf" + lines
    found = []
    for large in (8_000_000, 1):
        monkeypatch.setattr(batch_answers, "LARGE_PIXELS", large)
        made = create(client, marked)
        work(deps, worker, settings, made["job_id"])
        answers = output(client, made, "results")
        assert [a["image_id"] for a in answers] == [image.id for image in images]
        assert [e["error"] for e in output(client, made, "errors")] == ["CorruptImage"]
        found.append([(d["class_id"], d["score"]) for a in answers for d in a["detections"]])
    assert [c for c, _ in found[0]] == [c for c, _ in found[1]]
    assert [s for _, s in found[0]] == pytest.approx([s for _, s in found[1]], abs=1e-4)


def test_a_killed_batch_goes_on_and_answers_no_line_twice(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
) -> None:
    images = [gateway.add(n) for n in range(17)]
    made = create(client, lines_of(*({"image_id": image.id} for image in images)))
    mortal = replace(worker, answerer=Mortal(**vars(worker.answerer)))
    for n_answered in (5, 10):
        with pytest.raises(Killed):
            work(deps, mortal, settings, made["job_id"])
        eager_reaper(deps).reap()
        now = state(client, made)
        assert (now["state"], now["counts"]["answered"]) == ("queued", n_answered)
    work(deps, worker, settings, made["job_id"])
    assert state(client, made)["counts"] == {"total": 17, "answered": 17, "failed": 0}
    answers = output(client, made, "results")
    assert [a["line"] for a in answers] == list(range(1, 18))
    assert [a["image_id"] for a in answers] == [image.id for image in images]
    assert output(client, made, "errors") == []


def test_a_cancelled_batch_keeps_its_answers_and_is_resumed(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
) -> None:
    images = [gateway.add(n) for n in range(12)]
    made = create(client, lines_of(*({"image_id": image.id} for image in images)))
    url = f"/v1/batches/{made['id']}"
    with pytest.raises(Killed):
        work(
            deps,
            replace(worker, answerer=Mortal(**vars(worker.answerer))),
            settings,
            made["job_id"],
        )
    assert client.post(f"{url}/cancel").json()["state"] == "cancelling"
    eager_reaper(deps).reap()
    assert state(client, made)["state"] == "cancelled"
    assert [a["line"] for a in output(client, made, "results")][:5] == [1, 2, 3, 4, 5]
    again = client.post(f"{url}/cancel")
    assert (again.status_code, again.json()["error"]) == (409, "JobAlreadyFinished")
    assert client.post(f"{url}/resume").json()["state"] == "queued"
    work(deps, worker, settings, made["job_id"])
    done = state(client, made)
    assert (done["state"], done["counts"]["answered"]) == ("completed", 12)
    assert [a["line"] for a in output(client, made, "results")] == list(range(1, 13))
    again = client.post(f"{url}/resume")
    assert (again.status_code, again.json()["error"]) == (409, "JobNotStopped")


def test_a_gateway_that_refuses_us_is_no_fault_of_a_line(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = create(client, lines_of({"image_id": gateway.add(0).id}))
    refusals: list[AppError] = [Unauthorised("not you"), RateLimited("not now")]
    look_up = gateway.image

    def image(project: str, image_id: str) -> ImageView:
        if refusals:
            raise refusals.pop()
        return look_up(project, image_id)

    monkeypatch.setattr(gateway, "image", image)
    # The piece is tried again.
    work(deps, worker, settings, made["job_id"])
    assert refusals == []
    assert state(client, made)["counts"] == {"total": 1, "answered": 1, "failed": 0}


def test_what_is_not_answered_in_time_is_failed(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
) -> None:
    made = create(client, lines_of({"image_id": gateway.add(1).id}), expires_in_h=1e-9)
    work(deps, worker, settings, made["job_id"])
    done = state(client, made)
    assert (done["state"], done["counts"]) == ("expired", {"total": 1, "answered": 0, "failed": 1})
    [error] = output(client, made, "errors")
    assert error["error"] == "BatchExpired"


def test_a_batch_is_seen_by_a_version_and_the_calibration_it_has_then(
    client: TestClient,
    deps: Dependencies,
    worker: WorkerParts,
    settings: Settings,
    gateway: LocalGateway,
    registry: LocalRegistry,
) -> None:
    registry.add(2)
    registry.calibrate(2, score=0.999)
    lines = lines_of({"image_id": gateway.add(1).id})
    loose, strict = (create(client, lines, model_version=version) for version in (1, 2))
    for made in (loose, strict):
        work(deps, worker, settings, made["job_id"])
    [plain], [calibrated] = (output(client, made, "results") for made in (loose, strict))
    assert (plain["model_version"], plain["calibrated"]) == (1, False)
    assert (calibrated["model_version"], calibrated["calibrated"]) == (2, True)
    assert len(calibrated["detections"]) < len(plain["detections"])


@pytest.mark.parametrize(
    ("query", "body", "status", "error"),
    [
        ({}, b"", 422, "ValidationFailed"),
        ({}, b"\n\n", 422, "ValidationFailed"),
        ({"model_version": 7}, b"{}", 404, "UnknownModel"),
        ({"project": "nothing"}, b"{}", 404, "NotFound"),
        ({"expires_in_h": 0}, b"{}", 422, "ValidationFailed"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_and_leaves_nothing(
    client: TestClient,
    deps: Dependencies,
    query: dict[str, Any],
    body: bytes,
    status: int,
    error: str,
) -> None:
    answer = client.post("/v1/batches", params={"project": PROJECT, **query}, content=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert client.get("/v1/batches").json() == []
    assert list(deps.store.list("projects/")) == []


def test_without_a_production_model_a_batch_names_its_version(
    client: TestClient, registry: LocalRegistry
) -> None:
    registry.production = None
    answer = client.post("/v1/batches", params={"project": PROJECT}, content=b"{}")
    assert (answer.status_code, answer.json()["error"]) == (409, "NoProductionModel")
    assert create(client, b"{}", model_version=1)["model_version"] == 1


def test_batches_are_listed_and_an_unknown_one_is_404(client: TestClient) -> None:
    made = [create(client, b"{}", name=name) for name in ("a", "b")]
    listed = client.get("/v1/batches", params={"project": PROJECT}).json()
    assert [batch["id"] for batch in listed] == [batch["id"] for batch in reversed(made)]
    assert client.get("/v1/batches", params={"project": "nothing"}).status_code == 404
    for path in ("", "/results", "/errors"):
        answer = client.get(f"/v1/batches/nope{path}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "unknown batch: 'nope'")
    assert client.post("/v1/batches/nope/cancel").status_code == 404


def test_too_many_lines_are_refused(
    client: TestClient, deps: Dependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "MAX_LINES", 12)
    answer = client.post("/v1/batches", params={"project": PROJECT}, content=b"{}\n" * 13)
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
    assert list(deps.store.list("projects/")) == []
