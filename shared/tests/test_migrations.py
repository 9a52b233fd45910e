import importlib

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from shared.database import Base, Database
from shared.errors import BackendUnavailable
from shared.migrations import upgrade

TABLES = (
    "shared.jobs.tables",
    "gateway.app.models.tables",
    "data_service.app.models.tables",
    "labeling_service.app.models.tables",
)


def test_the_migrations_make_exactly_the_tables_that_the_services_declare(
    database_url: str,
) -> None:
    for name in TABLES:
        importlib.import_module(name)
    upgrade(database_url)
    database = Database(database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)
    database = Database(database_url)
    assert {"job", "project", "image", "round", "task"} <= set(
        inspect(database.engine).get_table_names()
    )
    database.close()


def test_a_database_that_is_down_is_named() -> None:
    with pytest.raises(BackendUnavailable, match=r"database \(postgresql\+psycopg\)"):
        upgrade("postgresql+psycopg://fovea@127.0.0.1:1/fovea?connect_timeout=2")
