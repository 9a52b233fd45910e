"""What the calibration service is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibration_service.app.services.calibration import Calibrator
from calibration_service.app.services.evidence import EvidenceReader
from calibration_service.app.services.gate import Gate
from shared.client import GatewayClient
from shared.database import Database
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.service import Check
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.registry import ModelRegistry


@dataclass(frozen=True)
class Core:
    """What worker and API both need."""

    store: ObjectStore
    client: GatewayClient
    registry: ModelRegistry
    evidence: EvidenceReader
    calibrator: Calibrator
    gate: Gate


@dataclass(frozen=True)
class Dependencies:
    """Everything that a request may need."""

    core: Core
    database: Database
    bell: Bell
    jobs: JobStore

    def close(self) -> None:
        """Close every connection."""
        self.core.client.close()
        self.bell.close()
        self.database.close()


def build_core(settings: Settings) -> Core:
    """Return the parts that do the work; nothing is connected before the first use."""
    # MLflow's client takes a second to import.
    from shared.registry import ModelRegistry

    store = object_store(settings)
    client = GatewayClient(settings.gateway_url, settings.service_key)
    registry = ModelRegistry(settings.mlflow_url)
    evidence = EvidenceReader(store, client)
    return Core(
        store=store,
        client=client,
        registry=registry,
        evidence=evidence,
        calibrator=Calibrator(evidence, registry),
        gate=Gate(evidence, registry),
    )


def build(settings: Settings) -> Dependencies:
    """Return the API's parts; nothing is connected before the first use."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    return Dependencies(
        core=build_core(settings),
        database=database,
        bell=bell,
        jobs=JobStore(database, bell, settings),
    )


def checks(state: Mapping[str, Any]) -> dict[str, Check]:
    """Return how each back end is asked for an answer."""
    deps: Dependencies = state["deps"]
    return {
        "database": deps.database.check,
        "broker": deps.bell.check,
        "objects": deps.core.store.check,
        "mlflow": deps.core.registry.check,
    }
