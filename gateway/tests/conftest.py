"""A gateway on a real socket, with real small services behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from gateway.app.main import create_app
from gateway.app.models.schemas import KeyCreate, Role
from gateway.app.services.keys import ApiKeys
from gateway.tests.echo import Echo
from gateway.tests.upstream import serving
from shared.database import Base, Database
from shared.settings import Settings

# Nothing listens there.
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its address, its database, and the service behind `data_url`."""

    url: str
    settings: Settings
    database: Database
    data: Echo

    def key(self, role: Role, name: str = "ann") -> str:
        keys = ApiKeys(self.database, self.settings.service_key)
        return keys.create(KeyCreate(name=name, role=role)).key

    def client(self, key: str | None = None, *, role: Role = "admin") -> httpx2.Client:
        key = self.key(role) if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20.0, trust_env=False)


@pytest.fixture
def data() -> Echo:
    return Echo()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        broker_url="redis://127.0.0.1:1/0",
        service_key=SecretStr("the-service-key"),
        max_upload_mb=64,
        data_url=NOWHERE,
        inference_url=NOWHERE,
        labeling_url=NOWHERE,
        training_url=NOWHERE,
        calibration_url=NOWHERE,
        evidently_url=NOWHERE,
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def gateway(settings: Settings, database: Database, data: Echo) -> Iterator[Gateway]:
    with serving(data) as data_url:
        settings = settings.model_copy(update={"data_url": data_url})
        with serving(create_app(settings)) as url:
            yield Gateway(url, settings, database, data)
