import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    RuntimeInput,
    RuntimeOutput,
)
from inference_service.app.services import scoring
from inference_service.app.services.loaded import LoadedModel
from inference_service.app.services.scoring import SHARD_IMAGES, Scorer
from inference_service.app.services.stored import NotScored
from inference_service.app.wiring import Neighbours, WorkerParts, build_worker
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry, score
from inference_service.tests.tiny import picture, png
from shared.models.registry import ScoringCreate
from shared.objects.wiring import object_store
from shared.predictions import ScoredImage, read_shards, shard_prefix
from shared.settings import Settings

N_IMAGES = SHARD_IMAGES + 6
MEASURES = (
    "entropy",
    "margin",
    "certainty",
    "bald",
    "variance",
    "localisation",
    "inconsistency",
)


class Killed(Exception):
    pass


def silent(fraction: float, message: str) -> None:
    del fraction, message


def by_id(settings: Settings, version: int | None) -> dict[str, ScoredImage]:
    images = list(read_shards(object_store(settings), PROJECT, version))
    assert len({i.image_id for i in images}) == len(images)
    return {i.image_id: i for i in images}


class WatchedRuntime:
    """A runtime that notes how many images it was given at a time."""

    def __init__(self, runtime: DetectorRuntime) -> None:
        self.runtime = runtime
        self.classes = runtime.classes
        self.engine = runtime.engine
        self.batch = runtime.batch
        self.given: list[int] = []
        self.shapes: list[set[tuple[int, ...]]] = []

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        self.given.append(len(images))
        self.shapes.append({image.pixels.shape for image in images})
        return self.runtime.detect(images, options)


def with_model(worker: WorkerParts, runtime: DetectorRuntime) -> Scorer:
    """Return the worker's scorer, but every version is `runtime`."""
    models = worker.loaded.models
    return replace(
        worker.scorer, loaded=LoadedModel(models, lambda folder: runtime, lambda: runtime)
    )


def test_killed_scoring_goes_on_where_it_was_with_equal_numbers(
    settings: Settings, gateway: LocalGateway, registry: LocalRegistry, worker: WorkerParts
) -> None:
    for i in range(N_IMAGES):
        gateway.add(i, labelled=i % 7 == 0)
    n_pool = N_IMAGES - 10
    request = ScoringCreate(model_version=1, unlabelled_only=True)

    def killed_after_a_shard(fraction: float, message: str) -> None:
        if fraction > 0:
            raise Killed

    with pytest.raises(Killed):
        score(worker.scorer, request, killed_after_a_shard)
    n_before = len(by_id(settings, 1))
    assert 0 < n_before < n_pool
    result = score(worker.scorer, request)
    assert (result.n_known, result.n_scored) == (n_before, n_pool - n_before)
    resumed = by_id(settings, 1)

    fresh_settings = settings.model_copy(
        update={
            "object_store_url": f"file:{settings.state_dir}/other",
            "vector_store_url": f"lancedb:{settings.state_dir}/other-vectors",
        }
    )
    copy = LocalGateway(object_store(fresh_settings))
    for i in range(N_IMAGES):
        copy.add(i, labelled=i % 7 == 0)
    fresh = build_worker(fresh_settings, Neighbours(copy, registry))
    assert score(fresh.scorer, request).n_scored == n_pool
    for image_id, expected in by_id(fresh_settings, 1).items():
        for name in ("xyxy", "class_probabilities", *MEASURES, "embedding"):
            np.testing.assert_array_equal(
                getattr(resumed[image_id], name), getattr(expected, name), err_msg=name
            )


