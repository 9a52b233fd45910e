import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from shared.errors import BackendUnavailable, BadRequest
from shared.jobs.bell import Bell, make_celery
from shared.jobs.in_parts import Parts, duration, run_in_parts
from shared.jobs.parts import Part
from shared.jobs.store import Claim, JobNotStopped, JobStore, JobSubmit
from shared.jobs.tables import JobRow
from shared.jobs.worker import JobContext, JobRunner, TaskFunction
from shared.models.jobs import JobView
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
N_PARTS = 12


class Numbers(BaseModel):
    numbers: list[int]
    seconds: float = 0.0


class Done(BaseModel):
    numbers: list[int]
    worker: str = ""


def copy(context: JobContext) -> Done:
    part = Numbers.model_validate(context.job.payload)
    for n in range(len(part.numbers)):
        time.sleep(part.seconds)
        context.progress(n / len(part.numbers))
    return Done(numbers=part.numbers, worker=context.claim.worker)


def copy_all(
    context: JobContext, work: TaskFunction = copy, plans: list[str] | None = None
) -> Done:
    """The task of the worker processes below: each part three numbers."""

    def plan() -> list[Part]:
        if plans is not None:
            plans.append(context.job.id)
        seconds = float(context.job.payload["seconds"])
        cut = [list(range(3 * n, 3 * n + 3)) for n in range(N_PARTS)]
        return [Part(Numbers(numbers=numbers, seconds=seconds), len(numbers)) for numbers in cut]

    results = run_in_parts(context, Parts("test.copy", "numbers", plan, work))
    done = [Done.model_validate(result) for result in results]
    return Done(
        numbers=[number for part in done for number in part.numbers],
        worker=" ".join(sorted({part.worker for part in done})),
    )


@pytest.fixture
def start_worker(settings: Settings) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    code = (
        "from shared.jobs.worker import run_worker\n"
        "from shared.settings import load_settings\n"
        "from shared.tests.jobs.test_in_parts import copy, copy_all\n"
        "tasks = {'test.copy': copy, 'test.copy_all': copy_all}\n"
        "run_worker('test', load_settings(), lambda settings: tasks)\n"
    )
    env = {
        **os.environ,
        "FOVEA_DATABASE_URL": settings.database_url,
        "FOVEA_BROKER_URL": settings.broker_url,
        "FOVEA_JOB_HEARTBEAT_S": "0.2",
    }

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
        worker.wait(timeout=5)


def submit(store: JobStore, seconds: float = 0.0) -> JobView:
    job = JobSubmit("test.copy_all", "p", Numbers(numbers=[], seconds=seconds))
    with store.database.transaction() as session:
        return store.submit(session, job)


