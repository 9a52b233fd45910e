from pathlib import Path

import cv2
import pytest
from pydantic import SecretStr

from shared.models.data import DatasetManifest, ManifestItem, Split
from shared.models.geometry import Annotation
from shared.objects.directory import DirectoryStore, SignedAddresses
from training_service.tests.data import checkerboard

SPLITS: tuple[Split, ...] = ("train",) * 6 + ("val",) * 2 + ("test",) * 2


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    addresses = SignedAddresses("http://public", "http://internal", SecretStr("secret"))
    return DirectoryStore(tmp_path / "objects", addresses)


@pytest.fixture
def manifest(store: DirectoryStore) -> DatasetManifest:
    return tiny_manifest(store)
