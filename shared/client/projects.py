"""Projects, uploads, ingestions and images."""

from collections.abc import Iterator
from typing import BinaryIO

from shared.client.transport import Transport, at
from shared.models.data import (
    GroundTruth,
    ImagePage,
    ImageView,
    IngestionCreate,
    ProjectCopy,
    ProjectCreate,
    ProjectView,
    Split,
    Upload,
)
from shared.models.jobs import JobView


class ProjectCalls(Transport):
    """What data_service owns, without its dataset versions."""

    def create_project(self, project: ProjectCreate) -> ProjectView:
        """Create a project."""
        return self._post(at("projects"), project, ProjectView)

    def copy_project(self, project: str, copy: ProjectCopy) -> ProjectView:
        """Make a project with the images, splits and classes of another."""
        path = at("projects", project, "copies")
        response = self._send("POST", path, json=copy, timeout=600.0)
        return ProjectView.model_validate_json(response.content)

    def projects(self) -> list[ProjectView]:
        """Return every project."""
        return self._get_list(at("projects"), ProjectView)

    def project(self, name: str) -> ProjectView:
        """Return one project."""
        return self._get(at("projects", name), ProjectView)

    def upload(self, project: str, file: BinaryIO, *, name: str | None = None) -> Upload:
        """Send an archive or image, streamed; `name` is what a single image is then called."""
        chunks = iter(lambda: file.read(1 << 20), b"")
        response = self._send(
            "POST",
            at("projects", project, "uploads"),
            query={"name": name},
            content=chunks,
            headers={"Content-Type": "application/octet-stream"},
            timeout=600.0,
        )
        return Upload.model_validate_json(response.content)

    def ingest(self, project: str, ingestion: IngestionCreate) -> JobView:
        """Start an ingestion; its result is an IngestionReport."""
        return self._post(at("projects", project, "ingestions"), ingestion, JobView)

    def images(
        self,
        project: str,
        *,
        split: Split | None = None,
        labelled: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
        name: str | None = None,
    ) -> ImagePage:
        """Return one page of images, ordered by id."""
        query = {
            "split": split,
            "labelled": labelled,
            "cursor": cursor,
            "limit": limit,
            "name": name,
        }
        return self._get(at("projects", project, "images"), ImagePage, query)

    def iter_images(
        self,
        project: str,
        *,
        split: Split | None = None,
        labelled: bool | None = None,
        after: str | None = None,
        name: str | None = None,
    ) -> Iterator[ImageView]:
        """Yield every image, ordered by id; only those after the id `after`, if given.

        With `name` only those whose name contains it.
        """
        cursor = after
        while True:
            page = self.images(
                project, split=split, labelled=labelled, cursor=cursor, limit=500, name=name
            )
            yield from page.images
            cursor = page.next_cursor
            if cursor is None:
                return

    def image(self, project: str, image_id: str) -> ImageView:
        """Return one image's record."""
        return self._get(at("projects", project, "images", image_id), ImageView)

    def image_content(self, project: str, image_id: str) -> bytes:
        """Return the upright image as it is trained on."""
        return self._send("GET", at("projects", project, "images", image_id, "content")).content

    def thumbnail(self, project: str, image_id: str) -> bytes:
        """Return the image's thumbnail."""
        return self._send("GET", at("projects", project, "images", image_id, "thumbnail")).content

    def ground_truth(self, project: str, image_id: str) -> GroundTruth:
        """Return the hidden labels of an image ingested with `as_oracle`."""
        return self._get(at("projects", project, "images", image_id, "ground-truth"), GroundTruth)
