"""The lines of a batch: each is answered, or failed with its reason, once."""

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from inference_service.app.core.ahead import read_ahead, work_ahead
from inference_service.app.core.images import MAX_IMAGE_BYTES, decode_image
from inference_service.app.core.ports import Gateway, Registry
from inference_service.app.core.scored import Picture, score_pictures
from inference_service.app.models.schemas import (
    BatchJob,
    BatchLine,
    BatchPart,
    BatchPartResult,
    NamedLine,
)
from inference_service.app.services.batch_files import (
    MAX_LINE_BYTES,
    calibration_key,
    input_key,
    outcome_key,
)
from inference_service.app.services.loaded import LoadedModel
from inference_service.app.services.model_worker import serving_options
from inference_service.app.services.prediction import detections, image_id_of
from inference_service.app.services.serving import parse_calibration
from shared.database import utcnow
from shared.errors import (
    AppError,
    BackendUnavailable,
    Forbidden,
    Gone,
    JobInterrupted,
    RateLimited,
    TooLarge,
    Unauthorised,
    ValidationFailed,
)
from shared.fetch import TRIES, Fetcher
from shared.images import n_pixels_of
from shared.models.batches import BatchAnswer, BatchError, BatchOutcome
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage
from shared.thresholds import Thresholds

# Most of the time is spent waiting for somebody else's server.
READERS = 8
# Lines at a time.
CHUNK = 8
# One's images are in the network while the other's boxes are drawn again.
ANSWERERS = 2
# Twenty-four of them are in memory at once; larger ones only one by one.
LARGE_PIXELS = 8_000_000

Progress = Callable[[float, str], None]


class BatchExpired(Gone):
    """The batch was not done in the time it had."""


@dataclass(frozen=True)
class _Fetched:
    """A line whose image is here."""

    number: int
    custom_id: str | None
    name: str
    image_id: str
    data: bytes


@dataclass(frozen=True)
class _Ready:
    """A line whose image is decoded."""

    number: int
    custom_id: str | None
    picture: Picture


@dataclass(frozen=True)
class _Seeing:
    """What sees the lines."""

    model_version: int
    thresholds: Thresholds
    calibrated: bool


