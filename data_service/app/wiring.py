"""The only module that names adapters."""

from collections.abc import Mapping
from dataclasses import dataclass

from data_service.app.services.ingestion import Parts
from data_service.app.services.source import Remote
from shared.database import Database
from shared.fetch import Fetcher
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store, s3_bucket
from shared.service import Check
from shared.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """What the endpoints and tasks of data_service need."""

    settings: Settings
    database: Database
    store: ObjectStore
    jobs: JobStore
    remote: Remote

    @property
    def ingestion(self) -> Parts:
        """Return what an ingestion needs."""
        return Parts(self.settings, self.database, self.store, self.remote)

    def checks(self) -> Mapping[str, Check]:
        """Return one check per back end."""
        return {
            "database": self.database.check,
            "object store": self.store.check,
            "broker": self.jobs.bell.check,
        }

    def close(self) -> None:
        """Close every connection."""
        self.remote.fetcher.close()
        self.jobs.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Build everything from the settings; nothing is connected yet."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    limit = settings.max_upload_mb * 2**20
    fetcher = Fetcher(limit, settings.private_hosts, settings.fetch_rate_per_s)
    return Dependencies(
        settings,
        database,
        object_store(settings),
        JobStore(database, bell, settings),
        Remote(fetcher, lambda name: s3_bucket(settings, name)),
    )
