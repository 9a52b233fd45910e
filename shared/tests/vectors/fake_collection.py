"""What the fake Weaviate keeps of one collection: exact cosine search and filters."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from weaviate.proto.v1 import base_pb2

Properties = dict[str, str | list[str]]
Vector = NDArray[np.float32]

_Operator = base_pb2.Filters
_HNSW = {
    "cleanupIntervalSeconds": 300,
    "distance": "cosine",
    "dynamicEfFactor": 8,
    "dynamicEfMax": 500,
    "dynamicEfMin": 100,
    "ef": -1,
    "efConstruction": 128,
    "filterStrategy": "sweeping",
    "flatSearchCutoff": 40_000,
    "maxConnections": 32,
    "skip": False,
    "vectorCacheMaxObjects": 10**12,
}


class Refused(Exception):
    """The server's own words for what it does not do."""


@dataclass(frozen=True)
class StoredObject:
    properties: Properties
    vector: Vector


class FakeCollection:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        for named in config.get("vectorConfig", {}).values():
            named["vectorIndexConfig"] = _HNSW | named["vectorIndexConfig"]
        # In order of writing, as the server's document numbers: a replaced object gets a new one.
        self.objects: dict[UUID, StoredObject] = {}
        self._dimension: int | None = None

    def put(self, uuid: UUID, stored: StoredObject) -> None:
        length = len(stored.vector)
        if self._dimension not in (None, length):
            msg = (
                f"new node has a vector with length {length}. "
                f"Existing nodes have vectors with length {self._dimension}"
            )
            raise Refused(msg)
        self._dimension = length
        self.objects.pop(uuid, None)
        self.objects[uuid] = stored

    def listed(self, after: str) -> list[UUID]:
        """Return the uuids behind a cursor; the server keeps its objects in this order."""
        return sorted(uuid for uuid in self.objects if not after or uuid > UUID(after))

    def nearest(self, query: Vector, among: Collection[UUID]) -> list[tuple[UUID, float]]:
        """Return uuids and cosine distances, nearest first; the vectors stay as they were put."""
        if not among:
            return []
        if len(query) != self._dimension:
            msg = f"vector lengths don't match: {self._dimension} vs {len(query)}"
            raise Refused(msg)
        uuids = list(among)
        vectors = np.stack([self.objects[uuid].vector for uuid in uuids])
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        distances = 1 - vectors @ (query / np.linalg.norm(query))
        return [(uuids[i], float(distances[i])) for i in np.argsort(distances, kind="stable")]

    def matching(self, filters: Any) -> list[UUID]:
        """Return what a filter finds, in order of writing."""
        found = self._found(filters)
        return [uuid for uuid in self.objects if uuid in found]

    def _found(self, filters: Any) -> set[UUID]:
        if filters.operator == _Operator.OPERATOR_OR:
            return set.union(*map(self._found, filters.filters))
        name, wanted = filters.target.property, _tokens(_value(filters))
        if name == "_id":
            return {uuid for uuid in map(UUID, wanted) if uuid in self.objects}
        self._check_filterable(name)
        if filters.operator != _Operator.OPERATOR_CONTAINS_ALL:
            msg = f"the fake has no filter operator {filters.operator}"
            raise Refused(msg)
        return {u for u, o in self.objects.items() if wanted <= _tokens(o.properties.get(name, []))}

    def _check_filterable(self, name: str) -> None:
        indexed = {p["name"]: p["indexFilterable"] for p in self.config.get("properties", [])}
        if name not in indexed:
            msg = f"no such prop with name '{name}' found in class '{self.config['class']}'"
            raise Refused(msg)
        if not indexed[name]:
            msg = f"Filtering by property '{name}' requires inverted index to be filterable"
            raise Refused(msg)


def _value(filters: Any) -> list[str]:
    if filters.WhichOneof("test_value") == "value_text_array":
        return list(filters.value_text_array.values)
    return [filters.value_text]


def _tokens(texts: str | list[str]) -> set[str]:
    # The `field` tokenization: the whole text, without the white space around it.
    return {text.strip() for text in ([texts] if isinstance(texts, str) else texts)}
