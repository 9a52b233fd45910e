import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from shared.database import utcnow
from shared.errors import BackendUnavailable, BadRequest, JobInterrupted
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore, JobSubmit
from shared.jobs.tables import JobRow
from shared.jobs.worker import JobContext, JobRunner
from shared.models.jobs import JobView
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


class Payload(BaseModel):
    seconds: float = 0.0


class Slept(BaseModel):
    seconds: float


def sleep(context: JobContext) -> Slept:
    """The task of the worker process below."""
    seconds = float(context.job.payload["seconds"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        context.progress(1 - (end - time.monotonic()) / max(seconds, 1e-9), "sleeping")
        time.sleep(0.02)
    return Slept(seconds=seconds)


@pytest.fixture
def start_worker(settings: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        code = (
            "from shared.jobs.worker import run_worker\n"
            "from shared.settings import load_settings\n"
            "from shared.tests.jobs.test_worker import sleep\n"
            "run_worker('test', load_settings(), lambda settings: {'test.sleep': sleep})\n"
        )
        env = {
            **os.environ,
            "FOVEA_DATABASE_URL": settings.database_url,
            "FOVEA_BROKER_URL": settings.broker_url,
            "FOVEA_JOB_HEARTBEAT_S": "0.2",
        }
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.wait(timeout=5)


def submit(store: JobStore, seconds: float = 0.0) -> JobView:
    with store.database.transaction() as session:
        return store.submit(session, JobSubmit("test.sleep", "p", Payload(seconds=seconds)))


def wait_for(store: JobStore, job_id: str, state: str, timeout_s: float = 20.0) -> JobView:
    deadline = time.monotonic() + timeout_s
    while (job := store.get(job_id)).state != state:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def run(
    store: JobStore, settings: Settings, function: Callable[[JobContext], BaseModel]
) -> JobView:
    job = submit(store)
    JobRunner("test", store, settings).run(job.id, function)
    return store.get(job.id)


def test_a_worker_process_takes_a_job_from_the_real_broker(
    store: JobStore, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    start_worker()
    job = submit(store)
    done = wait_for(store, job.id, "succeeded")
    assert done.result == {"seconds": 0.0}
    assert done.attempts == 1


def test_a_killed_workers_job_is_done_by_the_next_one(
    store: JobStore, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    worker = start_worker()
    job = submit(store, seconds=1.0)
    wait_for(store, job.id, "running")
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=5)
    start_worker()
    time.sleep(2.1)
    assert store.reap() == 1
    assert wait_for(store, job.id, "succeeded").attempts == 2


def test_a_stopping_worker_gives_its_job_back_without_counting_the_attempt(
    store: JobStore, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    worker = start_worker()
    job = submit(store, seconds=30.0)
    wait_for(store, job.id, "running")
    worker.terminate()
    worker.wait(timeout=10)
    found = store.get(job.id)
    assert (found.state, found.attempts) == ("queued", 0)


def test_a_cancelled_job_stops_at_its_next_progress(
    store: JobStore, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    start_worker()
    job = submit(store, seconds=30.0)
    wait_for(store, job.id, "running")
    store.cancel(job.id)
    assert wait_for(store, job.id, "cancelled").progress < 1


def test_our_own_error_fails_the_job_with_its_name(store: JobStore, settings: Settings) -> None:
    def fail(context: JobContext) -> BaseModel:
        message = "bad epochs: 0"
        raise BadRequest(message)

    found = run(store, settings, fail)
    assert (found.state, found.error) == ("failed", "BadRequest: bad epochs: 0")


def test_a_bug_fails_the_job_with_its_class(store: JobStore, settings: Settings) -> None:
    found = run(store, settings, lambda context: 1 / 0)  # type: ignore[arg-type, return-value]
    assert (found.state, found.error) == ("failed", "ZeroDivisionError: division by zero")


def test_waiting_for_a_back_end_is_no_attempt_and_has_its_limit(
    store: JobStore, settings: Settings
) -> None:
    def down(context: JobContext) -> BaseModel:
        message = "MLflow (http://127.0.0.1:1): refused"
        raise BackendUnavailable(message)

    job = submit(store)
    for _ in range(4):
        JobRunner("test", store, settings).run(job.id, down)
        found = store.get(job.id)
        assert (found.state, found.attempts) == ("queued", 0)
        assert found.message == "waiting: MLflow (http://127.0.0.1:1): refused"
    impatient = settings.model_copy(update={"job_wait_s": 1e-9})
    JobRunner("test", store, impatient).run(job.id, down)
    found = store.get(job.id)
    assert found.state == "failed"
    assert found.error == "BackendUnavailable: MLflow (http://127.0.0.1:1): refused"


def test_an_old_job_waits_as_long_as_a_young_one(store: JobStore, settings: Settings) -> None:
    def down(context: JobContext) -> BaseModel:
        message = "S3: refused"
        raise BackendUnavailable(message)

    job = submit(store)
    with store.database.transaction() as session:
        then = utcnow() - timedelta(days=3)
        session.execute(update(JobRow).values(created_at=then, started_at=then))
    hour = settings.model_copy(update={"job_wait_s": 3600.0, "reconcile_interval_s": 1200.0})
    states = []
    for _ in range(4):
        JobRunner("test", store, hour).run(job.id, down)
        states.append(store.get(job.id).state)
    assert states == ["queued", "queued", "queued", "failed"]


def test_interrupted_work_is_tried_again_until_its_attempts_are_used(
    store: JobStore, settings: Settings
) -> None:
    def killed(context: JobContext) -> BaseModel:
        message = "the process was killed by SIGKILL"
        raise JobInterrupted(message)

    job = submit(store)
    for attempt in (1, 2):
        JobRunner("test", store, settings).run(job.id, killed)
        found = store.get(job.id)
        assert (found.state, found.attempts) == ("queued", attempt)
    JobRunner("test", store, settings).run(job.id, killed)
    found = store.get(job.id)
    assert (found.state, found.attempts) == ("failed", 3)
    assert found.error == "JobInterrupted: the process was killed by SIGKILL"


def test_a_job_taken_by_another_worker_is_left_alone(store: JobStore, settings: Settings) -> None:
    job = submit(store)
    store.claim(job.id, "another")
    JobRunner("test", store, settings).run(job.id, sleep)
    assert store.get(job.id).state == "running"
    assert store.get(job.id).attempts == 1


def test_a_dead_broker_does_not_hold_up_the_submit(store: JobStore, settings: Settings) -> None:
    dead = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    bell = Bell(make_celery(dead))
    started = time.monotonic()
    with store.database.transaction() as session:
        job = JobStore(store.database, bell, dead).submit(
            session, JobSubmit("test.sleep", "p", Payload())
        )
    assert time.monotonic() - started < 5
    assert store.get(job.id).state == "queued"
    with pytest.raises(BackendUnavailable, match=r"broker \(redis://127.0.0.1:1/0\)"):
        bell.check()
