from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from shared.database import Base, Database, utcnow
from shared.jobs.bell import Bell, make_celery
from shared.jobs.parts import Part, insert_parts
from shared.jobs.retire import JobNotOver, deletion_of, retire, retire_old
from shared.jobs.store import JobNotStopped, JobStore, JobSubmit, UnknownJob
from shared.jobs.tables import JobRow
from shared.models.jobs import JobView
from shared.settings import Settings

KIND = "inference.batch"
DAY = timedelta(days=1)


class Payload(BaseModel):
    folder: str = "a"


class SilentBell(Bell):
    """Rings nowhere."""

    def ring(self, kind: str, job_id: str) -> None:
        del kind, job_id


@pytest.fixture
def store(database_url: str) -> Iterator[JobStore]:
    database = Database(database_url)
    Base.metadata.create_all(database.engine)
    yield JobStore(database, SilentBell(make_celery(Settings())), Settings())
    database.close()


def submit(store: JobStore, kind: str = KIND) -> JobView:
    with store.database.transaction() as session:
        return store.submit(session, JobSubmit(kind, "cells", Payload()))


def cancelled(store: JobStore) -> JobView:
    return store.cancel(submit(store).id)


def ended(store: JobStore, job_id: str, ago: timedelta) -> None:
    with store.database.transaction() as session:
        changed = update(JobRow).where(JobRow.id == job_id)
        session.execute(changed.values(finished_at=utcnow() - ago))


def test_a_job_that_is_over_makes_way_for_the_one_that_deletes_its_files(store: JobStore) -> None:
    job = cancelled(store)
    assert deletion_of(store, job.id) is None
    deletion = retire(store, job.id)
    assert (deletion.kind, deletion.project, deletion.state) == (
        f"{KIND}_deletion",
        "cells",
        "queued",
    )
    assert deletion.payload == {"folder": "a"}
    assert deletion_of(store, job.id) == deletion
    with pytest.raises(UnknownJob):
        store.get(job.id)
    with pytest.raises(UnknownJob):
        retire(store, job.id)


def test_a_job_that_is_not_over_stays_and_its_state_is_said(store: JobStore) -> None:
    job = submit(store)
    with pytest.raises(JobNotOver, match="is queued"):
        retire(store, job.id)
    store.claim(job.id, "w1")
    with pytest.raises(JobNotOver, match="is running"):
        retire(store, job.id)
    assert store.get(job.id).state == "running"
    assert deletion_of(store, job.id) is None


def test_parts_go_with_their_job_but_not_before_the_last_one_stopped(store: JobStore) -> None:
    job = submit(store)
    claim = store.claim(job.id, "w1")
    assert claim is not None
    insert_parts(store, claim, f"{KIND}_part", [Part(Payload(), 1)] * 3)
    part = store.claim(store.list(parent_id=job.id)[0].id, "w2")
    assert part is not None
    store.cancel(job.id)
    store.finish(claim, "cancelled")
    with pytest.raises(JobNotOver, match="cancelled, but a part of it is still stopping"):
        retire(store, job.id)
    store.finish(part, "cancelled")
    retire(store, job.id)
    assert list(store.list(parent_id=job.id)) == []


def test_only_what_ended_long_ago_is_retired(store: JobStore) -> None:
    old, new, waiting, other = (
        cancelled(store),
        cancelled(store),
        submit(store),
        submit(store, "training.train"),
    )
    store.cancel(other.id)
    for job, ago in ((old, 31 * DAY), (new, 29 * DAY), (other, 31 * DAY)):
        ended(store, job.id, ago)
    assert retire_old(store, KIND, 30 * DAY) == 1
    assert deletion_of(store, old.id) is not None
    assert {j.id for j in store.list()} >= {new.id, waiting.id, other.id}
    # In between it goes on: it has no end.
    store.resume(new.id)
    assert retire_old(store, KIND, timedelta(0)) == 0


def test_a_deletion_that_nobody_finished_is_tried_again_a_day_later(store: JobStore) -> None:
    deletion = retire(store, cancelled(store).id)
    store.cancel(deletion.id)
    retire_old(store, KIND, 30 * DAY)
    assert store.get(deletion.id).state == "cancelled"
    ended(store, deletion.id, 2 * DAY)
    retire_old(store, KIND, 30 * DAY)
    assert store.get(deletion.id).state == "queued"


def test_of_those_who_retire_and_resume_a_job_at_once_one_has_it(store: JobStore) -> None:
    attempts: list[Callable[[str], JobView]] = [
        partial(retire, store),
        partial(retire, store),
        store.resume,
        store.resume,
    ]

    def succeeds(attempt: Callable[[str], JobView], job_id: str, together: Barrier) -> bool:
        together.wait()
        try:
            attempt(job_id)
        except (UnknownJob, JobNotOver, JobNotStopped):
            return False
        return True

    with ThreadPoolExecutor(len(attempts)) as pool:
        for _ in range(10):
            job, together = cancelled(store), Barrier(len(attempts))
            started = [pool.submit(succeeds, a, job.id, together) for a in attempts]
            retired, twice, resumed, again = (each.result() for each in started)
            assert not (retired and twice)
            assert (retired or twice) != (resumed or again)
            assert (deletion_of(store, job.id) is not None) == (retired or twice)
            if resumed or again:
                assert store.get(job.id).state == "queued"
