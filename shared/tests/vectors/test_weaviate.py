"""The Weaviate adapter through its real client, and against the real server where there is one.

FOVEA_TEST_WEAVIATE_URL names that server; a fake answers on the wire everywhere else.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import weaviate

from shared.errors import BackendUnavailable
from shared.settings import Settings
from shared.tests.ports import free_ports
from shared.tests.stack_files import ROOT
from shared.tests.vectors.fake_weaviate import VERSION, FakeWeaviate
from shared.vectors.contract import VectorStoreContract
from shared.vectors.port import VectorRecord, WrongDimension
from shared.vectors.weaviate_store import WeaviateAddress, WeaviateStore
from shared.vectors.wiring import vector_store

URL = os.environ.get("FOVEA_TEST_WEAVIATE_URL", "")
NAMESPACES = (
    *("a", "b", "nobody-v1", "digits-v1", "digits_v1", "digits-v10"),
    *("Digits-v1", "digits/v1", "digits v1"),
)


@pytest.fixture
def server() -> Iterator[FakeWeaviate]:
    server = FakeWeaviate()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: FakeWeaviate) -> Iterator[WeaviateStore]:
    store = _store(server)
    yield store
    store.close()


def _store(server: FakeWeaviate) -> WeaviateStore:
    return WeaviateStore(WeaviateAddress("127.0.0.1", server.http_port, server.grpc_port))


def _records(ids: Iterable[str], dimension: int = 2) -> list[VectorRecord]:
    return [VectorRecord(i, np.ones(dimension, np.float32)) for i in ids]


class TestWeaviateStoreOverTheWire(VectorStoreContract):
    pass


@pytest.mark.skipif(not URL, reason="FOVEA_TEST_WEAVIATE_URL is not set: no Weaviate server")
class TestWeaviateStore(VectorStoreContract):
    @pytest.fixture
    def store(self) -> Iterator[WeaviateStore]:
        secrets = {"service_key": "s" * 32, "signing_key": "s" * 32}
        store = vector_store(Settings.model_validate({"vector_store_url": URL, **secrets}))
        assert isinstance(store, WeaviateStore)
        for namespace in NAMESPACES:
            store.drop(namespace)
        yield store
        store.close()


def test_a_server_that_is_down_is_unavailable_by_name() -> None:
    http_port, grpc_port = free_ports(2)
    store = WeaviateStore(WeaviateAddress("127.0.0.1", http_port, grpc_port))
    expected = rf"vector store \(weaviate://127.0.0.1:{http_port}\)"
    with pytest.raises(BackendUnavailable, match=expected):
        store.check()
    with pytest.raises(BackendUnavailable, match=expected):
        store.count("a")


def test_a_server_that_died_is_unavailable_until_it_is_back(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    store.upsert("a", _records("x"))
    server.stop()
    calls: list[Callable[[], object]] = [
        store.check,
        lambda: store.count("a"),
        lambda: store.query("a", np.ones(2, np.float32), 1),
        lambda: store.upsert("a", _records("y")),
        lambda: list(store.scan("a")),
        lambda: store.delete("a", ["x"]),
        lambda: store.drop("a"),
    ]
    for call in calls:
        with pytest.raises(BackendUnavailable, match=f"weaviate://127.0.0.1:{server.http_port}"):
            call()
    server.start()
    store.check()
    store.upsert("a", _records("y"))
    assert [n.id for n in store.query("a", np.ones(2, np.float32), 5)] == ["x", "y"]


def test_a_server_that_hangs_up_is_unavailable(server: FakeWeaviate, store: WeaviateStore) -> None:
    server.hangs_up = True
    with pytest.raises(BackendUnavailable, match="disconnected"):
        store.count("a")
    server.hangs_up = False
    assert store.count("a") == 0
    server.hangs_up = True
    with pytest.raises(BackendUnavailable, match="disconnected"):
        store.upsert("a", _records("x"))


def test_a_restart_in_the_middle_of_a_scan_is_bridged(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    store.upsert("a", _records("xyz"))
    pages = store.scan("a", page_size=1)
    first = next(pages)
    server.stop()
    threading.Timer(0.3, server.start).start()
    assert [r.id for page in (first, *pages) for r in page] == ["x", "y", "z"]


def test_a_server_that_dies_in_the_middle_of_a_scan_is_unavailable(
    server: FakeWeaviate, store: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upsert("a", _records("xyz"))
    pages = store.scan("a", page_size=1)
    next(pages)
    server.stop()
    # Between its tries the client waits for 63 s in all.
    monkeypatch.setattr(weaviate.retry, "time", SimpleNamespace(sleep=lambda _: None))
    with pytest.raises(BackendUnavailable, match="vector store"):
        next(pages)
    server.start()
    monkeypatch.undo()
    assert [r.id for page in store.scan("a") for r in page] == ["x", "y", "z"]


def test_a_server_that_does_not_answer_is_unavailable(server: FakeWeaviate) -> None:
    address = WeaviateAddress("127.0.0.1", server.http_port, server.grpc_port)
    store = WeaviateStore(address, query_timeout_s=1.0)
    store.upsert("a", _records("xy"))
    pages = store.scan("a", page_size=1)
    next(pages)
    server.answering.clear()
    for call in (lambda: next(pages), lambda: store.count("a"), store.check):
        with pytest.raises(BackendUnavailable, match="vector store"):
            call()
    server.answering.set()
    assert store.count("a") == 2
    store.close()


def test_a_closed_port_for_data_fails_the_check(server: FakeWeaviate, store: WeaviateStore) -> None:
    store.check()
    server.stop_grpc()
    with pytest.raises(BackendUnavailable, match=f"port {server.grpc_port} for gRPC"):
        store.check()


def test_who_makes_a_collection_second_writes_into_the_first(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    _let_another_client_be_first(server, _records("x"))
    store.upsert("a", _records("y"))
    assert [r.id for page in store.scan("a") for r in page] == ["x", "y"]


def test_who_makes_a_collection_second_with_another_dimension_is_refused(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    _let_another_client_be_first(server, _records("x", 3))
    with pytest.raises(WrongDimension, match="wrong dimension of 'y': 2, the namespace holds 3"):
        store.upsert("a", _records("y"))
    assert store.count("a") == 1


def _let_another_client_be_first(server: FakeWeaviate, records: list[VectorRecord]) -> None:
    def write() -> None:
        server.before_creation = lambda: None
        with closing(_store(server)) as other:
            other.upsert("a", records)

    server.before_creation = write


def test_clients_that_make_one_collection_at_once_lose_nothing(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    barrier = threading.Barrier(4)

    def write(client: int) -> None:
        with closing(_store(server)) as own:
            for n in range(5):
                barrier.wait(timeout=30)
                own.upsert(f"digits-v{n}", _records([str(client), "same"]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for n in range(5):
        ids = [r.id for page in store.scan(f"digits-v{n}") for r in page]
        assert ids == ["0", "1", "2", "3", "same"]


def test_more_than_a_batch_is_written_scanned_and_deleted(store: WeaviateStore) -> None:
    ids = [f"{n:04d}" for n in range(1201)]
    store.upsert("a", _records(ids))
    assert [r.id for page in store.scan("a") for r in page] == ids
    assert [n.id for n in store.query("a", np.ones(2, np.float32), 1200)] == ids[:1200]
    store.delete("a", ids[1:])
    assert [r.id for page in store.scan("a") for r in page] == ids[:1]


def test_more_results_than_the_server_gives_are_not_asked_for(store: WeaviateStore) -> None:
    store.upsert("a", _records("xy"))
    assert [n.id for n in store.query("a", np.ones(2, np.float32), 20_000)] == ["x", "y"]


@pytest.mark.parametrize("refused", ["y", "xy"])
def test_a_record_that_the_server_does_not_write_is_unavailable(
    server: FakeWeaviate, store: WeaviateStore, refused: str
) -> None:
    server.refused = set(refused)
    with pytest.raises(BackendUnavailable, match="store is read-only"):
        store.upsert("a", _records("xy"))
    server.refused = set()
    store.upsert("a", _records("xy"))
    assert store.count("a") == 2


def test_a_record_that_the_server_does_not_delete_is_unavailable(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    store.upsert("a", _records("xy"))
    server.refused = {"y"}
    with pytest.raises(BackendUnavailable, match="1 of 2 records were not deleted"):
        store.delete("a", ["x", "y"])
    assert [r.id for page in store.scan("a") for r in page] == ["y"]


def test_the_dimension_survives_a_new_client(server: FakeWeaviate, store: WeaviateStore) -> None:
    store.upsert("a", _records("x"))
    expected = "wrong dimension of 'y': 3, the namespace holds 2"
    with closing(_store(server)) as other, pytest.raises(WrongDimension, match=expected):
        other.upsert("a", _records("y", 3))


def test_a_collection_that_is_not_ours_is_named(server: FakeWeaviate, store: WeaviateStore) -> None:
    with weaviate.connect_to_local(
        "127.0.0.1", server.http_port, server.grpc_port, skip_init_checks=True
    ) as client:
        client.collections.use("Fovea_a").data.insert_many([{"record_id": "x"}])
    with pytest.raises(BackendUnavailable, match="collection 'Fovea_a' does not say its dimension"):
        store.upsert("a", _records("y"))
    store.drop("a")
    store.upsert("a", _records("y"))
    assert store.count("a") == 1


def test_a_namespace_dropped_in_the_middle_of_a_scan_is_unavailable(
    server: FakeWeaviate, store: WeaviateStore
) -> None:
    store.upsert("a", _records("xy"))
    pages = store.scan("a", page_size=1)
    next(pages)
    store.drop("a")
    with pytest.raises(BackendUnavailable, match="could not find class Fovea_a"):
        next(pages)


def test_the_longest_namespace_is_a_name_that_the_server_takes(store: WeaviateStore) -> None:
    store.upsert("n" * 200, _records("x"))
    assert store.count("n" * 200) == 1


def test_the_fake_is_of_the_version_that_compose_starts() -> None:
    assert f"weaviate:{VERSION}\n" in (ROOT / "database/compose.yml").read_text("utf-8")
