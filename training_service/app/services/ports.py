"""What the service reads of data sets: the gateway's client, or anything that answers alike."""

from typing import Protocol

from shared.models.data import DatasetManifest, DatasetVersionView, ProjectView


class DatasetReader(Protocol):
    """Projects and their dataset versions; `shared.client.GatewayClient` is one."""

    def project(self, name: str) -> ProjectView:
        """Return one project; 404 where there is none."""

    def dataset_versions(self, project: str) -> list[DatasetVersionView]:
        """Return every dataset version, the oldest first."""

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        """Return one dataset version; 404 where there is none."""

    def manifest(self, project: str, version: int) -> DatasetManifest:
        """Return a dataset version's content."""

    def close(self) -> None:
        """Close the connections."""
