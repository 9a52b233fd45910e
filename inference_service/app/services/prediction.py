"""One prediction: decode, detect, apply thresholds, log."""

import hashlib
import time
import uuid
from dataclasses import dataclass

from inference_service.app.core.body_budget import Take
from inference_service.app.core.images import decode_image
from inference_service.app.core.pixel_budget import PixelBudget
from inference_service.app.core.ports import Gateway
from inference_service.app.core.runtime import FloatArray
from inference_service.app.core.scored import Picture
from inference_service.app.services.served_log import ServedLog
from inference_service.app.services.serving import ServedModel, Serving
from shared.database import utcnow
from shared.fetch import Fetcher
from shared.images import n_pixels_of
from shared.models.geometry import Detection
from shared.models.registry import Prediction
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage
from shared.served import ServedPrediction, drift_row
from shared.thresholds import Thresholds, kept_boxes


@dataclass(frozen=True)
class ImageBytes:
    """An image file to predict, and the caller's own label for the batch it belongs to."""

    image_id: str
    data: bytes
    name: str
    batch: str | None


@dataclass(frozen=True)
class Predictor:
    """Answers prediction requests, and logs every answer."""

    serving: Serving
    served_log: ServedLog
    gateway: Gateway
    store: ObjectStore
    fetcher: Fetcher
    pixels: PixelBudget

    def uploaded(self, data: bytes, name: str, batch: str | None) -> ImageBytes:
        """Return an image that came with the request; its id is the SHA-256 of its bytes."""
        return ImageBytes(image_id_of(data), data, name, batch)

    def stored(self, project: str, image_id: str, batch: str | None, take: Take) -> ImageBytes:
        """Return a stored image; its bytes are taken from those there may be.

        Raises:
            NotFound: the project has no such image.
            ServingBusy: other requests hold too many bytes.
        """
        image = self.gateway.image(project, image_id)
        take(self.store.size(image.key))
        return ImageBytes(image.id, self.store.get(image.key), image.name, batch)

    def fetched(self, url: str, batch: str | None, take: Take) -> ImageBytes:
        """Return the image at a public address; its bytes are taken from those there may be.

        Raises:
            UrlRefused, UrlFailed, TooLarge: about the address, or what is there.
            ServingBusy: other requests hold too many bytes.
        """
        return self.uploaded(self.fetcher.get(url, take), url, batch)

    def predict(self, project: str, image: ImageBytes) -> Prediction:
        """Return what the production model sees.

        Raises:
            NoProductionModel: the project has none yet.
            DecodingBusy: too many pixels are being worked on.
            CorruptImage, EmptyImage, ImageTooLarge, UnsupportedImage: about the image.
        """
        started = time.perf_counter()
        model, scored, (width, height) = self.look(project, image)
        prediction = Prediction(
            prediction_id=uuid.uuid4().hex,
            image_id=image.image_id,
            project=project,
            model_version=model.current.version,
            calibrated=model.calibrated,
            width=width,
            height=height,
            detections=detections(scored, model.thresholds),
            seconds=time.perf_counter() - started,
        )
        row = drift_row(scored, model.thresholds)
        served = ServedPrediction(
            prediction.prediction_id, utcnow(), image.image_id, image.batch, row
        )
        self.served_log.append(project, prediction.model_version, served)
        return prediction

    def look(
        self, project: str, image: ImageBytes, regions: FloatArray | None = None
    ) -> tuple[ServedModel, ScoredImage, tuple[int, int]]:
        """Return the production model, all that it sees, and the image's width and height.

        `regions`, shape (M, 4), normalised, are boxes to describe in place of those it finds.

        Raises:
            NoProductionModel, DecodingBusy, CorruptImage, …: as for a prediction.
        """
        with self.pixels.spend(n_pixels_of(image.data)):
            pixels = decode_image(image.data, self.pixels.total, image.name)
            # Which split it would belong to means nothing here; it is never written.
            picture = Picture(image.image_id, "test", pixels, regions)
            model, scored = self.serving.score(project, picture)
            return model, scored, (pixels.shape[1], pixels.shape[0])


def image_id_of(data: bytes) -> str:
    """Return the id that a file has once it is stored."""
    return hashlib.sha256(data).hexdigest()


def detections(scored: ScoredImage, thresholds: Thresholds) -> tuple[Detection, ...]:
    """Return the boxes that pass the thresholds, best first."""
    kept = kept_boxes(scored.xyxy, scored.class_scores, thresholds)
    return tuple(
        Detection(
            class_id=int(scored.class_scores[i].argmax()),
            xyxy=tuple(scored.xyxy[i].tolist()),
            score=float(scored.class_scores[i].max()),
            class_scores=tuple(scored.class_scores[i].tolist()),
            uncertainty=float(scored.bald[i]),
        )
        for i in kept
    )
