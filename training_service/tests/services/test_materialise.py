import os
from pathlib import Path

import pytest
import yaml

from shared.models.data import DatasetManifest, Split
from shared.objects.directory import DirectoryStore
from shared.objects.port import ObjectNotFound
from training_service.app.services.materialise import NoLabelledImages, materialise
from training_service.tests.data import tiny_manifest


def test_the_folder_is_what_ultralytics_reads(
    manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path
) -> None:
    data_yaml = materialise(manifest, store, tmp_path / "datasets")
    assert data_yaml.parent.name == manifest.content_hash()
    assert yaml.safe_load(data_yaml.read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "names": {0: "square", 1: "disc"},
    }
    labels = data_yaml.parent / "labels" / "val" / f"{manifest.items[6].image_id}.txt"
    assert labels.read_text() == (
        "0 0.375000 0.250000 0.250000 0.250000\n1 0.750000 0.750000 0.312500 0.312500\n"
    )


def test_images_of_a_local_store_are_hard_links(
    manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path
) -> None:
    folder = materialise(manifest, store, tmp_path / "datasets").parent
    item = manifest.items[0]
    image = folder / "images" / "train" / f"{item.image_id}.png"
    assert image.samefile(store.root / item.key)


def test_images_of_a_remote_store_are_downloaded(
    manifest: DatasetManifest,
    store: DirectoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "local_path", lambda key: None)
    folder = materialise(manifest, store, tmp_path / "datasets").parent
    item = manifest.items[0]
    image = folder / "images" / "train" / f"{item.image_id}.png"
    assert image.read_bytes() == store.get(item.key)
    assert image.stat().st_nlink == 1


def test_the_same_content_is_made_once(
    manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path
) -> None:
    first = materialise(manifest, store, tmp_path / "datasets")
    made_at = first.stat().st_mtime_ns
    again = materialise(manifest, store, tmp_path / "datasets")
    assert again == first
    assert again.stat().st_mtime_ns == made_at


def test_what_a_killed_run_left_is_removed(
    manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path
) -> None:
    left = tmp_path / "datasets" / "1234.part"
    (left / "images").mkdir(parents=True)
    materialise(manifest, store, tmp_path / "datasets")
    assert not left.exists()


def test_only_the_four_used_last_are_kept(store: DirectoryStore, tmp_path: Path) -> None:
    splits: tuple[Split, ...] = ("train",) * 5
    manifests = [tiny_manifest(store, splits[:n]) for n in range(1, 6)]
    for age, manifest in enumerate(manifests):
        folder = materialise(manifest, store, tmp_path / "datasets").parent
        os.utime(folder, (age, age))
    kept = {path.name for path in (tmp_path / "datasets").iterdir()}
    assert kept == {manifest.content_hash() for manifest in manifests[1:]}


def test_without_val_images_train_stands_in(store: DirectoryStore, tmp_path: Path) -> None:
    data_yaml = materialise(tiny_manifest(store, ("train",)), store, tmp_path / "datasets")
    assert yaml.safe_load(data_yaml.read_text())["val"] == "images/train"


def test_without_train_images_there_is_nothing_to_learn(
    store: DirectoryStore, tmp_path: Path
) -> None:
    with pytest.raises(NoLabelledImages, match=r"no labelled train images .* 'tiny'"):
        materialise(tiny_manifest(store, ("val",)), store, tmp_path / "datasets")


def test_an_image_that_the_store_lost_is_named(
    manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path
) -> None:
    store.delete(manifest.items[0].key)
    with pytest.raises(ObjectNotFound, match=manifest.items[0].image_id):
        materialise(manifest, store, tmp_path / "datasets")
