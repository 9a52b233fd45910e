"""What the drift service is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring.evidently_service.app.services.reports import DriftReports
from shared.client import GatewayClient
from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.service import Check
from shared.settings import Settings

if TYPE_CHECKING:
    from monitoring.evidently_service.app.services.drift import DriftReporter


@dataclass(frozen=True)
class Dependencies:
    """Everything that a request may need."""

    settings: Settings
    database: Database
    bell: Bell
    jobs: JobStore
    store: ObjectStore
    reports: DriftReports
    client: GatewayClient

    def close(self) -> None:
        """Close every connection."""
        self.client.close()
        self.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Return the service's parts; nothing is connected before the first use."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    store = object_store(settings)
    return Dependencies(
        settings=settings,
        database=database,
        bell=bell,
        jobs=JobStore(database, bell, settings),
        store=store,
        reports=DriftReports(store),
        client=GatewayClient(settings.gateway_url, settings.service_key),
    )


def build_reporter(settings: Settings) -> "DriftReporter":
    """Return what the worker works with; only it loads MLflow's client and pyarrow."""
    from monitoring.evidently_service.app.services.drift import DriftReporter
    from shared.registry import ModelRegistry

    return DriftReporter(object_store(settings), ModelRegistry(settings.mlflow_url))


def checks(state: Mapping[str, Any]) -> dict[str, Check]:
    """Return how each back end is asked for an answer."""
    deps: Dependencies = state["deps"]
    return {
        "database": deps.database.check,
        "broker": deps.bell.check,
        "object store": deps.store.check,
    }
