from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.models.data import DatasetManifest
from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.tests.mlflow_server import mlflow_url
from training_service.tests.data import tiny_manifest

__all__ = ["mlflow_url"]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    addresses = SignedAddresses("http://public", "http://internal", SecretStr("secret"))
    return DirectoryStore(tmp_path / "objects", addresses)


@pytest.fixture
def manifest(store: DirectoryStore) -> DatasetManifest:
    return tiny_manifest(store)
