"""The threads of one model: what waits is looked at together, up to a batch."""

import math
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime
from inference_service.app.core.scored import Picture, score_pictures
from shared.predictions import ScoredImage
from shared.thresholds import Thresholds

# More than in shards, where 100 are kept: nobody asks a shard for every box of a crowd. Nor does
# an answer tell what its boxes look like.
SERVED = DetectionOptions(max_boxes=300, max_described=0)


def serving_options(thresholds: Thresholds) -> DetectionOptions:
    """Return what may become a detection: with ten passes, boxes that cannot cost most of the head.

    Suppression is greedy by score, so the boxes above the least threshold stay the same.
    """
    # A box at its threshold counts, and suppression takes what is above.
    below = float(np.nextafter(np.float32(min(thresholds.scores)), np.float32(0)))
    return replace(SERVED, score_threshold=max(below, SERVED.score_threshold))


# One's batch is in the network while the other's boxes are suppressed, drawn again and measured.
THREADS = 2


class WorkerClosed(Exception):
    """The model was replaced between asking for it and using it."""


@dataclass(frozen=True)
class _Request:
    picture: Picture
    answer: "Future[ScoredImage]"


class ModelWorker:
    """Runs a detector in threads of its own; nobody else touches it.

    As many pictures wait as threads ask, since each waits for its answer. How many may ask at a
    time is `InFlight`'s to say, before a request is read: here it would be in memory already.
    """

    def __init__(
        self, runtime: DetectorRuntime, thresholds: Thresholds, threads: int = THREADS
    ) -> None:
        """Take over `runtime`, whose boxes must pass `thresholds`, and start the threads."""
        self.classes = runtime.classes
        self._options = serving_options(thresholds)
        self._runtime = runtime
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._n_threads = threads
        # Requests that are being looked at.
        self._n_inside = 0
        self._threads = [
            threading.Thread(target=self._run, name="model", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_waiting(self) -> int:
        """Return how many requests wait."""
        return self._queue.qsize()

    def score(self, picture: Picture) -> ScoredImage:
        """Return what the model sees in this picture.

        Raises:
            WorkerClosed: the model was replaced.
        """
        request = _Request(picture, Future())
        with self._lock:
            if self._closed:
                raise WorkerClosed
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
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first, *self._beside()]
            self._answer(batch)
            with self._lock:
                self._n_inside -= len(batch)
        # For the other threads; nothing comes after it.
        self._queue.put(None)

    def _beside(self) -> list[_Request]:
        """Return what is looked at with a request, from now on: this thread's share.

        Of all there is, what the others look at counted: who takes all that waits beside a busy
        thread has them wait longer than that one takes. Measured with 8 clients: p99 376 ms so,
        289 by shares.

        Nobody waits for a batch to fill: it fills while the model works on those before.
        """
        found: list[_Request] = []
        with self._lock:
            n_requests = 1 + self._queue.qsize() + self._n_inside
            n = min(self._runtime.batch, math.ceil(n_requests / self._n_threads)) - 1
            with suppress(queue.Empty):
                while len(found) < n:
                    request = self._queue.get_nowait()
                    if request is None:
                        self._queue.put(None)
                        break
                    found.append(request)
            self._n_inside += 1 + len(found)
        return found

    def _answer(self, batch: Sequence[_Request]) -> None:
        try:
            scored = score_pictures(self._runtime, [r.picture for r in batch], self._options)
        # The request's own thread raises it; this one lives on for the others.
        except BaseException as exc:  # noqa: BLE001
            if len(batch) == 1:
                batch[0].answer.set_exception(exc)
                return
            for request in batch:
                self._answer([request])
        else:
            for request, answer in zip(batch, scored, strict=True):
                request.answer.set_result(answer)
