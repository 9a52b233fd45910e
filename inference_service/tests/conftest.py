from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from inference_service.app.main import create_app
from inference_service.app.wiring import Dependencies, Neighbours, WorkerParts, build, build_worker
from inference_service.tests.neighbours import LocalGateway, LocalRegistry
from shared.database import Base, Database
from shared.objects.wiring import object_store
from shared.service import INTERNAL_KEY
from shared.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        vector_store_url=f"lancedb:{tmp_path}/vectors",
        broker_url="redis://127.0.0.1:1/0",
        base_model="scratch",
        # Measuring takes seconds; tests/core does it.
        engine="onnxruntime",
        model_poll_s=0.05,
        threads=1,
    )


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    registry = LocalRegistry(tmp_path / "registry")
    registry.add(1)
    registry.production = 1
    return registry


@pytest.fixture
def gateway(settings: Settings) -> LocalGateway:
    return LocalGateway(object_store(settings))


@pytest.fixture
def worker(settings: Settings, gateway: LocalGateway, registry: LocalRegistry) -> WorkerParts:
    return build_worker(settings, Neighbours(gateway, registry))


@pytest.fixture
def client(
    settings: Settings, gateway: LocalGateway, registry: LocalRegistry
) -> Iterator[TestClient]:
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    database.close()

    def build_here(settings: Settings) -> Dependencies:
        return build(settings, Neighbours(gateway, registry))

    app = create_app(settings, build_here)
    key = settings.service_key.get_secret_value()
    with TestClient(app, headers={INTERNAL_KEY: key}) as client:
        yield client


@pytest.fixture
def deps(client: TestClient) -> Dependencies:
    found: Dependencies = client.app_state["deps"]
    return found
