"""Dataset versions and their exports."""

from pathlib import Path

from shared.client.transport import Transport, at
from shared.models.data import DatasetManifest, DatasetVersionCreate, DatasetVersionView, Format


class VersionCalls(Transport):
    """Dataset versions of projects."""

    def create_dataset_version(
        self, project: str, version: DatasetVersionCreate
    ) -> DatasetVersionView:
        """Close a round into a dataset version; the same round twice gives the same version."""
        path = at("projects", project, "dataset-versions")
        return self._post(path, version, DatasetVersionView, idempotent=True)

    def dataset_versions(self, project: str) -> list[DatasetVersionView]:
        """Return every dataset version, the oldest first."""
        return self._get_list(at("projects", project, "dataset-versions"), DatasetVersionView)

    def dataset_version(self, project: str, version: int) -> DatasetVersionView:
        """Return one dataset version."""
        path = at("projects", project, "dataset-versions", version)
        return self._get(path, DatasetVersionView)

    def manifest(self, project: str, version: int) -> DatasetManifest:
        """Return a dataset version's content."""
        path = at("projects", project, "dataset-versions", version, "manifest")
        return self._get(path, DatasetManifest)

    def export(self, project: str, version: int, kind: Format, target: Path) -> None:
        """Write a dataset version as a zip of the given format."""
        path = at("projects", project, "dataset-versions", version, "export")
        self._download(path, {"format": kind}, target)