def test_part_killed_in_the_middle_leaves_its_written_shards_as_they_are(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    for i in range(N_IMAGES):
        gateway.add(i)
    (part,) = worker.scorer.plan(PROJECT, ScoringCreate(model_version=1))
    assert [len(ids) for ids in part.shards] == [SHARD_IMAGES, 6]

    def killed(fraction: float, message: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        worker.scorer.score_part(PROJECT, part, killed)
    store = object_store(settings)
    (written,) = store.list(shard_prefix(PROJECT, 1))
    watched = WatchedRuntime(worker.loaded.get(PROJECT, 1))
    scorer = with_model(worker, watched)
    assert scorer.score_part(PROJECT, part, silent).n_scored == N_IMAGES
    assert watched.given == [6]
    assert written in list(store.list(shard_prefix(PROJECT, 1)))
    assert sorted(by_id(settings, 1)) == sorted(gateway.images)


def test_a_shard_is_decoded_and_scored_eight_images_at_a_time(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    for i in range(N_IMAGES):
        gateway.add(i)
    watched = WatchedRuntime(worker.loaded.get(PROJECT, 1))
    score(with_model(worker, watched), ScoringCreate(model_version=1, n_passes=2))
    assert watched.given == [8, 8, 8, 8, 8, 8, 8, 8, 6]
    assert sorted(by_id(settings, 1)) == sorted(gateway.images)
    assert len(list(object_store(settings).list(f"projects/{PROJECT}/predictions/v1/"))) == 2


def test_of_large_images_fewer_are_in_memory(
    gateway: LocalGateway, worker: WorkerParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(10):
        gateway.add(i)
    monkeypatch.setattr(scoring, "CHUNK_PIXELS", 3 * 80 * 60)
    watched = WatchedRuntime(worker.loaded.get(PROJECT, 1))
    score(with_model(worker, watched), ScoringCreate(model_version=1, n_passes=2))
    assert watched.given == [3, 3, 3, 1]


def test_photos_of_like_shape_are_looked_at_together(
    gateway: LocalGateway, worker: WorkerParts
) -> None:
    for i in range(16):
        image = gateway.add(i)
        if i % 2:
            gateway.store.put(image.key, png(picture(i, width=60, height=80)))
            gateway.images[image.id] = image.model_copy(update={"width": 60, "height": 80})
    watched = WatchedRuntime(worker.loaded.get(PROJECT, 1))
    scorer = with_model(worker, watched)
    score(scorer, ScoringCreate(model_version=1, n_passes=2))
    assert watched.shapes == [{(80, 60, 3)}, {(60, 80, 3)}]


def test_every_split_is_scored_and_indexed_once(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    gateway.add(1, "val")
    gateway.add(2, "gate", labelled=True)
    gateway.add(3, "train")
    request = ScoringCreate(model_version=1, splits=("val", "gate"), n_passes=4)
    result = score(worker.scorer, request)
    assert (result.n_scored, result.n_known) == (2, 0)
    assert {i.split for i in by_id(settings, 1).values()} == {"val", "gate"}
    again = score(worker.scorer, request)
    assert (again.n_scored, again.n_known) == (0, 2)
    assert worker.index.vectors.count("shapes-v1") == 2
    for image in by_id(settings, 1).values():
        n = len(image.xyxy)
        assert 0 < n <= 100
        assert image.class_scores.shape == (n, 3)
        assert image.class_probabilities.shape == (n, 4, 4)
        assert {getattr(image, name).shape for name in MEASURES} == {(n,)}
        assert 0 < image.localisation.max() <= 1
        assert np.isnan(image.inconsistency).all()


def test_asked_for_consistency_images_scored_without_it_are_scored_again(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    for i in range(3):
        gateway.add(i)
    plain, asked = (ScoringCreate(model_version=1, consistency=c) for c in (False, True))
    score(worker.scorer, plain)
    before = by_id(settings, 1)
    result = score(worker.scorer, asked)
    assert (result.n_scored, result.n_known) == (3, 0)
    after = by_id(settings, 1)
    for image_id, image in after.items():
        assert ((image.inconsistency >= 0) & (image.inconsistency <= 1)).all()
        assert image.inconsistency.std() > 0
        np.testing.assert_array_equal(image.bald, before[image_id].bald)
    for request in (asked, plain):
        again = score(worker.scorer, request)
        assert (again.n_scored, again.n_known) == (0, 3)


def test_image_scored_again_among_others_stays_in_one_shard_and_is_found(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    images = [gateway.add(i) for i in range(5)]
    score(worker.scorer, ScoringCreate(model_version=1))
    assert np.isnan(worker.stored.find(PROJECT, 1, images[4].id).inconsistency).all()
    gateway.add(0, labelled=True)
    gateway.add(5)
    request = ScoringCreate(model_version=1, consistency=True, unlabelled_only=True)
    assert score(worker.scorer, request).n_scored == 5
    found = by_id(settings, 1)
    assert sorted(found) == sorted(gateway.images)
    known = {i: not np.isnan(image.inconsistency).any() for i, image in found.items()}
    assert known == {i: i != images[0].id for i in gateway.images}
    assert not np.isnan(worker.stored.find(PROJECT, 1, images[4].id).inconsistency).any()


def test_base_model_is_not_asked_for_consistency(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    gateway.add(1)
    watched = WatchedRuntime(worker.loaded.get(PROJECT, None))
    scorer = with_model(worker, watched)
    score(scorer, ScoringCreate(consistency=True))
    assert watched.given == [1]
    assert score(scorer, ScoringCreate(consistency=True)).n_known == 1


def test_shard_of_an_older_schema_is_written_again_under_its_key(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    image = gateway.add(1)
    request = ScoringCreate(model_version=1)
    score(worker.scorer, request)
    store = object_store(settings)
    (key,) = store.list(shard_prefix(PROJECT, 1))
    table = pq.read_table(io.BytesIO(store.get(key))).drop_columns(["localisation"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.put(key, buffer.getvalue())
    with pytest.raises(NotScored):
        worker.stored.find(PROJECT, 1, image.id)
    assert score(worker.scorer, request).n_scored == 1
    assert list(store.list(shard_prefix(PROJECT, 1))) == [key]
    assert worker.stored.find(PROJECT, 1, image.id).localisation.max() > 0


def test_base_model_gives_embeddings_and_no_boxes(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    gateway.add(1)
    assert score(worker.scorer, ScoringCreate()).n_scored == 1
    image = next(iter(by_id(settings, None).values()))
    assert image.xyxy.shape == (0, 4)
    assert image.embedding.shape == (256,)
    assert worker.index.vectors.count("shapes-v0") == 1


def test_index_is_rebuilt_from_the_shards(
    settings: Settings, gateway: LocalGateway, worker: WorkerParts
) -> None:
    for i in range(3):
        gateway.add(i)
    score(worker.scorer, ScoringCreate(model_version=1))
    before = next(worker.index.vectors.scan("shapes-v1"))
    worker.index.vectors.drop("shapes-v1")
    result = worker.index.rebuild(PROJECT, worker.stored, silent)
    assert (result.n_versions, result.n_vectors) == (1, 3)
    after = next(worker.index.vectors.scan("shapes-v1"))
    assert [r.id for r in after] == [r.id for r in before]
    assert [r.metadata for r in after] == [{"split": "train"}] * 3
