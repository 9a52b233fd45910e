"""What the labelling service is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labeling_service.app.core.labelling.builtin import BuiltinLabelling
from labeling_service.app.core.labelling.port import Labelling
from labeling_service.app.services.reconcile import Reconciler
from labeling_service.app.services.rounds import Rounds
from labeling_service.app.services.simulations import Simulations
from labeling_service.app.services.tasks import Tasks
from shared.client import GatewayClient
from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.service import Check
from shared.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """Everything that a request may need."""

    database: Database
    bell: Bell
    jobs: JobStore
    client: GatewayClient
    labelling: Labelling
    reconciler: Reconciler
    rounds: Rounds
    tasks: Tasks
    simulations: Simulations

    def close(self) -> None:
        """Close every connection."""
        self.client.close()
        self.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Return the service's parts; nothing is connected before the first use."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    jobs = JobStore(database, bell, settings)
    client = GatewayClient(settings.gateway_url, settings.service_key)
    labelling = BuiltinLabelling(database)
    reconciler = Reconciler(database, jobs, labelling)
    return Dependencies(
        database=database,
        bell=bell,
        jobs=jobs,
        client=client,
        labelling=labelling,
        reconciler=reconciler,
        rounds=Rounds(database, jobs, client, labelling),
        tasks=Tasks(database, client, labelling, on_complete=reconciler.reconcile),
        simulations=Simulations(database, client),
    )


def checks(state: Mapping[str, Any]) -> dict[str, Check]:
    """Return how each back end is asked for an answer."""
    deps: Dependencies = state["deps"]
    return {"database": deps.database.check, "broker": deps.bell.check}
