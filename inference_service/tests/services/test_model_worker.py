import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inference_service.app.core.runtime import DetectionOptions, RuntimeInput, RuntimeOutput
from inference_service.app.core.scored import Picture
from inference_service.app.services.model_worker import ModelWorker, ServingBusy, WorkerClosed
from inference_service.tests.tiny import CLASSES, picture

PICTURE = Picture("a", "test", picture(0))


class SlowRuntime:
    """Waits for a sign before each answer."""

    classes = CLASSES

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.threads: set[int] = set()

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        self.threads.add(threading.get_ident())
        self.started.release()
        self.go.acquire()
        if images[0].pixels.shape == (1, 1, 3):
            raise ValueError("one pixel")
        none = np.zeros((0, 4), np.float32)
        passes = np.zeros((0, 4, 2), np.float32)
        return [RuntimeOutput(none, passes, none[:, :3], passes, np.zeros(2, np.float32))]


def test_full_queue_is_busy_and_the_waiting_are_answered_by_one_thread() -> None:
    runtime = SlowRuntime()
    worker = ModelWorker(runtime, queue_size=2)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(worker.score, PICTURE)
        runtime.started.acquire()
        others = [pool.submit(worker.score, PICTURE) for _ in range(2)]
        while worker.n_waiting < 2:
            pass
        with pytest.raises(ServingBusy, match="2 requests") as caught:
            worker.score(PICTURE)
        assert caught.value.headers == {"Retry-After": "1"}
        worker.close()
        with pytest.raises(WorkerClosed):
            worker.score(PICTURE)
        runtime.go.release(3)
        assert [f.result().image_id for f in (first, *others)] == ["a", "a", "a"]
    worker.join()
    assert len(runtime.threads) == 1


def test_failure_is_the_request_s_own_and_the_next_is_answered() -> None:
    runtime = SlowRuntime()
    runtime.go.release(2)
    worker = ModelWorker(runtime)
    with pytest.raises(ValueError, match="one pixel"):
        worker.score(Picture("b", "test", np.zeros((1, 1, 3), np.uint8)))
    assert worker.score(PICTURE).image_id == "a"
    worker.close()
    worker.join()
