"""A tiny dataset version: bright squares and dark discs on noise."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import cv2
import numpy as np

from shared.errors import NotFound
from shared.models.data import (
    DatasetManifest,
    DatasetVersionView,
    ManifestItem,
    ProjectView,
    Split,
    SplitFractions,
)
from shared.models.geometry import Annotation
from shared.models.rounds import TrainingParams
from shared.objects.port import ObjectStore

CLASSES = ("square", "disc")
SPLITS: tuple[Split, ...] = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TINY = TrainingParams(epochs=2, image_size=64, batch=4, base="scratch")


def tiny_manifest(
    store: ObjectStore, splits: tuple[Split, ...] = SPLITS, width: int = 64
) -> DatasetManifest:
    """Put one image per entry of `splits` into the store, and return them as a dataset version."""
    return DatasetManifest(
        project="tiny",
        classes=CLASSES,
        items=tuple(_item(store, index, split, width) for index, split in enumerate(splits)),
    )


def _item(store: ObjectStore, index: int, split: Split, width: int) -> ManifestItem:
    rng = np.random.default_rng(index)
    image = rng.integers(90, 140, (64, width, 3)).astype(np.uint8)
    image[8:24, 16:32] = 255
    cv2.circle(image, (48, 48), 10, (0, 0, 0), -1)
    data = cv2.imencode(".png", image)[1].tobytes()
    image_id = hashlib.sha256(data).hexdigest()
    key = f"projects/tiny/images/{image_id[:2]}/{image_id}.png"
    store.put(key, data)
    annotations = (
        Annotation(class_id=0, xyxy=(16 / width, 0.125, 32 / width, 0.375)),
        Annotation(class_id=1, xyxy=(38 / width, 0.59375, 58 / width, 0.90625)),
    )
    return ManifestItem(
        image_id=image_id,
        name=f"{index}.png",
        key=key,
        width=width,
        height=64,
        split=split,
        annotations=annotations,
    )


class UnknownProject(NotFound):
    """No project has this name."""


class UnknownDatasetVersion(NotFound):
    """The project has no such dataset version."""


@dataclass
class Datasets:
    """Dataset versions in memory, answering as the gateway's client does."""

    versions: dict[str, list[DatasetManifest]] = field(default_factory=dict)

    def add(self, manifest: DatasetManifest) -> int:
        self.versions.setdefault(manifest.project, []).append(manifest)
        return len(self.versions[manifest.project])

    def project(self, name: str) -> ProjectView:
        if name not in self.versions:
            msg = f"unknown project: {name!r}"
            raise UnknownProject(msg)
        newest = self.versions[name][-1]
        return ProjectView(
            name=name,
            classes=newest.classes,
            splits=SplitFractions(),
            seed=0,
            created_at=NOW,
            n_images=len(newest.items),
            n_by_split={},
            n_labelled=0,
            latest_version=len(self.versions[name]),
        )

    def dataset_versions(self, project: str) -> list[DatasetVersionView]:
        self.project(project)
        return [self.dataset_version(project, i + 1) for i in range(len(self.versions[project]))]

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        return DatasetVersionView(
            project=project,
            version=version,
            content_hash=self.manifest(project, version).content_hash(),
            parent=None,
            round_id=None,
            manifest_key="",
            n_images={},
            n_boxes={},
            created_at=NOW,
        )

    def manifest(self, project: str, version: int) -> DatasetManifest:
        self.project(project)
        if not 1 <= version <= len(self.versions[project]):
            msg = f"unknown dataset version: {version} of project {project!r}"
            raise UnknownDatasetVersion(msg)
        return self.versions[project][version - 1]

    def close(self) -> None:
        self.versions.clear()
