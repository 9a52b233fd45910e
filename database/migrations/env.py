"""Alembic's entry: runs migrations on the connection it is given, and knows every table."""

import importlib
from typing import Literal

from alembic import context
from sqlalchemy import Connection

from shared.database import Base, UtcDateTime

TABLES = (
    "shared.jobs.tables",
    "gateway.app.models.tables",
    "data_service.app.models.tables",
    "labeling_service.app.models.tables",
    "inference_service.app.models.tables",
    "monitoring.evidently_service.app.models.tables",
)


def load_tables() -> None:
    """Import the tables of every service that lies here; an image has its own only."""
    for name in TABLES:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if not name.startswith(str(exc.name)):
                raise


def _render(kind: str, item: object, context: object) -> str | Literal[False]:
    """Write the plain type, so that a migration does not depend on code that may change."""
    del context
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(connection: Connection) -> None:
    """Run the migrations."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
        compare_type=True,
        render_item=_render,
    )
    with context.begin_transaction():
        context.run_migrations()


load_tables()
run(context.config.attributes["connection"])
