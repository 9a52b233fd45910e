"""Which adapters the service runs on."""

from dataclasses import dataclass

from shared.client import GatewayClient
from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.wiring import object_store
from shared.registry import ModelRegistry
from shared.settings import Settings
from training_service.app.services.ports import DatasetReader
from training_service.app.services.training import Training


@dataclass(frozen=True)
class Dependencies:
    """What the routes work with."""

    database: Database
    bell: Bell
    jobs: JobStore
    registry: ModelRegistry
    datasets: DatasetReader
    max_upload_mb: int

    def close(self) -> None:
        """Let go of every connection."""
        self.datasets.close()
        self.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Return the dependencies of the HTTP service."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    return Dependencies(
        database=database,
        bell=bell,
        jobs=JobStore(database, bell, settings),
        registry=ModelRegistry(settings.mlflow_url, settings.mlflow_public_url),
        datasets=GatewayClient(settings.gateway_url, settings.service_key),
        max_upload_mb=settings.max_upload_mb,
    )


def build_training(settings: Settings) -> Training:
    """Return what the worker works with."""
    return Training(
        settings=settings,
        store=object_store(settings),
        datasets=GatewayClient(settings.gateway_url, settings.service_key),
        registry=ModelRegistry(settings.mlflow_url, settings.mlflow_public_url),
    )
