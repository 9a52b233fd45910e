from pathlib import Path

import pytest

from shared.settings import Settings
from shared.vectors.lancedb_store import LanceDBStore
from shared.vectors.weaviate_store import WeaviateStore
from shared.vectors.wiring import vector_store

SECRETS = {"service_key": "s" * 32, "signing_key": "s" * 32}


def _settings(url: str) -> Settings:
    return Settings.model_validate({"vector_store_url": url, **SECRETS})


def test_lancedb_is_a_folder(tmp_path: Path) -> None:
    store = vector_store(_settings(f"lancedb:{tmp_path}/vectors"))
    assert isinstance(store, LanceDBStore)
    assert store.folder == tmp_path / "vectors"


def test_weaviate_is_not_asked_anything_yet() -> None:
    assert isinstance(vector_store(_settings("weaviate://weaviate:8080?grpc=50051")), WeaviateStore)


@pytest.mark.parametrize("url", ["weaviate:", "weaviate://host:1?grpc=x"])
def test_a_weaviate_url_without_a_part_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="has to be weaviate://HOST:HTTP_PORT"):
        vector_store(_settings(url))


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ValueError, match="unknown scheme of vector_store_url: 'qdrant'"):
        vector_store(_settings("qdrant://somewhere"))
