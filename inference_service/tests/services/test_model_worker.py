import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from inference_service.app.core.runtime import DetectionOptions, RuntimeInput, RuntimeOutput
from inference_service.app.core.scored import Picture
from inference_service.app.services.model_worker import (
    ModelWorker,
    WorkerClosed,
    _Request,
)
from inference_service.tests.tiny import CLASSES, picture
from shared.models.registry import EngineChoice
from shared.thresholds import Thresholds

PICTURE = Picture("a", "test", picture(0))
THRESHOLDS = Thresholds.default(len(CLASSES))
BATCH = 8
BAD = Picture("b", "test", np.zeros((1, 1, 3), np.uint8))


class SlowRuntime:
    """Waits for a sign before each answer."""

    classes = CLASSES
    engine = EngineChoice(engine="pytorch")
    batch = BATCH

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.threads: set[int] = set()
        self.given: list[int] = []

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        self.threads.add(threading.get_ident())
        self.given.append(len(images))
        self.started.release()
        self.go.acquire()
        if any(image.pixels.shape == (1, 1, 3) for image in images):
            raise ValueError("one pixel")
        none = np.zeros((0, 4), np.float32)
        passes = np.zeros((0, 4, 2), np.float32)
        # The embedding says which image it was.
        sizes = [np.array(i.pixels.shape[:2], np.float32) for i in images]
        return [RuntimeOutput(none, passes, none[:, :3], passes, size) for size in sizes]


def test_the_waiting_are_answered_by_the_model_s_thread_though_it_is_closed() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(worker.score, PICTURE)
        runtime.started.acquire()
        others = [pool.submit(worker.score, PICTURE) for _ in range(2)]
        while worker.n_waiting < 2:
            pass
        worker.close()
        with pytest.raises(WorkerClosed):
            worker.score(PICTURE)
        runtime.go.release(2)
        assert [f.result().image_id for f in (first, *others)] == ["a", "a", "a"]
    worker.join()
    assert len(runtime.threads) == 1


def test_every_thread_that_asks_waits_and_is_answered_however_many_they_are() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=1)
    n_asking = 200
    with ThreadPoolExecutor(n_asking) as pool:
        asked = [
            pool.submit(worker.score, Picture(str(n), "test", picture(0))) for n in range(n_asking)
        ]
        while worker.n_waiting < n_asking - BATCH:
            pass
        runtime.go.release(n_asking)
        assert [f.result().image_id for f in asked] == [str(n) for n in range(n_asking)]
    worker.close()
    worker.join()


def test_what_waited_is_looked_at_together_and_each_gets_its_own() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=1)
    pictures = [Picture(str(n), "test", picture(n, width=20 + n)) for n in range(BATCH + 4)]
    with ThreadPoolExecutor(len(pictures)) as pool:
        first = pool.submit(worker.score, pictures[0])
        runtime.started.acquire()
        others = [pool.submit(worker.score, picture) for picture in pictures[1:]]
        while worker.n_waiting < len(others):
            pass
        runtime.go.release(3)
        scored = [future.result() for future in (first, *others)]
    assert runtime.given == [1, BATCH, 3]
    assert [s.image_id for s in scored] == [p.image_id for p in pictures]
    assert [s.embedding.tolist() for s in scored] == [list(p.pixels.shape[:2]) for p in pictures]
    worker.close()
    worker.join()


def test_two_threads_share_what_waits_and_the_second_does_not_wait_for_the_first() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=2)
    pictures = [Picture(str(n), "test", picture(n, width=20 + n)) for n in range(13)]
    with ThreadPoolExecutor(len(pictures)) as pool:
        busy = [pool.submit(worker.score, p) for p in pictures[:2]]
        for _ in busy:
            assert runtime.started.acquire(timeout=30)
        others = [pool.submit(worker.score, p) for p in pictures[2:]]
        while worker.n_waiting < len(others):
            pass
        # One comes free while the other is busy: it leaves that one its share of all twelve.
        for _ in range(2):
            runtime.go.release()
            assert runtime.started.acquire(timeout=30)
        runtime.go.release(2)
        scored = [future.result() for future in (*busy, *others)]
        assert runtime.given == [1, 1, 6, 5]
        assert len(runtime.threads) == 2
    assert [s.image_id for s in scored] == [p.image_id for p in pictures]
    assert [s.embedding.tolist() for s in scored] == [list(p.pixels.shape[:2]) for p in pictures]
    worker.close()
    worker.join()
    assert worker._n_inside == 0


def test_what_comes_at_once_is_divided_among_the_threads_that_are_free() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=2)
    requests = [_Request(PICTURE, Future()) for _ in range(BATCH)]
    with worker._lock:
        # Both threads wait for the lock before they count.
        for request in requests:
            worker._queue.put(request)
        while worker.n_waiting > BATCH - 2:
            pass
    for _ in range(2):
        assert runtime.started.acquire(timeout=30)
    runtime.go.release(2)
    assert [r.answer.result(timeout=30).image_id for r in requests] == ["a"] * BATCH
    assert runtime.given == [BATCH // 2, BATCH // 2]
    worker.close()
    worker.join()


def test_failure_is_the_request_s_own_and_those_beside_it_are_answered() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, THRESHOLDS, threads=1)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(worker.score, PICTURE)
        runtime.started.acquire()
        beside, bad, last = (pool.submit(worker.score, p) for p in (PICTURE, BAD, PICTURE))
        while worker.n_waiting < 3:
            pass
        runtime.go.release(5)
        with pytest.raises(ValueError, match="one pixel"):
            bad.result()
        assert [f.result().image_id for f in (first, beside, last)] == ["a", "a", "a"]
    runtime.go.release()
    assert worker.score(PICTURE).image_id == "a"
    worker.close()
    worker.join()


def test_a_closed_worker_answers_what_waited_whatever_fills_the_batch() -> None:
    runtime = SlowRuntime()
    runtime.go.release(3)
    worker = ModelWorker(runtime, THRESHOLDS, threads=1)
    assert worker.score(PICTURE).image_id == "a"
    worker.close()
    worker.close()
    worker.join()
    with pytest.raises(WorkerClosed):
        worker.score(PICTURE)
