"""What this service needs of its neighbours."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from inference_service.app.core.runtime import DetectorRuntime
from shared.models.data import ImageView, ProjectView, Split
from shared.models.registry import EngineChoice, ModelView


class Registry(Protocol):
    """The part of `shared.registry.ModelRegistry` that loads models."""

    def aliases(self, project: str) -> dict[str, int]:
        """Return the version that each alias points to."""

    def get(self, project: str, version: int) -> ModelView:
        """Return one version."""

    def download(self, project: str, version: int, folder: Path) -> Path:
        """Download a version's model package below `folder` and return where it lies."""

    def calibration_json(self, project: str, version: int) -> str | None:
        """Return a version's calibration manifest as it was written."""

    def log_engine(self, project: str, version: int, choice: EngineChoice) -> None:
        """Keep which engine computes a version on one kind of machine."""


class Gateway(Protocol):
    """The part of `shared.client.GatewayClient` that knows projects and images."""

    def project(self, name: str) -> ProjectView:
        """Return one project."""

    def image(self, project: str, image_id: str) -> ImageView:
        """Return one image's record."""

    def iter_images(
        self, project: str, *, split: Split | None = None, after: str | None = None
    ) -> Iterator[ImageView]:
        """Yield every image, ordered by id; only those after the id `after`, if given."""


Load = Callable[[Path], DetectorRuntime]
