"""The only module that names adapters."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.service import Check
from shared.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """What the endpoints and tasks of data_service need."""

    settings: Settings
    database: Database
    store: ObjectStore
    jobs: JobStore

    def checks(self) -> Mapping[str, Check]:
        """Return one check per back end."""
        return {
            "database": self.database.check,
            "object store": self.store.check,
            "broker": self.jobs.bell.check,
        }

    def close(self) -> None:
        """Close every connection."""
        self.jobs.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Build everything from the settings; nothing is connected yet."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    return Dependencies(
        settings, database, object_store(settings), JobStore(database, bell, settings)
    )