def wait(store: JobStore, what: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, store.list()
        store.reap()
        time.sleep(0.05)


def test_one_worker_does_every_part_and_the_results_keep_their_order(
    store: JobStore, settings: Settings
) -> None:
    job = submit(store)
    messages: list[tuple[float, str]] = []

    def watched(context: JobContext) -> Done:
        found = store.get(job.id)
        messages.append((found.progress, found.message))
        assert [j.id for j in store.list()] == [job.id]
        assert len(store.list(parent_id=job.id)) == N_PARTS
        assert context.job.parent_id == job.id
        return copy(context)

    runner = JobRunner("test", store, settings)
    runner.run(job.id, lambda context: copy_all(context, watched))
    found = store.get(job.id)
    assert (found.state, found.progress) == ("succeeded", 1.0)
    assert found.result == {"numbers": list(range(3 * N_PARTS)), "worker": runner.worker}
    assert messages[0] == (0.0, "0 of 36 numbers")
    assert store.list(parent_id=job.id) == []


def test_workers_share_the_parts_and_a_killed_ones_part_alone_is_done_again(
    store: JobStore, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    start_worker()
    job = submit(store, seconds=0.15)
    wait(store, lambda: len(store.list(parent_id=job.id)) == N_PARTS)
    helper = start_worker()
    busy: list[JobView] = []

    def two_work() -> bool:
        busy[:] = store.list(parent_id=job.id, state="running")
        return len(busy) == 2

    wait(store, two_work)
    helper.send_signal(signal.SIGKILL)
    helper.wait(timeout=5)
    attempts: dict[str, int] = {}

    def ended() -> bool:
        attempts.update({p.id: p.attempts for p in store.list(parent_id=job.id)})
        return store.get(job.id).state == "succeeded"

    wait(store, ended)
    result = Done.model_validate(store.get(job.id).result)
    assert result.numbers == list(range(3 * N_PARTS))
    assert len(result.worker.split()) in (1, 2)
    assert sorted(attempts.values()) == [1] * (N_PARTS - 1) + [2]
    assert store.get(job.id).attempts == 1


def test_a_killed_cutter_is_followed_by_another_that_plans_nothing_anew(
    store: JobStore, settings: Settings, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first = start_worker()
    job = submit(store, seconds=0.1)
    wait(store, lambda: len(store.list(parent_id=job.id, state="succeeded")) == 3)
    before = {part.id for part in store.list(parent_id=job.id)}
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=5)
    wait(store, lambda: store.get(job.id).state == "queued")
    wait(store, lambda: not store.list(parent_id=job.id, state="running"))
    assert {part.id for part in store.list(parent_id=job.id)} == before
    plans: list[str] = []
    JobRunner("test", store, settings).run(job.id, lambda c: copy_all(c, plans=plans))
    found = store.get(job.id)
    assert (found.state, found.attempts, plans) == ("succeeded", 2, [])
    assert Done.model_validate(found.result).numbers == list(range(3 * N_PARTS))


def test_a_part_that_fails_fails_the_job_by_name_and_stops_the_others(
    store: JobStore, settings: Settings
) -> None:
    def fail(context: JobContext) -> BaseModel:
        if 6 in context.job.payload["numbers"]:
            msg = "image 'a.png' is gone"
            raise BadRequest(msg)
        return copy(context)

    job = submit(store)
    JobRunner("test", store, settings).run(job.id, lambda context: copy_all(context, fail))
    found = store.get(job.id)
    assert found.state == "failed"
    assert found.error == "PartFailed: part 3 failed: BadRequest: image 'a.png' is gone"
    states = [part.state for part in store.list(parent_id=job.id)]
    assert sorted(states) == ["cancelled"] * 9 + ["failed"] + ["succeeded"] * 2


def test_a_part_that_waits_for_a_back_end_lets_the_job_wait(
    store: JobStore, settings: Settings
) -> None:
    down = True
    plans: list[str] = []

    def work(context: JobContext) -> BaseModel:
        if down and 6 in context.job.payload["numbers"]:
            msg = "S3 (http://127.0.0.1:1): refused"
            raise BackendUnavailable(msg)
        return copy(context)

    job = submit(store)
    runner = JobRunner("test", store, settings)
    for _ in range(2):
        runner.run(job.id, lambda context: copy_all(context, work, plans))
        found = store.get(job.id)
        assert (found.state, found.attempts) == ("queued", 0)
        assert "S3 (http://127.0.0.1:1): refused" in found.message
    down = False
    runner.run(job.id, lambda context: copy_all(context, work, plans))
    assert store.get(job.id).state == "succeeded"
    assert plans == [job.id]


def test_cancelling_the_job_cancels_its_parts(store: JobStore, settings: Settings) -> None:
    job = submit(store, seconds=0.3)

    def cancelled(context: JobContext) -> BaseModel:
        store.cancel(job.id)
        return copy(context)

    JobRunner("test", store, settings).run(job.id, lambda context: copy_all(context, cancelled))
    assert store.get(job.id).state == "cancelled"
    assert {p.state for p in store.list(parent_id=job.id)} == {"cancelled"}


class Heard(Bell):
    """Rings nowhere, and remembers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(make_celery(settings))
        self.rung: list[str] = []

    def ring(self, kind: str, job_id: str) -> None:
        self.rung.append(job_id)


@pytest.fixture
def heard(store: JobStore, settings: Settings) -> JobStore:
    return JobStore(store.database, Heard(settings), settings)


def rung(store: JobStore) -> list[str]:
    assert isinstance(store.bell, Heard)
    return store.bell.rung


def test_who_has_done_a_part_rings_for_the_next_until_none_waits(
    heard: JobStore, settings: Settings
) -> None:
    job = submit(heard)
    helped: list[str] = []

    def leave_to_the_helper(context: JobContext) -> BaseModel:
        helper = JobRunner("test", heard, settings)
        while not helped and rung(heard):
            helper.answer(rung(heard).pop(0), copy)
        helped.append(context.job.id)
        return copy(context)

    JobRunner("test", heard, settings).run(
        job.id, lambda context: copy_all(context, leave_to_the_helper)
    )
    # This worker had the first one itself, and the helper all others.
    assert len(helped) == 1
    assert heard.get(job.id).state == "succeeded"
    JobRunner("test", heard, settings).answer("of a job that is over", copy)
    assert rung(heard) == []


def test_a_part_of_a_job_that_was_lost_goes_back(store: JobStore, settings: Settings) -> None:
    job = submit(store, seconds=0.6)
    eager = JobStore(store.database, store.bell, settings.model_copy(update={"job_stale_s": -1.0}))

    def lose(context: JobContext) -> BaseModel:
        with store.database.transaction() as session:
            session.execute(update(JobRow).where(JobRow.id == job.id).values(worker="another"))
        return copy(context)

    JobRunner("test", store, settings).run(job.id, lambda context: copy_all(context, lose))
    assert store.get(job.id).state == "running"
    states = {part.state for part in store.list(parent_id=job.id)}
    assert states == {"queued"}
    assert all(part.attempts == 0 for part in store.list(parent_id=job.id))
    eager.reap()


def test_a_cancelled_job_is_resumed_once_its_parts_have_stopped(
    store: JobStore, settings: Settings
) -> None:
    job = submit(store, seconds=0.3)
    elsewhere: list[Claim] = []

    def cancelled(context: JobContext) -> BaseModel:
        [last, *_] = store.list(parent_id=job.id, state="queued")
        claim = store.claim(last.id, "another worker")
        assert claim is not None
        elsewhere.append(claim)
        store.cancel(job.id)
        return copy(context)

    runner = JobRunner("test", store, settings)
    runner.run(job.id, lambda context: copy_all(context, cancelled))
    assert store.get(job.id).state == "cancelled"
    with pytest.raises(JobNotStopped, match="a part of it is still stopping"):
        store.resume(job.id)
    store.finish(elsewhere[0], "cancelled")
    assert store.resume(job.id).state == "queued"
    runner.run(job.id, copy_all)
    found = store.get(job.id)
    assert (found.state, found.attempts) == ("succeeded", 1)
    assert Done.model_validate(found.result).numbers == list(range(3 * N_PARTS))
    with pytest.raises(JobNotStopped, match="succeeded"):
        store.resume(job.id)


def test_the_reaper_rings_for_one_waiting_part_of_a_job_that_runs(
    heard: JobStore, settings: Settings
) -> None:
    job = submit(heard)
    later = settings.model_copy(update={"reconcile_interval_s": -1.0})
    reaper = JobStore(heard.database, heard.bell, later)
    counts: list[int] = []

    def reap(context: JobContext) -> BaseModel:
        rung(heard).clear()
        reaper.reap()
        counts.append(len(rung(heard)))
        if len(counts) == 3:
            msg = "S3: refused"
            raise BackendUnavailable(msg)
        return copy(context)

    JobRunner("test", heard, settings).run(job.id, lambda context: copy_all(context, reap))
    assert counts == [1, 1, 1]
    # The job waits now, and its parts with it.
    rung(heard).clear()
    reaper.reap()
    assert rung(heard) == [job.id]


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.4, "4 s"), (100, "2 min"), (3600, "60 min"), (11100, "3 h 5 min")]
)
def test_time_left_is_told_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
