"""Stand-ins for the gateway and the registry, which other services own."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from inference_service.app.models.schemas import ScoredPart
from inference_service.app.services.scoring import Scorer
from inference_service.tests.tiny import CLASSES, picture, png, tiny_package
from shared.database import utcnow
from shared.detector.info import read_info
from shared.errors import BackendUnavailable, NotFound
from shared.models.data import ImageView, ProjectView, Split, SplitFractions
from shared.models.registry import (
    CalibrationManifest,
    EngineChoice,
    ModelView,
    ScoringCreate,
    ThresholdComponent,
)
from shared.objects.port import ObjectStore
from shared.projects import check_project_name
from shared.registry import UnknownModel

PROJECT = "shapes"


class LocalRegistry:
    """Model packages in a folder, aliases and calibrations in memory; can be switched off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.production: int | None = None
        self.calibrations: dict[int, str] = {}
        self.engines: dict[int, EngineChoice] = {}
        self.down = False
        self.asked_about: list[str] = []

    def add(self, version: int) -> None:
        tiny_package(self.folder / str(version), seed=version)

    def calibrate(self, version: int, score: float) -> str:
        """Keep a calibration with one threshold for every class, and return it."""
        weights = read_info(self.folder / str(version)).weights_sha256
        self.calibrations[version] = calibration(version, score, weights)
        return self.calibrations[version]

    def aliases(self, project: str) -> dict[str, int]:
        self.asked_about.append(project)
        check_project_name(project)
        self._answer()
        return {} if self.production is None else {"production": self.production}

    def get(self, project: str, version: int) -> ModelView:
        self._answer()
        if not (self.folder / str(version)).is_dir():
            raise UnknownModel(f"unknown model version: {version} of project {project!r}")
        return ModelView(
            project=project,
            version=version,
            aliases=(),
            dataset_version=None,
            round_id=None,
            classes=CLASSES,
            metrics={},
            weights_sha256="",
            run_id="",
            run_url="",
            created_at=utcnow(),
        )

    def download(self, project: str, version: int, folder: Path) -> Path:
        self._answer()
        return Path(shutil.copytree(self.folder / str(version), folder / "model"))

    def calibration_json(self, project: str, version: int) -> str | None:
        self._answer()
        return self.calibrations.get(version)

    def log_engine(self, project: str, version: int, choice: EngineChoice) -> None:
        self._answer()
        self.engines[version] = choice

    def _answer(self) -> None:
        if self.down:
            raise BackendUnavailable("MLflow (http://test): connection refused")


class LocalGateway:
    """One project, whose images lie in the object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.images: dict[str, ImageView] = {}

    def add(self, index: int, split: Split = "train", *, labelled: bool = False) -> ImageView:
        image_id = f"{index:064x}"
        key = f"projects/{PROJECT}/images/{image_id}.png"
        self.store.put(key, png(picture(index)))
        self.images[image_id] = ImageView(
            id=image_id,
            name=f"{index}.png",
            width=80,
            height=60,
            split=split,
            labelled=labelled,
            duplicate_group=None,
            key=key,
            thumbnail_key=key,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return self.images[image_id]

    def project(self, name: str) -> ProjectView:
        if name != PROJECT:
            raise NotFound(f"unknown project: {name!r}")
        return ProjectView(
            name=name,
            classes=CLASSES,
            splits=SplitFractions(),
            seed=0,
            created_at=utcnow(),
            n_images=len(self.images),
            n_by_split={},
            n_labelled=0,
            latest_version=None,
        )

    def image(self, project: str, image_id: str) -> ImageView:
        if image_id not in self.images:
            raise NotFound(f"unknown image: {image_id!r}")
        return self.images[image_id]

    def iter_images(
        self, project: str, *, split: Split | None = None, after: str | None = None
    ) -> Iterator[ImageView]:
        for image_id, image in sorted(self.images.items()):
            if split in (None, image.split) and image_id > (after or ""):
                yield image


def calibration(version: int, score: float, weights_sha256: str) -> str:
    """Return a calibration with one threshold for every class."""
    part = ThresholdComponent(
        score_thresholds=(score,) * 3, nms_iou=0.5, fallback=(False, False, False)
    )
    return CalibrationManifest(
        project=PROJECT, model_version=version, weights_sha256=weights_sha256, components=(part,)
    ).model_dump_json()


def score(
    scorer: Scorer,
    request: ScoringCreate,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> ScoredPart:
    """Score as a job does, one part after the other, and return the sum."""
    done = [scorer.score_part(PROJECT, part, progress) for part in scorer.plan(PROJECT, request)]
    if request.consistency and request.model_version is not None:
        scorer.settle(PROJECT, request.model_version)
    return ScoredPart(
        n_scored=sum(part.n_scored for part in done), n_known=sum(part.n_known for part in done)
    )
