"""A fake Weaviate server on real ports: REST for the schema and gRPC for data, as its client asks.

It answers what the adapter makes the client ask, as the server of `VERSION` does, and nothing else.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import grpc  # type: ignore[import-untyped]
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

from shared.tests.ports import free_ports
from shared.tests.vectors.fake_collection import FakeCollection, Properties, Refused, StoredObject
from shared.tests.vectors.fake_rest import RestServer

VERSION = "1.32.0"
_MESSAGE_BYTES = 104_858_000
_MOST_RESULTS = 10_000
_DEFAULT_LIMIT = 10


class FakeWeaviate:
    """What it keeps outlives a stop, as a disk does; `start` listens on the same ports again."""

    def __init__(self) -> None:
        self.http_port, self.grpc_port = free_ports(2)
        self.collections: dict[str, FakeCollection] = {}
        self.lock = threading.RLock()
        # What may go wrong: ids of records that are neither written nor deleted (as in a read-only
        # shard), what another client does just before a collection is made, REST that hangs up,
        # calls that wait.
        self.refused: set[str] = set()
        self.before_creation: Callable[[], None] = lambda: None
        self.hangs_up = False
        self.answering = threading.Event()
        self.answering.set()

    def start(self) -> None:
        options = {
            "grpc.max_send_message_length": _MESSAGE_BYTES,
            "grpc.max_receive_message_length": _MESSAGE_BYTES,
            "grpc.so_reuseport": 0,
        }
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=list(options.items()))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Data(self), self._grpc)
        self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        self._grpc.start()
        self._rest = RestServer(self.http_port, self._answer)
        threading.Thread(target=self._rest.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.answering.set()
        self._rest.stop()
        self.stop_grpc()

    def stop_grpc(self) -> None:
        self._grpc.stop(grace=None).wait()

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any] | None:
        self.answering.wait()
        return None if self.hangs_up else self._route(method, path, body)

    def _route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match method, path.removeprefix("/v1/").split("/"):
            case "GET", [".well-known", "ready"]:
                return 200, None
            case "GET", ["meta"]:
                return 200, {"version": VERSION, "grpcMaxMessageSize": _MESSAGE_BYTES}
            case "GET", ["schema", name]:
                found = self.collections.get(name)
                return (200, found.config) if found else (404, None)
            case "POST", ["schema"]:
                return self._create(json.loads(body))
            case "DELETE", ["schema", name]:
                self.collections.pop(name, None)
                return 200, None
        return 404, {"code": 404, "message": f"path {path} was not found"}

    def _create(self, config: dict[str, Any]) -> tuple[int, Any]:
        self.before_creation()
        name = config["class"]
        with self.lock:
            alike = [other for other in self.collections if other.lower() == name.lower()]
            if not re.fullmatch("[A-Z][_0-9A-Za-z]{0,254}", name):
                return _unprocessable(f"'{name}' is not a valid class name")
            if name in alike:
                return _unprocessable(f"class name {name} already exists")
            if alike:
                return _unprocessable(f'class already exists: found similar class "{alike[0]}"')
            self.collections[name] = FakeCollection(config)
            return 200, config


def _unprocessable(message: str) -> tuple[int, Any]:
    return 422, {"error": [{"message": message}]}


class _Data(weaviate_pb2_grpc.WeaviateServicer):  # type: ignore[misc]
    """The calls that carry data; any other is UNIMPLEMENTED."""

    def __init__(self, fake: FakeWeaviate) -> None:
        self._fake = fake

    def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
        limit = request.limit or _DEFAULT_LIMIT
        with self._turn(context):
            if limit > _MOST_RESULTS:
                msg = "invalid pagination params: query maximum results exceeded"
                raise Refused(msg)
            collection = self._collection(request.collection)
            found = _found(collection, request)[:limit]
            results = [_result(u, collection.objects[u], d, request) for u, d in found]
        return search_get_pb2.SearchReply(results=results)

    def BatchObjects(self, request: Any, context: Any) -> Any:  # noqa: N802
        errors = []
        with self._turn(context):
            for index, each in enumerate(request.objects):
                try:
                    self._put(each)
                except Refused as exc:
                    errors.append({"index": index, "error": str(exc)})
        return batch_pb2.BatchObjectsReply(errors=errors)

    def BatchDelete(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._turn(context):
            collection = self._collection(request.collection)
            found, kept = collection.matching(request.filters), self._fake.refused
            gone = [u for u in found if collection.objects[u].properties["record_id"] not in kept]
            for uuid in gone:
                del collection.objects[uuid]
        n_found, n_gone = len(found), len(gone)
        return batch_delete_pb2.BatchDeleteReply(
            matches=n_found, successful=n_gone, failed=n_found - n_gone
        )

    def Aggregate(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._turn(context):
            n_objects = len(self._collection(request.collection).objects)
        return aggregate_pb2.AggregateReply(single_result={"objects_count": n_objects})

    @contextmanager
    def _turn(self, context: Any) -> Iterator[None]:
        self._fake.answering.wait()
        with self._fake.lock:
            try:
                yield
            except Refused as exc:
                context.abort(grpc.StatusCode.UNKNOWN, str(exc))

    def _collection(self, name: str) -> FakeCollection:
        if name not in self._fake.collections:
            msg = f"could not find class {name} in schema"
            raise Refused(msg)
        return self._fake.collections[name]

    def _put(self, each: Any) -> None:
        properties: Properties = dict(each.properties.non_ref_properties)
        properties |= {p.prop_name: list(p.values) for p in each.properties.text_array_properties}
        properties |= {name: [] for name in each.properties.empty_list_props}
        if properties["record_id"] in self._fake.refused:
            msg = "store is read-only"
            raise Refused(msg)
        # The server makes a collection that is not there by itself: its auto-schema.
        config = {"class": each.collection, "description": "auto-schema", "vectorizer": "none"}
        collection = self._fake.collections.setdefault(each.collection, FakeCollection(config))
        vector = np.frombuffer(each.vector_bytes, np.float32)
        collection.put(UUID(each.uuid), StoredObject(properties, vector))


def _found(collection: FakeCollection, request: Any) -> list[tuple[UUID, float | None]]:
    filtered = request.HasField("filters")
    among = collection.matching(request.filters) if filtered else list(collection.objects)
    if request.HasField("near_vector"):
        query = np.frombuffer(request.near_vector.vectors[0].vector_bytes, np.float32)
        return [*collection.nearest(query, among)]
    return [(uuid, None) for uuid in (among if filtered else collection.listed(request.after))]


def _result(uuid: UUID, stored: StoredObject, distance: float | None, request: Any) -> Any:
    metadata = search_get_pb2.MetadataResult(id_as_bytes=uuid.bytes)
    if request.metadata.distance and distance is not None:
        metadata.distance, metadata.distance_present = distance, True
    if request.metadata.vector:
        single, content = base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32, stored.vector.tobytes()
        metadata.vectors.add(name="default", vector_bytes=content, type=single)
    selected = request.HasField("properties")
    names = request.properties.non_ref_properties if selected else stored.properties
    fields = {name: _field(stored.properties[name]) for name in names}
    properties = {"target_collection": request.collection, "non_ref_props": {"fields": fields}}
    return search_get_pb2.SearchResult(metadata=metadata, properties=properties)


def _field(value: str | list[str]) -> Any:
    if isinstance(value, str):
        return properties_pb2.Value(text_value=value)
    return properties_pb2.Value(list_value={"text_values": {"values": value}})
