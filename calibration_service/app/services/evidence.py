"""Evidence about a model: what it saw in labelled images, out of its shards and the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration_service.app.core.boxes import EvidenceImage
from shared.client import GatewayClient
from shared.errors import Conflict
from shared.models.data import DatasetManifest, ManifestItem, Split
from shared.models.registry import ModelView
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shards, shard_prefix


class NotScored(Conflict):
    """The model version has not seen the images that the answer needs."""


class NotLabelled(Conflict):
    """The split has no labelled image to measure on."""


class OtherClasses(Conflict):
    """The model knows other classes than the project."""


@dataclass(frozen=True)
class EvidenceReader:
    """Reads shards from the object store, and labels through the gateway."""

    store: ObjectStore
    client: GatewayClient

    def manifest(self, project: str, version: int | None) -> DatasetManifest:
        """Return the labels of a dataset version, or of the newest.

        Raises:
            NotFound: the project has no such dataset version.
            NotLabelled: it has none at all.
        """
        wanted = version if version is not None else self.client.project(project).latest_version
        if wanted is None:
            msg = f"project {project!r} has no dataset version yet"
            raise NotLabelled(msg)
        return self.client.manifest(project, wanted)

    def require_shards(self, project: str, version: int, split: Split) -> None:
        """See that a split was scored at all, without reading the shards.

        Raises:
            NotScored: it was not.
        """
        prefix = f"{shard_prefix(project, version)}{split}-"
        if next(iter(self.store.list(prefix)), None) is None:
            msg = (
                f"model version {version} of project {project!r} is not scored on {split!r} yet: "
                f"{how_to_score(version)}"
            )
            raise NotScored(msg)

    def require_comparable(self, project: str, version: int) -> None:
        """See that a version can be production: every gate from then on compares with it.

        Raises:
            NotScored: the project has gate images, and the version saw none of them.
        """
        if self.client.project(project).n_by_split.get("gate"):
            self.require_shards(project, version, "gate")

    def read(
        self, manifest: DatasetManifest, model: ModelView, split: Split
    ) -> list[EvidenceImage]:
        """Return every labelled image of the split with what the model saw in it, by image id.

        Raises:
            NotLabelled: the split has no labelled image.
            NotScored: some of them have no predictions.
            OtherClasses: the model's class map is another.
        """
        found, n_missing = self.read_scored(manifest, model, split)
        if n_missing:
            msg = (
                f"model version {model.version} of project {model.project!r} is not scored on "
                f"{split!r} yet: {n_missing} of {n_missing + len(found)} labelled images lack it"
            )
            raise NotScored(msg)
        return found

    def read_scored(
        self, manifest: DatasetManifest, model: ModelView, split: Split
    ) -> tuple[list[EvidenceImage], int]:
        """Return the labelled images of the split that the model was scored on, and how many lack.

        Raises:
            NotLabelled: the split has no labelled image.
            OtherClasses: the model's class map is another.
        """
        if model.classes != manifest.classes:
            msg = (
                f"model version {model.version} of project {model.project!r} knows the classes "
                f"{list(model.classes)}, the project has {list(manifest.classes)}"
            )
            raise OtherClasses(msg)
        items = sorted((i for i in manifest.items if i.split == split), key=lambda i: i.image_id)
        if not items:
            msg = (
                f"project {manifest.project!r} has no labelled image of split {split!r}: "
                f"label some by a round with that purpose"
            )
            raise NotLabelled(msg)
        scored = self._scored(model, split)
        found = [_evidence(item, scored[i]) for item in items if (i := item.image_id) in scored]
        return found, len(items) - len(found)

    def _scored(self, model: ModelView, split: Split) -> Mapping[str, ScoredImage]:
        shards = read_shards(self.store, model.project, model.version, (split,))
        return {image.image_id: image for image in shards}


def how_to_score(version: int) -> str:
    """Return what mends a version that was not scored."""
    return f"`fovea calibrate --model {version}` scores it"


def n_objects(images: Sequence[EvidenceImage], n_classes: int) -> list[int]:
    """Return how many objects of each class there are."""
    ids = np.concatenate([np.zeros(0, np.int64), *(i.true_class_ids for i in images)])
    counts: list[int] = np.bincount(ids.astype(np.int64), minlength=n_classes).tolist()
    return counts


def _evidence(item: ManifestItem, scored: ScoredImage) -> EvidenceImage:
    order = np.argsort(-scored.scores, kind="stable")
    truth = np.array([a.xyxy for a in item.annotations], dtype=np.float64).reshape(-1, 4)
    return EvidenceImage(
        image_id=item.image_id,
        xyxy=scored.xyxy[order].astype(np.float64),
        scores=scored.scores[order].astype(np.float64),
        class_ids=scored.class_ids[order],
        true_xyxy=truth,
        true_class_ids=np.array([a.class_id for a in item.annotations], dtype=np.int64),
    )
