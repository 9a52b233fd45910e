import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from shared.database import Base, Database, utcnow
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobAlreadyFinished, JobStore, JobSubmit, UnknownJob
from shared.jobs.tables import JobRow
from shared.models.jobs import JobView
from shared.settings import Settings


class Payload(BaseModel):
    n: int = 1


class RecordingBell(Bell):
    """Rings nowhere and remembers; the bell itself is tested with a real broker."""

    def __init__(self) -> None:
        super().__init__(make_celery(Settings()))
        self.rung: list[str] = []
        self.reconciled: list[str] = []

    def ring(self, kind: str, job_id: str) -> None:
        self.rung.append(job_id)

    def ring_reconciler(self, round_id: str) -> None:
        self.reconciled.append(round_id)


@pytest.fixture
def store(database_url: str) -> Iterator[JobStore]:
    database = Database(database_url)
    Base.metadata.create_all(database.engine)
    yield JobStore(database, RecordingBell(), Settings())
    database.close()


def submit(store: JobStore, key: str | None = None, round_id: str | None = None) -> JobView:
    job = JobSubmit("training.train", "cells", Payload(), key=key, round_id=round_id, step="train")
    with store.database.transaction() as session:
        return store.submit(session, job)


def rung(store: JobStore) -> list[str]:
    assert isinstance(store.bell, RecordingBell)
    return store.bell.rung


def age(store: JobStore, job_id: str, seconds: float) -> None:
    then = utcnow() - timedelta(seconds=seconds)
    with store.database.transaction() as session:
        session.execute(
            update(JobRow).where(JobRow.id == job_id).values(heartbeat_at=then, rung_at=then)
        )


def test_a_submitted_job_is_queued_and_rung_after_the_commit(store: JobStore) -> None:
    with store.database.transaction() as session:
        job = store.submit(session, JobSubmit("data.ingest", "cells", Payload(n=7)))
        assert rung(store) == []
    assert rung(store) == [job.id]
    found = store.get(job.id)
    assert (found.state, found.payload, found.attempts) == ("queued", {"n": 7}, 0)


def test_the_time_counts_from_the_first_claim(store: JobStore) -> None:
    job = submit(store)
    first = store.claim(job.id, "one")
    assert first is not None
    assert store.release(first, "waiting", attempt_counts=False)
    second = store.claim(job.id, "two")
    assert second is not None
    assert second.job.started_at == first.job.started_at is not None


def test_a_rolled_back_submit_leaves_no_job_and_rings_nobody(store: JobStore) -> None:
    def submit_and_fail() -> None:
        with store.database.transaction() as session:
            store.submit(session, JobSubmit("data.ingest", "cells", Payload()))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_and_fail()
    assert list(store.list()) == []
    assert rung(store) == []


def test_the_same_key_twice_is_one_job_rung_once(store: JobStore) -> None:
    first, second = submit(store, key="r1:train"), submit(store, key="r1:train")
    assert first.id == second.id
    assert rung(store) == [first.id]


def test_eight_workers_at_once_and_one_gets_the_job(store: JobStore) -> None:
    job = submit(store)
    won: list[str] = []
    barrier = threading.Barrier(8)

    def work(name: str) -> None:
        barrier.wait()
        if store.claim(job.id, name) is not None:
            won.append(name)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get(job.id).attempts == 1


def test_a_finished_job_keeps_its_result_and_rings_its_round(store: JobStore) -> None:
    job = submit(store, round_id="r1")
    claim = store.claim(job.id, "w1")
    assert claim is not None
    assert store.finish(claim, "succeeded", result={"map50": 0.5})
    found = store.get(job.id)
    assert (found.state, found.result, found.progress) == ("succeeded", {"map50": 0.5}, 1.0)
    assert isinstance(store.bell, RecordingBell)
    assert store.bell.reconciled == ["r1"]


def test_a_worker_that_lost_its_job_can_neither_beat_nor_finish(store: JobStore) -> None:
    job = submit(store)
    lost = store.claim(job.id, "w1")
    age(store, job.id, 60)
    assert store.reap() == 1
    owner = store.claim(job.id, "w2")
    assert lost is not None
    assert owner is not None
    assert not store.beat(lost, 0.9)
    assert not store.finish(lost, "failed", error="late")
    assert store.finish(owner, "succeeded", result={})
    assert (store.get(job.id).state, store.get(job.id).attempts) == ("succeeded", 2)


def test_a_job_whose_workers_die_fails_after_its_last_attempt(store: JobStore) -> None:
    job = submit(store)
    for _ in range(3):
        assert store.claim(job.id, "w1") is not None
        age(store, job.id, 60)
        store.reap()
    found = store.get(job.id)
    assert found.state == "failed"
    assert found.error == "the worker was lost 3 times (last: w1)"


def test_the_reaper_leaves_a_beating_job_alone(store: JobStore) -> None:
    job = submit(store)
    assert store.claim(job.id, "w1") is not None
    assert store.reap() == 0
    assert store.get(job.id).state == "running"


def test_the_reaper_rings_again_for_a_job_that_waits_too_long(store: JobStore) -> None:
    job = submit(store)
    age(store, job.id, 60)
    assert store.reap() == 1
    assert rung(store) == [job.id, job.id]
    assert store.reap() == 0


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    job = submit(store)
    assert store.cancel(job.id).state == "cancelled"
    assert store.claim(job.id, "w1") is None
    with pytest.raises(JobAlreadyFinished, match="is already cancelled"):
        store.cancel(job.id)


def test_a_running_job_is_asked_to_stop(store: JobStore) -> None:
    job = submit(store)
    store.claim(job.id, "w1")
    assert store.cancel(job.id).state == "running"
    assert store.cancel_requested(job.id)


def test_a_released_job_waits_again_and_its_attempt_does_not_count(store: JobStore) -> None:
    job = submit(store)
    claim = store.claim(job.id, "w1")
    assert claim is not None
    assert store.release(claim, "stopping", attempt_counts=False)
    found = store.get(job.id)
    assert (found.state, found.attempts) == ("queued", 0)
    assert rung(store) == [job.id, job.id]


def test_a_released_job_that_was_cancelled_ends(store: JobStore) -> None:
    job = submit(store)
    claim = store.claim(job.id, "w1")
    assert claim is not None
    store.cancel(job.id)
    assert store.release(claim, "stopping", attempt_counts=False)
    assert store.get(job.id).state == "cancelled"
    assert store.resume(job.id).state == "queued"
    assert not store.cancel_requested(job.id)


def test_an_unknown_job_is_named(store: JobStore) -> None:
    with pytest.raises(UnknownJob, match="unknown job: 'j7'"):
        store.get("j7")


def test_jobs_are_listed_by_project_and_state_newest_first(store: JobStore) -> None:
    first, second = submit(store), submit(store)
    store.cancel(first.id)
    assert [j.id for j in store.list(project="cells")] == [second.id, first.id]
    assert [j.id for j in store.list(state="cancelled")] == [first.id]
    assert list(store.list(project="other")) == []
