"""Fixtures of the labelling service's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling_service.app.models.tables import RoundRow, SimulationRow, TaskRow
from labeling_service.tests.support import World
from shared.database import Base, Database
from shared.jobs.tables import JobRow
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.settings import Settings
from shared.tests.postgres import database_url, postgres_server, postgres_url
from shared.tests.valkey import valkey_url

__all__ = ["database_url", "postgres_server", "postgres_url", "store", "valkey_url", "world"]

TABLES = [
    row.metadata.tables[row.__tablename__] for row in (JobRow, RoundRow, TaskRow, SimulationRow)
]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """The service on SQLite and on PostgreSQL."""
    database = Database(database_url)
    Base.metadata.create_all(database.engine, tables=TABLES)
    yield World(database)
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return object_store(Settings(object_store_url=f"file:{tmp_path}/objects"))
