import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from shared.models.data import Split
from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.predictions import (
    SCHEMA,
    ScoredImage,
    read_shard,
    read_shards,
    scored_keys,
    shard_prefix,
    write_shard,
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path, SignedAddresses("http://a", "http://b", SecretStr("s" * 32)))


def _image(image_id: str, n: int, split: Split = "train", n_classes: int = 3) -> ScoredImage:
    rng = np.random.default_rng(n)
    return ScoredImage(
        image_id=image_id,
        split=split,
        xyxy=rng.random((n, 4), np.float32),
        class_scores=rng.random((n, n_classes), np.float32),
        class_probabilities=rng.random((n, n_classes + 1, 5)).astype(np.float16),
        entropy=rng.random(n, np.float32),
        margin=rng.random(n, np.float32),
        certainty=rng.random(n, np.float32),
        bald=rng.random(n, np.float32),
        variance=rng.random(n, np.float32),
        localisation=rng.random(n, np.float32),
        inconsistency=rng.random(n, np.float32),
        embedding=rng.random(16, np.float32),
        brightness=0.5,
        contrast=0.25,
        sharpness=123.5,
    )


def _assert_same(found: ScoredImage, expected: ScoredImage) -> None:
    for name in SCHEMA.names:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if not isinstance(theirs, np.ndarray):
            assert ours == theirs, name
        elif len(theirs):
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        else:
            assert (len(ours), ours.dtype, ours.ndim) == (0, theirs.dtype, theirs.ndim), name


def test_an_empty_shard_has_no_images(store: DirectoryStore) -> None:
    write_shard(store, "a.parquet", [])
    assert list(read_shard(store, "a.parquet")) == []


@pytest.mark.parametrize(
    "counts", [[0], [0, 0], [1], [3, 0, 2], [0, 5, 0, 1, 0], [300, 1]], ids=str
)
def test_what_was_written_is_read_with_its_shapes(store: DirectoryStore, counts: list[int]) -> None:
    images = [_image(f"{n}", count) for n, count in enumerate(counts)]
    write_shard(store, "a.parquet", images)
    found = list(read_shard(store, "a.parquet"))
    assert len(found) == len(counts)
    for ours, theirs in zip(found, images, strict=True):
        _assert_same(ours, theirs)


def test_an_image_without_boxes_has_empty_arrays(store: DirectoryStore) -> None:
    write_shard(store, "a.parquet", [_image("a", 0)])
    (found,) = read_shard(store, "a.parquet")
    assert found.xyxy.shape == (0, 4)
    assert found.class_probabilities.shape == (0, 0, 0)
    assert found.scores.shape == (0,)
    assert found.class_ids.shape == (0,)
    assert found.embedding.shape == (16,)


def test_best_score_and_class_are_those_of_each_box(store: DirectoryStore) -> None:
    write_shard(store, "a.parquet", [_image("a", 4)])
    (found,) = read_shard(store, "a.parquet")
    assert found.scores.tolist() == [max(row) for row in found.class_scores.tolist()]
    expected = [row.index(max(row)) for row in found.class_scores.tolist()]
    assert found.class_ids.tolist() == expected


def test_an_image_may_be_changed_without_changing_the_next(store: DirectoryStore) -> None:
    write_shard(store, "a.parquet", [_image("a", 2), _image("b", 2)])
    first, second = read_shard(store, "a.parquet")
    first.embedding[:] = 0
    assert second.embedding.any()


def test_shards_are_read_by_version_and_split_in_the_order_of_their_keys(
    store: DirectoryStore,
) -> None:
    prefix = shard_prefix("digits", 3)
    assert prefix == "projects/digits/predictions/v3/"
    write_shard(store, f"{prefix}val-b.parquet", [_image("v", 1, "val")])
    write_shard(store, f"{prefix}train-b.parquet", [_image("z", 1)])
    write_shard(store, f"{prefix}train-a.parquet", [_image("y", 0), _image("x", 2)])
    write_shard(store, f"{shard_prefix('digits', 30)}train-a.parquet", [_image("other", 1)])
    assert [i.image_id for i in read_shards(store, "digits", 3)] == ["y", "x", "z", "v"]
    assert [i.image_id for i in read_shards(store, "digits", 3, ("val",))] == ["v"]
    assert list(read_shards(store, "digits", 4)) == []
    assert scored_keys(store, "digits", 3) == {
        "v": f"{prefix}val-b.parquet",
        "x": f"{prefix}train-a.parquet",
        "y": f"{prefix}train-a.parquet",
        "z": f"{prefix}train-b.parquet",
    }
    assert scored_keys(store, "digits", 4) == {}


def test_the_base_model_is_version_nought(store: DirectoryStore) -> None:
    assert shard_prefix("digits", None) == "projects/digits/predictions/v0/"
    write_shard(store, f"{shard_prefix('digits', None)}train-0.parquet", [_image("a", 1)])
    assert [i.image_id for i in read_shards(store, "digits", None)] == ["a"]


def test_the_same_key_replaces_a_shard_whole(store: DirectoryStore) -> None:
    key = f"{shard_prefix('digits', 1)}train-0.parquet"
    write_shard(store, key, [_image("a", 1), _image("b", 1)])
    write_shard(store, key, [_image("c", 1)])
    assert scored_keys(store, "digits", 1) == {"c": key}


def test_a_shard_of_an_older_schema_counts_as_not_there(store: DirectoryStore) -> None:
    prefix = shard_prefix("digits", 1)
    old, new = f"{prefix}train-a.parquet", f"{prefix}train-b.parquet"
    write_shard(store, old, [_image("a", 2)])
    write_shard(store, new, [_image("b", 2)])
    table = pq.read_table(io.BytesIO(store.get(old))).drop_columns(["variance", "inconsistency"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.put(old, buffer.getvalue())
    assert list(read_shard(store, old)) == []
    assert [i.image_id for i in read_shards(store, "digits", 1)] == ["b"]
    assert scored_keys(store, "digits", 1) == {"b": new}
    write_shard(store, old, [_image("a", 2)])
    assert [i.image_id for i in read_shards(store, "digits", 1)] == ["a", "b"]


def test_an_image_whose_inconsistency_is_not_known_was_not_scored_with_consistency(
    store: DirectoryStore,
) -> None:
    key = f"{shard_prefix('digits', 1)}train-a.parquet"
    unknown = replace(_image("a", 2), inconsistency=np.full(2, np.nan, np.float32))
    write_shard(store, key, [unknown, _image("b", 3), _image("boxless", 0)])
    assert scored_keys(store, "digits", 1) == {"a": key, "b": key, "boxless": key}
    assert scored_keys(store, "digits", 1, consistency=True) == {"b": key, "boxless": key}
    assert np.isnan(next(read_shard(store, key)).inconsistency).all()
