"""Search by likeness: by a stored image, one of its boxes, or something that is sent."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from inference_service.app.services.index import IndexedBox, box_namespace, namespace
from inference_service.app.services.prediction import ImageBytes, Predictor
from inference_service.app.services.stored import StoredPredictions
from shared.errors import Conflict, NotFound
from shared.models.data import Split
from shared.models.geometry import Xyxy
from shared.models.search import SimilarImage, SimilarImages, SimilarObject, SimilarObjects
from shared.vectors.port import Neighbour, Vector, VectorStore


class NothingIndexed(Conflict):
    """The model version that would be asked has embedded nothing of this project."""


class UnknownBox(NotFound):
    """The image has no such box, or it has no embedding."""


@dataclass(frozen=True)
class Search:
    """Finds stored images and predicted boxes by their embeddings.

    Embeddings of two versions have nothing to do with each other. So a stored image is looked for
    among what the version saw that scored it; what is sent is looked at by the one in production.
    """

    stored: StoredPredictions
    vectors: VectorStore
    predictor: Predictor

    def images_like_stored(
        self, project: str, version: int | None, image_id: str, k: int
    ) -> SimilarImages:
        """Return the k images nearest to a stored one, without itself.

        Args:
            project: its name.
            version: of the model; None: the newest that scored the image.
            image_id: of the image.
            k: how many at most.

        Raises:
            NotScored: the version did not score it.
        """
        version = self.stored.version_of(project, image_id) if version is None else version
        embedding = self.stored.find(project, version, image_id).embedding
        return self._images(project, version, embedding, k, besides=image_id)

    def objects_like_stored(
        self, project: str, version: int | None, of: IndexedBox, k: int
    ) -> SimilarObjects:
        """Return the k boxes nearest to one of a stored image, without itself; as for images.

        Raises:
            NotScored: the version did not score it.
            UnknownBox: it found fewer boxes there.
        """
        version = self.stored.version_of(project, of.image_id) if version is None else version
        boxes = self.stored.find(project, version, of.image_id).box_embeddings
        if not 0 <= of.box < len(boxes):
            msg = f"unknown box: {of.box} of {len(boxes)} with an embedding in {of.image_id!r}"
            raise UnknownBox(msg)
        return self._objects(project, version, boxes[of.box], k, besides=str(of))

    def images_like(self, project: str, image: ImageBytes, k: int) -> SimilarImages:
        """Return the k stored images nearest to one that is sent.

        Raises:
            NoProductionModel, ServingBusy, CorruptImage, …: as for a prediction.
            NothingIndexed: the production model has embedded no stored image.
        """
        version, scored, _ = self.predictor.look(project, image)
        return self._images(project, version.current.version, scored.embedding, k)

    def objects_like(self, project: str, image: ImageBytes, region: Xyxy, k: int) -> SimilarObjects:
        """Return the k predicted boxes nearest to what is in a region of an image that is sent.

        Raises:
            NoProductionModel, ServingBusy, CorruptImage, …: as for a prediction.
            NothingIndexed: the production model has embedded no box of a stored image.
        """
        regions = np.array([region], np.float32)
        version, scored, _ = self.predictor.look(project, image, regions)
        return self._objects(project, version.current.version, scored.box_embeddings[0], k)

    def _images(
        self, project: str, version: int, embedding: Vector, k: int, besides: str = ""
    ) -> SimilarImages:
        name = namespace(project, version)
        n_searched, found = self._nearest(name, embedding, k, besides)
        images = tuple(
            SimilarImage(image_id=n.id, split=_split(n), distance=max(n.distance, 0.0))
            for n in found
        )
        return SimilarImages(model_version=version, n_searched=n_searched, images=images)

    def _objects(
        self, project: str, version: int, embedding: Vector, k: int, besides: str = ""
    ) -> SimilarObjects:
        name = box_namespace(project, version)
        n_searched, found = self._nearest(name, embedding, k, besides)
        objects = tuple(_object(n) for n in found)
        return SimilarObjects(model_version=version, n_searched=n_searched, objects=objects)

    def _nearest(
        self, name: str, embedding: Vector, k: int, besides: str
    ) -> tuple[int, list[Neighbour]]:
        n_searched = self.vectors.count(name)
        if n_searched == 0:
            msg = f"nothing is indexed in {name!r}: score images first (`fovea score`)"
            raise NothingIndexed(msg)
        found = self.vectors.query(name, embedding.astype(np.float32), k + bool(besides))
        return n_searched, [n for n in found if n.id != besides][:k]


def _split(neighbour: Neighbour) -> Split:
    return cast(Split, neighbour.metadata["split"])


def _object(neighbour: Neighbour) -> SimilarObject:
    where = IndexedBox.of(neighbour)
    told = neighbour.metadata
    x1, y1, x2, y2 = (float(told[name]) for name in ("x1", "y1", "x2", "y2"))
    return SimilarObject(
        image_id=where.image_id,
        box=where.box,
        split=_split(neighbour),
        distance=max(neighbour.distance, 0.0),
        class_id=int(told["class_id"]),
        score=float(told["score"]),
        xyxy=(x1, y1, x2, y2),
    )
