"""One thread that owns one model: requests wait in a bounded queue for their own answer."""

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar

from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime
from inference_service.app.core.scored import Picture, score_pictures
from shared.errors import BackendUnavailable
from shared.predictions import ScoredImage

QUEUE_SIZE = 32
# More than in shards, where 100 are kept: nobody asks a shard for every box of a crowd.
SERVED = DetectionOptions(max_boxes=300)


class ServingBusy(BackendUnavailable):
    """As many requests wait for the model as may."""

    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class WorkerClosed(Exception):
    """The model was replaced between asking for it and using it."""


@dataclass(frozen=True)
class _Request:
    picture: Picture
    answer: "Future[ScoredImage]"


class ModelWorker:
    """Runs a detector in its own thread; nobody else touches it."""

    def __init__(self, runtime: DetectorRuntime, queue_size: int = QUEUE_SIZE) -> None:
        """Take over `runtime` and start the thread."""
        self.classes = runtime.classes
        self._runtime = runtime
        self._queue: queue.Queue[_Request | None] = queue.Queue(queue_size + 1)
        self._size = queue_size
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Return how many requests wait."""
        return self._queue.qsize()

    def score(self, picture: Picture) -> ScoredImage:
        """Return what the model sees in this picture.

        Raises:
            ServingBusy: the queue is full.
            WorkerClosed: the model was replaced.
        """
        request = _Request(picture, Future())
        with self._lock:
            if self._closed:
                raise WorkerClosed
            if self._queue.qsize() >= self._size:
                msg = f"model queue: {self._size} requests are waiting already"
                raise ServingBusy(msg)
            self._queue.put(request)
        return request.answer.result()

    def close(self) -> None:
        """Answer what waits, then end; returns at once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)

    def join(self) -> None:
        """Wait until everything that waited is answered."""
        self._thread.join()

    def _run(self) -> None:
        while (request := self._queue.get()) is not None:
            try:
                scored = score_pictures(self._runtime, [request.picture], SERVED)
            # The request's own thread raises it; this one lives on for the others.
            except BaseException as exc:  # noqa: BLE001
                request.answer.set_exception(exc)
            else:
                request.answer.set_result(scored[0])
