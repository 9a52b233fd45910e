import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from calibration_service.tests.synthetic import CLASSES, World
from shared.objects.directory import DirectoryStore, SignedAddresses

if TYPE_CHECKING:
    from shared.registry import ModelRegistry

AddModel = Callable[[str], int]


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return MLflow's own store on SQLite: the real client, no server."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def shared_registry(mlflow_url: str) -> "ModelRegistry":
    from shared.registry import ModelRegistry

    return ModelRegistry(mlflow_url)


@pytest.fixture
def registry(
    shared_registry: "ModelRegistry", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "ModelRegistry":
    # A new experiment of the SQLite store keeps its files below the working folder.
    monkeypatch.chdir(tmp_path)
    return shared_registry


@pytest.fixture
def project() -> str:
    return f"digits-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def world(project: str) -> World:
    return World(project)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    addresses = SignedAddresses("http://a", "http://b", SecretStr("s" * 32))
    return DirectoryStore(tmp_path / "objects", addresses)


@pytest.fixture
def add_model(registry: "ModelRegistry", tmp_path: Path) -> AddModel:
    """Return a function that registers one more model of a project."""
    from shared.registry import Registration

    def add(project: str) -> int:
        package = tmp_path / "package"
        package.mkdir(exist_ok=True)
        (package / "model.json").write_text("{}")
        view = registry.register(
            Registration(
                project=project,
                job_id=uuid.uuid4().hex,
                package=package,
                classes=CLASSES,
                weights_sha256="a" * 64,
                dataset_version=1,
                dataset_hash="b" * 64,
                round_id=None,
                params={},
                metrics={"map50": 0.5},
                history={},
            )
        )
        return view.version

    return add
