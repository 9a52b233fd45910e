from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from inference_service.app.wiring import Dependencies, WorkerParts
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry, score
from inference_service.tests.tiny import picture, png
from shared.errors import Conflict
from shared.models.data import ImageView
from shared.models.registry import ScoringCreate
from shared.models.search import MapCreate
from shared.predictions import shard_prefix

URL = f"/v1/projects/{PROJECT}"


@pytest.fixture
def images(gateway: LocalGateway, worker: WorkerParts) -> list[ImageView]:
    """Return eight images that version 1 scored."""
    images = [gateway.add(i) for i in range(8)]
    score(worker.scorer, ScoringCreate(model_version=1))
    return images


def test_images_like_a_stored_one_come_nearest_first_without_itself(
    client: TestClient, worker: WorkerParts, images: list[ImageView]
) -> None:
    found = client.get(f"{URL}/similar-images/{images[2].id}?k=3").json()
    assert (found["model_version"], found["n_searched"]) == (1, 8)
    vectors = {i.id: worker.stored.find(PROJECT, 1, i.id).embedding for i in images}
    unit = {i: v / np.linalg.norm(v) for i, v in vectors.items()}
    distance = {i: 1 - float(unit[i] @ unit[images[2].id]) for i in unit if i != images[2].id}
    nearest = sorted(distance, key=lambda i: distance[i])[:3]
    assert [n["image_id"] for n in found["images"]] == nearest
    assert [n["distance"] for n in found["images"]] == pytest.approx(
        [distance[i] for i in nearest], abs=1e-4
    )


def test_image_that_is_sent_finds_itself_where_it_is_stored(
    client: TestClient, images: list[ImageView]
) -> None:
    sent = {"file": ("a.png", png(picture(5)))}
    found = client.post(f"{URL}/similar-images?k=2", files=sent).json()
    assert found["images"][0]["image_id"] == images[5].id
    assert found["images"][0]["distance"] == pytest.approx(0, abs=1e-4)
    by_id = client.post(f"{URL}/similar-images?k=2", json={"image_id": images[5].id}).json()
    assert by_id == found


def test_objects_like_a_predicted_box_and_like_its_region_are_the_same(
    client: TestClient, worker: WorkerParts, images: list[ImageView]
) -> None:
    stored = worker.stored.find(PROJECT, 1, images[3].id)
    assert 1 < len(stored.box_embeddings) <= 32
    assert stored.scores[len(stored.box_embeddings) - 1] >= 0.1
    box = 1
    found = client.get(f"{URL}/similar-objects/{images[3].id}?box={box}&k=5").json()
    assert len(found["objects"]) == 5
    assert (images[3].id, box) not in [(o["image_id"], o["box"]) for o in found["objects"]]
    best = found["objects"][0]
    there = worker.stored.find(PROJECT, 1, best["image_id"])
    assert best["xyxy"] == pytest.approx(there.xyxy[best["box"]].tolist())
    assert best["class_id"] == there.class_ids[best["box"]]
    assert best["score"] == pytest.approx(float(there.scores[best["box"]]))
    region = ",".join(str(v) for v in stored.xyxy[box].tolist())
    sent = {"file": ("a.png", png(picture(3)))}
    again = client.post(f"{URL}/similar-objects?xyxy={region}&k=6", files=sent).json()["objects"]
    itself, others = again[0], again[1:]
    assert (itself["image_id"], itself["box"]) == (images[3].id, box)
    assert itself["distance"] == pytest.approx(0, abs=1e-3)
    assert {(o["image_id"], o["box"]) for o in others[:3]} <= {
        (o["image_id"], o["box"]) for o in found["objects"]
    }


def test_newest_version_that_scored_the_image_is_asked(
    client: TestClient, registry: LocalRegistry, worker: WorkerParts, images: list[ImageView]
) -> None:
    registry.add(2)
    held_out = ScoringCreate(model_version=2, splits=("val",))
    score(worker.scorer, held_out)
    assert client.get(f"{URL}/similar-images/{images[0].id}").json()["model_version"] == 1
    score(worker.scorer, ScoringCreate(model_version=2))
    assert client.get(f"{URL}/similar-images/{images[0].id}").json()["model_version"] == 2
    asked = client.get(f"{URL}/similar-images/{images[0].id}?model_version=1").json()
    assert asked["model_version"] == 1


@pytest.mark.parametrize(
    ("region", "status"), [("0,0,1", 422), ("0.5,0,0.5,1", 422), ("a,b,c,d", 422), ("0,0,2,2", 422)]
)
def test_bad_region_is_refused_with_its_value(
    client: TestClient, images: list[ImageView], region: str, status: int
) -> None:
    answer = client.post(f"{URL}/similar-objects?xyxy={region}", json={"image_id": images[0].id})
    assert answer.status_code == status
    assert repr(region) in answer.json()["detail"]


def test_what_is_not_there_is_named(client: TestClient, images: list[ImageView]) -> None:
    answer = client.get(f"{URL}/similar-objects/{images[0].id}?box=99")
    assert (answer.status_code, answer.json()["error"]) == (404, "UnknownBox")
    answer = client.get(f"{URL}/similar-images/{'f' * 64}")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"unknown image: {'f' * 64!r}")
    answer = client.get(f"{URL}/maps/newest")
    assert (answer.status_code, answer.json()["error"]) == (404, "NoMap")


