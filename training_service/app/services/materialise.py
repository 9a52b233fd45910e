"""A dataset version as the folder Ultralytics wants; the one place that makes it."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import yaml

from shared.errors import BadRequest
from shared.models.data import SPLITS, DatasetManifest, ManifestItem, Split
from shared.objects.port import ObjectStore

DATA_YAML = "data.yaml"
KEPT = 4


class NoLabelledImages(BadRequest):
    """The dataset version has nothing to learn from, or to measure on."""


def materialise(manifest: DatasetManifest, store: ObjectStore, folder: Path) -> Path:
    """Return the `data.yaml` of the dataset version, made below `folder` unless it is there.

    Images are hard links where the store is a local directory, downloads elsewhere. The folder is
    named after the content hash and appears at once, so a killed run leaves no half of one. Only
    the few used last are kept.

    Raises:
        NoLabelledImages: the version has no labelled train images.
        ObjectNotFound: the store lost an image.
    """
    if not any(item.split == "train" for item in manifest.items):
        msg = f"no labelled train images in the dataset version of project {manifest.project!r}"
        raise NoLabelledImages(msg)
    target = folder / manifest.content_hash()
    if not target.exists():
        _remove(folder.glob("*.part"))
        part = folder / f"{uuid.uuid4().hex}.part"
        _write(manifest, store, part)
        _move(part, target)
    os.utime(target)
    finished = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    _remove(finished[:-KEPT])
    return target / DATA_YAML


def labelled_splits(manifest: DatasetManifest) -> frozenset[Split]:
    """Return the splits that have labelled images."""
    return frozenset(item.split for item in manifest.items)


def _write(manifest: DatasetManifest, store: ObjectStore, folder: Path) -> None:
    for item in manifest.items:
        images, labels = folder / "images" / item.split, folder / "labels" / item.split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        _put_image(item, store, images / f"{item.image_id}{PurePosixPath(item.key).suffix}")
        (labels / f"{item.image_id}.txt").write_text(_label_lines(item))
    present = labelled_splits(manifest)
    content: dict[str, object] = {s: f"images/{s}" for s in SPLITS if s in present}
    # Ultralytics asks for a val split even when it is never looked at.
    content.setdefault("val", "images/train")
    content["names"] = dict(enumerate(manifest.classes))
    (folder / DATA_YAML).write_text(yaml.safe_dump(content, sort_keys=False))


def _label_lines(item: ManifestItem) -> str:
    lines = []
    for annotation in item.annotations:
        x1, y1, x2, y2 = annotation.xyxy
        centre = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f}"
        lines.append(f"{annotation.class_id} {centre} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)


def _put_image(item: ManifestItem, store: ObjectStore, path: Path) -> None:
    local = store.local_path(item.key)
    if local is not None and _linked(local, path):
        return
    with store.open(item.key) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)


def _linked(local: Path, path: Path) -> bool:
    try:
        path.hardlink_to(local)
    except OSError as exc:
        # Other file systems take a copy; a lost image is named by the store.
        if exc.errno in {errno.ENOENT, errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            return False
        raise
    return True


def _move(part: Path, target: Path) -> None:
    try:
        part.rename(target)
    except OSError as exc:
        if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        shutil.rmtree(part)


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)
