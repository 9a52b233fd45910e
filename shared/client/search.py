"""Search by likeness, the map of embeddings, and near-duplicates."""

from shared.client.transport import Transport, at
from shared.models.geometry import Xyxy
from shared.models.jobs import JobView
from shared.models.search import (
    DuplicateGroups,
    EmbeddingMap,
    MapCreate,
    SimilarImages,
    SimilarObjects,
)


class SearchCalls(Transport):
    """What looks alike."""

    def similar_images(
        self, project: str, image_id: str, *, k: int = 10, model_version: int | None = None
    ) -> SimilarImages:
        """Return the k images nearest to a stored one, as a version (unset: the newest) sees it."""
        path = at("projects", project, "similar-images", image_id)
        return self._get(path, SimilarImages, {"k": k, "model_version": model_version})

    def similar_objects(
        self,
        project: str,
        image_id: str,
        box: int,
        *,
        k: int = 10,
        model_version: int | None = None,
    ) -> SimilarObjects:
        """Return the k predicted boxes nearest to number `box` of a stored image."""
        path = at("projects", project, "similar-objects", image_id)
        query = {"box": box, "k": k, "model_version": model_version}
        return self._get(path, SimilarObjects, query)

    def images_like(
        self, project: str, image: bytes, *, name: str = "image", k: int = 10
    ) -> SimilarImages:
        """Return the k stored images nearest to an image file, as the production model sees it."""
        response = self._send(
            "POST",
            at("projects", project, "similar-images"),
            query={"k": k},
            files={"file": (name, image)},
        )
        return SimilarImages.model_validate_json(response.content)

    def objects_like(
        self, project: str, image: bytes, xyxy: Xyxy, *, name: str = "image", k: int = 10
    ) -> SimilarObjects:
        """Return the k predicted boxes nearest to a region of an image file."""
        response = self._send(
            "POST",
            at("projects", project, "similar-objects"),
            query={"k": k, "xyxy": ",".join(f"{v:.6f}" for v in xyxy)},
            files={"file": (name, image)},
        )
        return SimilarObjects.model_validate_json(response.content)

    def make_map(self, project: str, request: MapCreate) -> JobView:
        """Lay the project's images out on a plane; the result is a MapResult."""
        return self._post(at("projects", project, "maps"), request, JobView)

    def newest_map(self, project: str) -> EmbeddingMap:
        """Return the map that was made last."""
        return self._get(at("projects", project, "maps", "newest"), EmbeddingMap)

    def duplicates(
        self, project: str, *, cursor: str | None = None, limit: int = 100
    ) -> DuplicateGroups:
        """Return one page of groups of near-duplicates."""
        query = {"cursor": cursor, "limit": limit}
        return self._get(at("projects", project, "duplicate-groups"), DuplicateGroups, query)
