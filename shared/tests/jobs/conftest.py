"""Jobs in SQLite, rung through a real broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.database import Base, Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    return Settings(
        database_url=f"sqlite:///{tmp_path}/jobs.db",
        broker_url=valkey_url,
        job_stale_s=2.0,
        job_heartbeat_s=0.2,
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    yield JobStore(database, Bell(make_celery(settings)), settings)
    database.close()
