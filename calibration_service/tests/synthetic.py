"""Small worlds with known answers: labels, predictions, a gateway that knows one project."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from calibration_service.app.core.boxes import EvidenceImage
from shared.client import GatewayClient
from shared.errors import NotFound
from shared.models.data import DatasetManifest, ManifestItem, ProjectView, Split, SplitFractions
from shared.models.geometry import Annotation
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, shard_prefix, write_shard

CLASSES = ("cat", "dog")
Box = tuple[float, float, float, float]
Seen = tuple[Box, int, float]

LEFT: Box = (0.0, 0.0, 0.4, 0.4)
RIGHT: Box = (0.5, 0.0, 0.9, 0.4)
BELOW: Box = (0.0, 0.5, 0.4, 0.9)
NOWHERE: Box = (0.5, 0.5, 0.9, 0.9)


def image(seen: Sequence[Seen], there: Sequence[tuple[Box, int]], name: str = "i") -> EvidenceImage:
    """Return what was seen (box, class, score) beside what is there (box, class)."""
    seen = sorted(seen, key=lambda s: -s[2])
    return EvidenceImage(
        image_id=name,
        xyxy=np.array([s[0] for s in seen], dtype=np.float64).reshape(-1, 4),
        scores=np.array([s[2] for s in seen], dtype=np.float64),
        class_ids=np.array([s[1] for s in seen], dtype=np.int64),
        true_xyxy=np.array([t[0] for t in there], dtype=np.float64).reshape(-1, 4),
        true_class_ids=np.array([t[1] for t in there], dtype=np.int64),
    )


def scored(image_id: str, split: Split, seen: Sequence[Seen]) -> ScoredImage:
    """Return a shard's row; each box scores on its own class alone."""
    n = len(seen)
    class_scores = np.zeros((n, len(CLASSES)), np.float32)
    for row, (_, class_id, score) in enumerate(seen):
        class_scores[row, class_id] = score
    return ScoredImage(
        image_id=image_id,
        split=split,
        xyxy=np.array([s[0] for s in seen], np.float32).reshape(n, 4),
        class_scores=class_scores,
        class_probabilities=np.full((n, len(CLASSES) + 1, 2), 1 / 3, np.float16),
        entropy=np.zeros(n, np.float32),
        margin=np.zeros(n, np.float32),
        certainty=np.zeros(n, np.float32),
        bald=np.zeros(n, np.float32),
        variance=np.zeros(n, np.float32),
        localisation=np.zeros(n, np.float32),
        inconsistency=np.zeros(n, np.float32),
        embedding=np.ones(4, np.float32),
        brightness=0.5,
        contrast=0.1,
        sharpness=1.0,
    )


def write(
    store: ObjectStore, project: str, version: int, split: Split, seen: Sequence[Sequence[Seen]]
) -> None:
    """Write one shard for the split's images, in the order of their numbers."""
    rows = [scored(f"{split}-{n:03d}", split, s) for n, s in enumerate(seen)]
    write_shard(store, f"{shard_prefix(project, version)}{split}-0.parquet", rows)


class World(GatewayClient):
    """A gateway that knows one project and its dataset versions, without a server."""

    def __init__(self, project: str) -> None:
        super().__init__("http://127.0.0.1:9", "key")
        self.name = project
        self.items: list[ManifestItem] = []
        self.closed: list[tuple[ManifestItem, ...]] = []

    def close_version(self) -> None:
        """Leave the labels so far to their dataset version; what follows is of the next."""
        self.closed.append(tuple(self.items))

    def label(
        self, split: Split, there: Sequence[Sequence[tuple[Box, int]]], first: int = 0
    ) -> None:
        """Label one image after the other, from number `first`, with boxes and classes."""
        for n, objects in enumerate(there, start=first):
            annotations = tuple(Annotation(xyxy=b, class_id=c) for b, c in objects)
            image_id = f"{split}-{n:03d}"
            self.items.append(
                ManifestItem(
                    image_id=image_id,
                    name=f"{image_id}.jpg",
                    key=f"projects/{self.name}/images/{image_id}.jpg",
                    width=100,
                    height=100,
                    split=split,
                    annotations=annotations,
                )
            )

    def project(self, name: str) -> ProjectView:
        if name != self.name:
            msg = f"unknown project: {name!r}"
            raise NotFound(msg)
        return ProjectView(
            name=name,
            classes=CLASSES,
            splits=SplitFractions(),
            seed=0,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            n_images=len(self.items),
            n_by_split=Counter(item.split for item in self.items),
            n_labelled=0,
            latest_version=len(self.closed) + 1 if self.items else None,
        )

    def manifest(self, project: str, version: int) -> DatasetManifest:
        assert project == self.name
        items = (*self.closed, tuple(self.items))[version - 1]
        return DatasetManifest(project=project, classes=CLASSES, items=items)
