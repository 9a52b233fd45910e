"""Vector store on Weaviate: one collection per namespace, with our own vectors."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import weaviate
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Timeout
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.connect.v4 import HTTPError
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError

from shared.errors import BackendUnavailable
from shared.vectors.encoding import (
    checked_matrix,
    checked_vector,
    encoded_namespace,
    last_of_each_id,
    nearest,
    tags,
    tie_at_the_end,
)
from shared.vectors.port import Neighbour, Scalar, Vector, VectorRecord

_IDS = uuid.UUID("5a0f1c5e-6c0b-5e0e-9d0c-0f0f1e2d3c4b")
_BATCH = 500
_SPARE = 16
_MOST_RESULTS = 10_000  # QUERY_MAXIMUM_RESULTS, as a server has it by default
_UNPROCESSABLE = 422
_CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True)
class WeaviateAddress:
    """Where a server listens: REST for the schema, gRPC for data."""

    host: str
    http_port: int
    grpc_port: int


class WeaviateStore:
    """One collection per namespace; its description keeps the dimension."""

    def __init__(self, address: WeaviateAddress, query_timeout_s: float = 30.0) -> None:
        """Remember the address; the first use connects."""
        self._address = address
        self._query_timeout_s = query_timeout_s
        self._client: Any | None = None
        self._connect_lock = threading.Lock()

    def upsert(self, namespace: str, records: Sequence[VectorRecord]) -> None:
        """Insert or replace by id."""
        name = _collection_name(namespace)
        if not records:
            return
        records = last_of_each_id(records)
        with self._errors() as client:
            matrix = checked_matrix(records, self._dimension(client, name))
            _create_collection(client, name, matrix.shape[1])
            # Another process may have made it with another dimension just now.
            checked_matrix(records, self._dimension(client, name))
            data = client.collections.use(name).data
            objects = [_object(r, v) for r, v in zip(records, matrix, strict=True)]
            for start in range(0, len(objects), _BATCH):
                answer = data.insert_many(objects[start : start + _BATCH])
                if answer.has_errors:
                    first = next(iter(answer.errors.values()))
                    raise self._unavailable(first.message)

    def query(
        self,
        namespace: str,
        vector: Vector,
        k: int,
        where: Mapping[str, Scalar] | None = None,
    ) -> list[Neighbour]:
        """Return the k nearest records; a large collection is searched by HNSW, so nearly so."""
        name = _collection_name(namespace)
        with self._errors() as client:
            dimension = self._dimension(client, name)
            if dimension is None or k < 1:
                return []
            point = checked_vector(vector, "the query", dimension)
            limit = min(k + _SPARE, _MOST_RESULTS)
            while True:
                found = _near(client.collections.use(name), point, limit, where)
                if limit >= _MOST_RESULTS or not tie_at_the_end(found, k):
                    return nearest(found, k)
                limit = min(limit * 4, _MOST_RESULTS)

    def scan(self, namespace: str, page_size: int = 1000) -> Iterator[list[VectorRecord]]:
        """Yield every record once, in pages, ordered by id; new ones may be missed meanwhile."""
        name = _collection_name(namespace)
        with self._errors() as client:
            if not client.collections.exists(name):
                return
            collection = client.collections.use(name)
            rows = collection.iterator(return_properties=["record_id"])
            ids = sorted(str(row.properties["record_id"]) for row in rows)
        page_size = min(page_size, _MOST_RESULTS)
        for start in range(0, len(ids), page_size):
            wanted = [_uuid(i) for i in ids[start : start + page_size]]
            with self._errors():
                page = collection.query.fetch_objects_by_ids(
                    wanted, limit=len(wanted), include_vector=True
                )
            yield sorted((_record(row) for row in page.objects), key=lambda r: r.id)

    def count(self, namespace: str) -> int:
        """Return how many records there are; 0 for an unknown namespace."""
        name = _collection_name(namespace)
        with self._errors() as client:
            if not client.collections.exists(name):
                return 0
            answer = client.collections.use(name).aggregate.over_all(total_count=True)
            return int(answer.total_count or 0)

    def delete(self, namespace: str, ids: Sequence[str]) -> None:
        """Remove records; ids that are not there are fine."""
        name = _collection_name(namespace)
        with self._errors() as client:
            if not ids or not client.collections.exists(name):
                return
            data = client.collections.use(name).data
            for start in range(0, len(ids), _BATCH):
                uuids = [_uuid(i) for i in ids[start : start + _BATCH]]
                answer = data.delete_many(where=Filter.by_id().contains_any(uuids))
                if answer.failed:
                    reason = f"{answer.failed} of {answer.matches} records were not deleted"
                    raise self._unavailable(reason)

    def drop(self, namespace: str) -> None:
        """Remove the namespace; one that is not there is fine."""
        with self._errors() as client:
            client.collections.delete(_collection_name(namespace))

    def check(self) -> None:
        """Ask whether the server is ready, and listens for data too."""
        with self._errors() as client:
            if not client.is_ready():
                raise self._unavailable("not ready")
        # Ready is REST's word; a call for data would be tried for a minute before it fails.
        host, port = self._address.host, self._address.grpc_port
        try:
            socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as exc:
            raise self._unavailable(f"port {port} for gRPC: {exc}") from exc

    def close(self) -> None:
        """Close the connection; the next use opens one again."""
        with self._connect_lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _dimension(self, client: Any, name: str) -> int | None:
        if not client.collections.exists(name):
            return None
        description = str(client.collections.use(name).config.get(simple=True).description)
        if not description.isdecimal():
            # Not made here: by another program, or by the server itself for an object whose
            # collection was dropped at that moment (its auto-schema).
            reason = f"collection {name!r} does not say its dimension, but {description!r}"
            raise self._unavailable(reason)
        return int(description)

    def _connected(self) -> Any:
        with self._connect_lock:
            if self._client is None:
                self._client = weaviate.connect_to_custom(
                    http_host=self._address.host,
                    http_port=self._address.http_port,
                    http_secure=False,
                    grpc_host=self._address.host,
                    grpc_port=self._address.grpc_port,
                    grpc_secure=False,
                    additional_config=AdditionalConfig(
                        timeout=Timeout(init=_CONNECT_TIMEOUT_S, query=self._query_timeout_s)
                    ),
                    # The checks would look for a newer client outside, and fail while it starts.
                    skip_init_checks=True,
                )
            return self._client

    @contextmanager
    def _errors(self) -> Iterator[Any]:
        try:
            yield self._connected()
        # A connection that breaks in the middle of a request comes through the client as it is.
        except (WeaviateBaseError, HTTPError) as exc:
            raise self._unavailable(str(exc) or repr(exc)) from exc

    def _unavailable(self, reason: str) -> BackendUnavailable:
        where = f"weaviate://{self._address.host}:{self._address.http_port}"
        return BackendUnavailable(f"vector store ({where}): {reason}")


def _collection_name(namespace: str) -> str:
    return f"Fovea_{encoded_namespace(namespace)}"


def _uuid(record_id: str) -> uuid.UUID:
    return uuid.uuid5(_IDS, record_id)


def _create_collection(client: Any, name: str, dimension: int) -> None:
    if client.collections.exists(name):
        return
    text = {"tokenization": Tokenization.FIELD, "index_searchable": False}
    try:
        client.collections.create(
            name,
            description=str(dimension),
            vector_config=Configure.Vectors.self_provided(
                vector_index_config=Configure.VectorIndex.hnsw(
                    distance_metric=VectorDistances.COSINE
                )
            ),
            properties=[
                Property(name="record_id", data_type=DataType.TEXT, index_filterable=True, **text),
                Property(name="metadata", data_type=DataType.TEXT, index_filterable=False, **text),
                Property(name="tags", data_type=DataType.TEXT_ARRAY, index_filterable=True, **text),
            ],
        )
    except UnexpectedStatusCodeError as exc:
        # Another process made it first.
        if exc.status_code != _UNPROCESSABLE or not client.collections.exists(name):
            raise


def _object(record: VectorRecord, vector: Vector) -> Any:
    properties = {
        "record_id": record.id,
        "metadata": json.dumps(dict(record.metadata)),
        "tags": tags(record.metadata),
    }
    return DataObject(properties=properties, uuid=_uuid(record.id), vector=vector.tolist())


def _near(
    collection: Any, point: Vector, limit: int, where: Mapping[str, Scalar] | None
) -> list[Neighbour]:
    answer = collection.query.near_vector(
        near_vector=point.tolist(),
        limit=limit,
        filters=Filter.by_property("tags").contains_all(tags(where)) if where else None,
        return_metadata=MetadataQuery(distance=True),
        return_properties=["record_id", "metadata"],
    )
    return [
        Neighbour(
            str(row.properties["record_id"]),
            float(row.metadata.distance),
            json.loads(row.properties["metadata"]),
        )
        for row in answer.objects
    ]


def _record(row: Any) -> VectorRecord:
    vector = checked_vector(row.vector["default"], repr(row.properties["record_id"]), None)
    return VectorRecord(
        str(row.properties["record_id"]), vector, json.loads(row.properties["metadata"])
    )