@dataclass(frozen=True)
class BatchAnswerer:
    """Answers the lines of a piece with a model version and its calibration."""

    gateway: Gateway
    registry: Registry
    store: ObjectStore
    loaded: LoadedModel
    fetcher: Fetcher
    max_pixels: float

    def plan(self, project: str, batch: BatchJob) -> list[BatchPart]:
        """Return the pieces of a batch; the calibration of now holds for all of them.

        Raises:
            BackendUnavailable: the registry or the store does not answer.
        """
        calibration = self.registry.calibration_json(project, batch.model_version) or ""
        self.store.put(calibration_key(project, batch.batch_id), calibration.encode())
        return [
            BatchPart(
                batch_id=batch.batch_id,
                piece=piece,
                model_version=batch.model_version,
                expires_at=batch.expires_at,
            )
            for piece in range(len(batch.sizes))
        ]

    def answer(self, project: str, part: BatchPart, progress: Progress) -> BatchPartResult:
        """Answer every line of a piece, and write what became of each.

        Raises:
            BackendUnavailable: a store, the registry or the gateway does not answer.
        """
        lines = self.store.get(input_key(project, part.batch_id, part.piece)).split(b"\n")[:-1]
        calibration = self.store.get(calibration_key(project, part.batch_id)).decode() or None
        runtime = self.loaded.get(project, part.model_version)
        manifest = parse_calibration(calibration)
        thresholds = Thresholds.of(manifest, len(runtime.classes))
        options = serving_options(thresholds)
        seen_by = _Seeing(part.model_version, thresholds, calibrated=manifest is not None)

        def read(line: bytes) -> _Fetched | _Ready | BatchError:
            return self._read(project, part, line)

        def answers(ready: list[_Ready]) -> Iterator[BatchOutcome]:
            scored = score_pictures(runtime, [each.picture for each in ready], options)
            for each, seen in zip(ready, scored, strict=True):
                yield BatchOutcome(answer=_answer(each, seen, seen_by))

        one_large = threading.Lock()

        def outcome_of(line: _Fetched | BatchError) -> BatchOutcome:
            if isinstance(line, BatchError):
                return BatchOutcome(error=line)
            with one_large:
                large = self._decoded(line)
                return (
                    next(answers([large]))
                    if isinstance(large, _Ready)
                    else BatchOutcome(error=large)
                )

        def outcomes_of(chunk: list[_Fetched | _Ready | BatchError]) -> list[BatchOutcome]:
            answered = answers([each for each in chunk if isinstance(each, _Ready)])
            return [
                next(answered) if isinstance(each, _Ready) else outcome_of(each) for each in chunk
            ]

        outcomes: list[BatchOutcome] = []
        chunks = [lines[start : start + CHUNK] for start in range(0, len(lines), CHUNK)]
        for found in work_ahead(read_ahead(chunks, read, READERS), outcomes_of, ANSWERERS):
            outcomes += found
            progress(len(outcomes) / len(lines), "")
        body = "".join(outcome.model_dump_json() + "\n" for outcome in outcomes)
        self.store.put(outcome_key(project, part.batch_id, part.piece), body.encode())
        errors = [outcome.error for outcome in outcomes if outcome.error]
        return BatchPartResult(
            n_answered=len(outcomes) - len(errors),
            n_failed=len(errors),
            n_expired=sum(error.error == BatchExpired.__name__ for error in errors),
        )

    def _read(
        self, project: str, part: BatchPart, numbered: bytes
    ) -> _Fetched | _Ready | BatchError:
        first, _, text = numbered.partition(b"\t")
        number, custom_id = int(first), _custom_id(text)
        try:
            line = _parsed(text)
            if utcnow() > part.expires_at:
                msg = f"not answered before {part.expires_at:%Y-%m-%d %H:%M:%S} UTC"
                raise BatchExpired(msg)
            fetched = _Fetched(number, custom_id, *self._image(project, line))
            large = n_pixels_of(fetched.data) > LARGE_PIXELS
        except BackendUnavailable:
            raise
        except AppError as exc:
            return _failed(number, custom_id, exc)
        return fetched if large else self._decoded(fetched)

    def _decoded(self, line: _Fetched) -> _Ready | BatchError:
        try:
            pixels = decode_image(line.data, self.max_pixels, line.name)
        except AppError as exc:
            return _failed(line.number, line.custom_id, exc)
        # The split means nothing here; it is never written.
        return _Ready(line.number, line.custom_id, Picture(line.image_id, "test", pixels))

    def _image(self, project: str, line: BatchLine) -> tuple[str, str, bytes]:
        """Return the name, the id and the bytes of a line's image."""
        if line.image_id is not None:
            image = self.gateway.image(project, line.image_id)
            return image.name, image.id, self.store.get(image.key)
        name = line.url or line.key or ""
        data = self._fetched(name) if line.url else self._object(project, name)
        return name, image_id_of(data), data

    def _object(self, project: str, key: str) -> bytes:
        if key.startswith("projects/") and not key.startswith(f"projects/{project}/"):
            msg = f"key {key!r} belongs to another project than {project!r}"
            raise Forbidden(msg)
        n_bytes = self.store.size(key)
        if n_bytes > MAX_IMAGE_BYTES:
            msg = f"object {key!r} has {n_bytes} bytes, limit {MAX_IMAGE_BYTES}"
            raise TooLarge(msg)
        return self.store.get(key)

    def _fetched(self, url: str) -> bytes:
        buffer = io.BytesIO()
        self.fetcher.download(url, buffer, TRIES)
        return buffer.getvalue()


def _failed(number: int, custom_id: str | None, exc: AppError) -> BatchError:
    if exc.status >= 500 or isinstance(exc, Unauthorised | RateLimited):
        # Of a service on the way, not of the line.
        msg = f"line {number}: {exc.name}: {exc}"
        raise JobInterrupted(msg) from exc
    return BatchError(line=number, custom_id=custom_id, error=exc.name, detail=str(exc))


def _parsed(text: bytes) -> BatchLine:
    if len(text) >= MAX_LINE_BYTES:
        msg = f"a line of more than {MAX_LINE_BYTES} bytes"
        raise ValidationFailed(msg)
    try:
        return BatchLine.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise ValidationFailed(msg) from exc


def _custom_id(text: bytes) -> str | None:
    try:
        return NamedLine.model_validate_json(text).custom_id
    except ValidationError:
        return None


def _answer(ready: _Ready, scored: ScoredImage, seen_by: _Seeing) -> BatchAnswer:
    height, width = ready.picture.pixels.shape[:2]
    return BatchAnswer(
        line=ready.number,
        custom_id=ready.custom_id,
        image_id=scored.image_id,
        model_version=seen_by.model_version,
        calibrated=seen_by.calibrated,
        width=width,
        height=height,
        detections=detections(scored, seen_by.thresholds),
    )
