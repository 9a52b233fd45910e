"""Real back ends in a temporary folder: SQLite and the directory store."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from data_service.app.main import create_app
from data_service.app.services.ingestion import Ingestion, ingest
from data_service.app.services.projects import create_project
from data_service.app.wiring import Dependencies, build
from data_service.tests.builders import write_files
from shared.database import Base
from shared.models.data import (
    IngestionCreate,
    IngestionReport,
    ProjectCreate,
    SplitFractions,
)
from shared.service import INTERNAL_KEY
from shared.settings import Settings

ALL_TRAIN = SplitFractions(val=0, gate=0, test=0)

IngestFiles = Callable[..., IngestionReport]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    roots = tmp_path / "roots"
    roots.mkdir()
    return Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        broker_url="redis://127.0.0.1:1/0",
        ingest_roots=str(roots),
        max_upload_mb=2,
        max_image_megapixels=1.0,
    )


@pytest.fixture
def deps(settings: Settings) -> Iterator[Dependencies]:
    built = build(settings)
    Base.metadata.create_all(built.database.engine)
    create_project(built.database, ProjectCreate(name="farm", splits=ALL_TRAIN))
    yield built
    built.close()


@pytest.fixture
def client(deps: Dependencies) -> Iterator[TestClient]:
    headers = {INTERNAL_KEY: deps.settings.service_key.get_secret_value()}
    with TestClient(create_app(deps.settings), headers=headers) as opened:
        yield opened


@pytest.fixture
def ingest_path(deps: Dependencies) -> IngestFiles:
    """Ingest a path of the server."""

    def run(path: Path, project: str = "farm", job: str = "", **request: object) -> IngestionReport:
        create = IngestionCreate.model_validate({"path": str(path), **request})
        ingestion = Ingestion(job or uuid.uuid4().hex, project, create)
        return ingest(deps.ingestion, ingestion, lambda fraction, message: None)

    return run


@pytest.fixture
def ingest_files(ingest_path: IngestFiles, tmp_path: Path) -> IngestFiles:
    """Write files into a new folder of the server and ingest it."""

    def run(
        files: Mapping[str, bytes | str], project: str = "farm", **request: object
    ) -> IngestionReport:
        root = write_files(tmp_path / "roots" / uuid.uuid4().hex, files)
        return ingest_path(root, project, **request)

    return run
