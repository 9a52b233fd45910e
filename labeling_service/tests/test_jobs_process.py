import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import update

from labeling_service.app.jobs_process import SafetyNet
from labeling_service.tests.support import World
from shared.database import Base, Database, utcnow
from shared.jobs.bell import Bell, make_celery
from shared.jobs.retire import deletion_of
from shared.jobs.store import JobStore, JobSubmit
from shared.jobs.tables import JobRow
from shared.models.batches import BATCH_KIND, BatchCounts
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    # An hour between two looks: what moves after the first one was moved by the bell.
    return Settings(
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        broker_url=valkey_url,
        reconcile_interval_s=3600,
    )


@pytest.fixture
def rung_world(settings: Settings) -> Iterator[World]:
    """A world whose jobs ring a real bell when they end."""
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    world = World(database)
    world.jobs.bell = Bell(make_celery(settings))
    yield world
    database.close()


@pytest.fixture
def jobs_process(settings: Settings, rung_world: World) -> Iterator[subprocess.Popen[bytes]]:
    given = {
        f"FOVEA_{name.upper()}": str(getattr(settings, name))
        for name in ("database_url", "broker_url", "reconcile_interval_s")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "labeling_service.app.jobs_process"],
        cwd=ROOT,
        env={**os.environ, **given},
    )
    yield process
    process.kill()
    process.wait(timeout=5)


def test_the_end_of_a_job_moves_its_round_at_once(
    rung_world: World, settings: Settings, jobs_process: subprocess.Popen[bytes]
) -> None:
    rung_world.jobs.bell.ring_reconciler("unknown")
    queue = redis.Redis.from_url(settings.broker_url)
    wait_for(lambda: queue.llen("jobs") == 0)  # it answers the bell, and its first look is over
    round_id = rung_world.start().id
    rung_world.finish(round_id, "score")
    wait_for(lambda: rung_world.round(round_id).state == "selecting", timeout_s=5)
    rung_world.finish(round_id, "select")
    wait_for(lambda: rung_world.round(round_id).state == "labelling", timeout_s=5)
    jobs_process.send_signal(signal.SIGTERM)
    assert jobs_process.wait(timeout=15) == 0


def test_a_look_moves_rounds_and_gives_stale_jobs_to_another_worker(world: World) -> None:
    world.jobs = JobStore(world.database, world.jobs.bell, Settings(job_stale_s=5))
    round_id = world.start().id
    world.finish(round_id, "score")
    net = SafetyNet(world.jobs, world.reconciler, interval_s=3600)
    net.look()
    assert world.round(round_id).state == "selecting"
    world.jobs.claim(world.job(round_id, "select").id, "worker")
    with world.database.transaction() as session:
        session.execute(update(JobRow).values(heartbeat_at=utcnow() - timedelta(seconds=6)))
    net.look()
    assert world.job(round_id, "select").state == "queued"


def test_a_look_deletes_batches_that_ended_a_month_ago(world: World) -> None:
    payload = BatchCounts(total=0, answered=0, failed=0)
    with world.database.transaction() as session:
        old, new, waiting = (
            world.jobs.submit(session, JobSubmit(BATCH_KIND, "cells", payload)).id for _ in range(3)
        )
    for job_id, days in ((old, 31), (new, 29)):
        world.jobs.cancel(job_id)
        with world.database.transaction() as session:
            row = update(JobRow).where(JobRow.id == job_id)
            session.execute(row.values(finished_at=utcnow() - timedelta(days=days)))
    SafetyNet(world.jobs, world.reconciler, interval_s=3600).look()
    assert deletion_of(world.jobs, old) is not None
    assert {job.id for job in world.jobs.list(kind=BATCH_KIND)} == {new, waiting}


def test_the_clock_looks_again_and_again_and_stops(world: World) -> None:
    round_id = world.start().id
    net = SafetyNet(world.jobs, world.reconciler, interval_s=0.05)
    net.start()
    world.finish(round_id, "score")
    wait_for(lambda: world.round(round_id).state == "selecting")
    net.stop()


def test_a_database_that_is_down_is_waited_for(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    world = World(database)  # no tables: every query fails
    SafetyNet(world.jobs, world.reconciler, interval_s=3600).look()
