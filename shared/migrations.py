"""Brings a database to the newest version of the one history in `database/migrations`."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from shared.database import Database

MIGRATIONS = Path(__file__).resolve().parents[1] / "database" / "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`, each in its own transaction.

    Raises:
        BackendUnavailable: the database does not answer.
    """
    database = Database(database_url)
    database.check()
    with database.engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    database.close()


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
