import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from labeling_service.app.core.strategies.build import build
from labeling_service.app.core.strategies.needs import Needs
from labeling_service.app.core.strategies.pool import Acquisition
from labeling_service.app.services.scored_pool import (
    detections,
    read_detections,
    read_pool,
    unread,
)
from labeling_service.tests.core.strategies.support import CLASSES, box, image, with_nan
from shared.models.strategies import parse_strategy
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, write_shard

EMBEDDED = Needs(embeddings=True)


@pytest.fixture
def acquisition() -> Acquisition:
    return build(parse_strategy("entropy"), CLASSES)


def test_the_pool_lies_in_the_order_of_the_ids_whatever_the_order_of_the_shards(
    acquisition: Acquisition,
) -> None:
    images = [
        image("b", box(0.5, entropy=0.25), box(0.25), box(0.24), at=(2.0, 3.0)),
        image("other", at=(9.0, 9.0)),
        image("a", box(0.1, entropy=0.75), at=(1.0, 2.0)),
    ]
    found = read_pool(images, {"b": "g", "a": None}, acquisition, EMBEDDED)
    assert (found.pool.ids, found.pool.groups) == (["a", "b"], [None, "g"])
    assert found.pool.embeddings.tolist() == [[1.0, 2.0], [2.0, 3.0]]
    assert found.pool.summaries[:, 0].tolist() == [0.75, 0.25]
    assert found.pool.expected_boxes.tolist() == [0, 2]
    assert found.pool.labelled.shape == (0, 2)
    assert (found.n_unscored, found.unusable) == (0, ())


def test_all_others_are_labelled_if_asked_for(acquisition: Acquisition) -> None:
    images = [image("z", at=[3.0]), image("a", at=[1.0]), image("m", at=[2.0])]
    broken = with_nan(image("y", at=[4.0]), "embedding")
    found = read_pool(
        [*images, broken], {"a": None}, acquisition, Needs(labelled=True, embeddings=True)
    )
    assert found.pool.labelled.tolist() == [[2.0], [3.0]]


def test_of_an_image_scored_twice_the_last_counts(acquisition: Acquisition) -> None:
    images = [with_nan(image("a", box()), "embedding"), image("a", box(entropy=0.5))]
    found = read_pool(images, {"a": None}, acquisition, EMBEDDED)
    assert found.pool.summaries[0, 0] == 0.5
    assert found.unusable == ()


def test_images_that_were_not_scored_or_cannot_be_used_are_counted(
    acquisition: Acquisition,
) -> None:
    images = [image("a", at=[1.0]), with_nan(image("b", at=[2.0]), "embedding")]
    groups = dict.fromkeys(["a", "b", "c", "d"])
    found = read_pool(images, groups, acquisition, EMBEDDED)
    assert (found.pool.ids, found.n_unscored, found.unusable) == (["a"], 2, ("b",))


def test_embeddings_of_different_lengths_are_an_error_that_names_the_image(
    acquisition: Acquisition,
) -> None:
    images = [image("a", at=[1.0]), image("b", at=[1.0, 2.0])]
    with pytest.raises(ValueError, match=r"embedding of image b has shape \(2,\)"):
        read_pool(images, {"a": None, "b": None}, acquisition, EMBEDDED)


def test_memory_does_not_grow_with_the_boxes(acquisition: Acquisition) -> None:
    n_images, n_boxes = 200, 300
    mean = np.full((n_boxes, 4, 10), 0.25, np.float16)

    def stream() -> Iterator[ScoredImage]:
        for n in range(n_images):
            crowded = image(f"{n:03}", *[box(entropy=0.5)] * n_boxes, at=[float(n)])
            yield replace(crowded, class_probabilities=mean.copy())

    one = next(stream())
    of_one = sum(v.nbytes for v in vars(one).values() if isinstance(v, np.ndarray))
    groups = dict.fromkeys(f"{n:03}" for n in range(n_images))
    tracemalloc.start()
    found = read_pool(stream(), groups, acquisition, EMBEDDED)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.pool) == n_images
    # All together are 200 times one; making one image takes a few times its size.
    assert peak < 20 * of_one


def test_of_a_pool_without_room_a_sample_stays_even_over_what_is_expected(
    acquisition: Acquisition,
) -> None:
    owls = [image(f"owl{n}", box(0.9, 2), at=(2.0, n)) for n in range(3)]
    cows = [image(f"cow{n:02}", box(0.9, 0), at=(0.0, n)) for n in range(30)]
    empty = [image(f"x{n:02}", at=(1.0, n)) for n in range(50)]
    broken = with_nan(image("owl3", box(0.9, 2)), "embedding")
    images = [*empty, *owls, *cows, broken]
    groups = {i.image_id: f"g-{i.image_id}" for i in images} | {"later": None}
    found = read_pool(images, groups, acquisition, EMBEDDED, room=14, seed=3)
    ids = found.pool.ids
    assert [sum(i.startswith(name) for i in ids) for name in ("cow", "owl", "x")] == [5, 3, 5]
    assert (found.n_unscored, found.unusable, found.n_unsampled) == (1, ("owl3",), 70)
    # Rows belong to their images.
    assert ids == sorted(ids)
    assert found.pool.groups == [f"g-{i}" for i in ids]
    assert [at[1] for at in found.pool.embeddings.tolist()] == [float(i[3:] or i[1:]) for i in ids]
    again = read_pool(images, groups, acquisition, EMBEDDED, room=14, seed=3)
    assert again.pool.ids == ids
    other = read_pool(images, groups, acquisition, EMBEDDED, room=14, seed=4)
    assert other.pool.ids != ids


def test_without_embeddings_there_is_room_for_all(acquisition: Acquisition) -> None:
    images = [image(f"{n:02}", box(entropy=0.5), at=(1.0, n)) for n in range(30)]
    groups = dict.fromkeys(i.image_id for i in images)
    found = read_pool(images, groups, acquisition, Needs(), room=5)
    assert (len(found.pool), found.n_unsampled) == (30, 0)
    assert found.pool.embeddings.shape == (30, 0)
    assert found.pool.summaries[:, 0].tolist() == [0.5] * 30


def test_a_pool_that_nobody_looks_at_is_known_by_id_and_group() -> None:
    pool = unread({"b": "g", "a": None}).pool
    assert (pool.ids, pool.groups, len(pool)) == (["a", "b"], [None, "g"], 2)


def test_boxes_to_start_from_come_from_the_shards_that_hold_the_images(store: ObjectStore) -> None:
    images = [image(f"{n}", box(0.5), box(0.9), box(0.2)) for n in range(4)]
    write_shard(store, "projects/p/predictions/v3/train-0.parquet", images[:2])
    write_shard(store, "projects/p/predictions/v3/train-1.parquet", images[2:])
    found = read_detections(store, "p", 3, ["1", "3", "unknown"])
    assert set(found) == {"1", "3"}
    assert [round(d.score, 3) for d in found["1"]] == [0.9, 0.5]


def test_a_box_without_a_place_is_not_drawn() -> None:
    scored = image("a", box(0.5), box(0.9))
    xyxy = scored.xyxy.copy()
    xyxy[1, 0] = np.nan
    [drawn] = detections(replace(scored, xyxy=xyxy, bald=np.full(2, np.nan, np.float32)))
    assert (drawn.score, drawn.uncertainty) == (0.5, None)
