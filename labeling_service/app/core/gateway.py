"""What this service asks of the others, through the gateway."""

from collections.abc import Iterator
from typing import Protocol

from shared.models.data import (
    DatasetManifest,
    DatasetVersionCreate,
    DatasetVersionView,
    ImageView,
    ProjectView,
    Split,
)
from shared.models.registry import AliasView, ModelView


class Gateway(Protocol):
    """The calls of `shared.client.GatewayClient` that rounds need."""

    def project(self, name: str) -> ProjectView:
        """Return one project; NotFound when there is none."""
        ...

    def aliases(self, project: str) -> AliasView:
        """Return where the serving aliases point."""
        ...

    def model(self, project: str, version: int) -> ModelView:
        """Return one model version; NotFound when there is none."""
        ...

    def iter_images(
        self, project: str, *, split: Split | None = None, labelled: bool | None = None
    ) -> Iterator[ImageView]:
        """Yield every image, ordered by id."""
        ...

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        """Return one dataset version."""
        ...

    def manifest(self, project: str, version: int) -> DatasetManifest:
        """Return a dataset version's content."""
        ...

    def create_dataset_version(
        self, project: str, version: DatasetVersionCreate
    ) -> DatasetVersionView:
        """Close a round into a dataset version; the same round twice gives the same version."""
        ...
