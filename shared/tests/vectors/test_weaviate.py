"""Against the real server that FOVEA_TEST_WEAVIATE_URL names, where there is one."""

import os
from collections.abc import Iterator

import pytest

from shared.errors import BackendUnavailable
from shared.settings import Settings
from shared.tests.ports import free_ports
from shared.vectors.contract import VectorStoreContract
from shared.vectors.weaviate_store import WeaviateAddress, WeaviateStore
from shared.vectors.wiring import vector_store

URL = os.environ.get("FOVEA_TEST_WEAVIATE_URL", "")
NAMESPACES = (
    *("a", "b", "nobody-v1", "digits-v1", "digits_v1", "digits-v10"),
    *("Digits-v1", "digits/v1", "digits v1"),
)


@pytest.fixture
def store() -> Iterator[WeaviateStore]:
    secrets = {"service_key": "s" * 32, "signing_key": "s" * 32}
    store = vector_store(Settings.model_validate({"vector_store_url": URL, **secrets}))
    assert isinstance(store, WeaviateStore)
    for namespace in NAMESPACES:
        store.drop(namespace)
    yield store
    store.close()


@pytest.mark.skipif(not URL, reason="FOVEA_TEST_WEAVIATE_URL is not set: no Weaviate server")
class TestWeaviateStore(VectorStoreContract):
    pass


def test_a_server_that_is_down_is_unavailable_by_name() -> None:
    http_port, grpc_port = free_ports(2)
    store = WeaviateStore(WeaviateAddress("127.0.0.1", http_port, grpc_port))
    expected = rf"vector store \(weaviate://127.0.0.1:{http_port}\)"
    with pytest.raises(BackendUnavailable, match=expected):
        store.check()
    with pytest.raises(BackendUnavailable, match=expected):
        store.count("a")