@pytest.mark.parametrize("version", ["", "&model_version=1"])
def test_an_image_that_is_there_and_was_not_scored_is_told_from_one_that_is_not(
    client: TestClient, gateway: LocalGateway, images: list[ImageView], version: str
) -> None:
    later = gateway.add(8)
    for path in ("similar-images/{}?k=1", "similar-objects/{}?box=0"):
        answer = client.get(f"{URL}/{path.format(later.id)}{version}")
        assert (answer.status_code, answer.json()["error"]) == (404, "NotScored")
        answer = client.get(f"{URL}/{path.format('nope')}{version}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "unknown image: 'nope'")


@pytest.mark.parametrize(
    "path", ["maps/newest", f"similar-images/{'f' * 64}", f"similar-objects/{'f' * 64}?box=0"]
)
def test_an_unknown_project_is_named(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/projects/nope/{path}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "unknown project: 'nope'")


def test_search_before_any_scoring_says_what_to_do(client: TestClient) -> None:
    sent = {"file": ("a.png", png(picture(5)))}
    answer = client.post(f"{URL}/similar-images", files=sent)
    assert (answer.status_code, answer.json()["error"]) == (409, "NothingIndexed")
    assert "fovea score" in answer.json()["detail"]


def test_rebuilt_index_finds_the_same(
    client: TestClient, worker: WorkerParts, images: list[ImageView]
) -> None:
    url = f"{URL}/similar-objects/{images[3].id}?box=0&k=5"
    before = client.get(url).json()
    for name in ("shapes-v1", "shapes-v1-boxes"):
        worker.index.vectors.drop(name)
    assert client.get(url).status_code == 409
    worker.index.rebuild(PROJECT, worker.stored, lambda fraction, message: None)
    assert client.get(url).json() == before


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_map_has_every_scored_image_and_is_the_same_again(
    client: TestClient, worker: WorkerParts, images: list[ImageView], method: str
) -> None:
    said: list[str] = []
    request = MapCreate.model_validate({"method": method})
    result = worker.maps.make(PROJECT, request, lambda fraction, message: said.append(message))
    assert (result.model_version, result.n_images, result.n_shown) == (1, 8, 8)
    found = client.get(f"{URL}/maps/newest").json()
    assert found["method"] == method
    assert {p["image_id"] for p in found["points"]} == {i.id for i in images}
    places = np.array([(p["x"], p["y"]) for p in found["points"]])
    assert np.isfinite(places).all()
    assert places.std(axis=0).max() == pytest.approx(1, abs=1e-3)
    assert all(p["uncertainty"] > 0 for p in found["points"])
    assert said[-1] == "laying 8 images out"
    worker.maps.make(PROJECT, request, lambda fraction, message: None)
    assert client.get(f"{URL}/maps/newest").json()["points"] == found["points"]


def test_map_of_too_few_images_is_refused(worker: WorkerParts, gateway: LocalGateway) -> None:
    said = (
        "no model has looked at images of project 'shapes' yet, and a map needs 3: "
        "`fovea score`, or `fovea round start` as long as there is no model$"
    )
    with pytest.raises(Conflict, match=said):
        worker.maps.make(PROJECT, MapCreate(), lambda fraction, message: None)
    gateway.add(0)
    score(worker.scorer, ScoringCreate(model_version=1))
    said = "model v1 has looked at 1 images .*, and a map needs 3: `fovea score --model 1`$"
    with pytest.raises(Conflict, match=said):
        worker.maps.make(PROJECT, MapCreate(), lambda fraction, message: None)


@pytest.mark.parametrize(
    ("asked", "status", "error"),
    [
        ({}, 409, "NothingScored"),
        ({"model_version": 0}, 409, "NothingScored"),
        ({"model_version": 1}, 409, "NothingScored"),
        ({"model_version": 99}, 404, "UnknownModel"),
    ],
)
def test_a_map_that_cannot_be_made_is_refused_before_its_job(
    client: TestClient, deps: Dependencies, asked: dict[str, int], status: int, error: str
) -> None:
    answer = client.post(f"{URL}/maps", json=asked)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert deps.jobs.list() == []


def test_shards_of_an_older_schema_are_neither_searched_nor_mapped(
    worker: WorkerParts, images: list[ImageView]
) -> None:
    older = f"{shard_prefix(PROJECT, 2)}train-0123456789abcdef.parquet"
    buffer = BytesIO()
    pq.write_table(pa.table({"image_id": [image.id for image in images] * 2}), buffer)
    worker.stored.store.put(older, buffer.getvalue())
    assert worker.stored.version_of(PROJECT, images[0].id) == 1
    made = worker.maps.make(PROJECT, MapCreate(method="pca"), lambda fraction, message: None)
    assert (made.model_version, made.n_images) == (1, len(images))


@pytest.mark.parametrize("asked", [{"method": "pca"}, {"model_version": 1}])
def test_asking_for_a_map_is_a_job(
    client: TestClient, images: list[ImageView], asked: dict[str, str | int]
) -> None:
    answer = client.post(f"{URL}/maps", json=asked)
    assert (answer.status_code, answer.json()["kind"]) == (202, "inference.map")
