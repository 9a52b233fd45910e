"""What both adapters share: names, checked vectors, and metadata as text that can be filtered."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadRequest
from shared.vectors.port import Neighbour, Scalar, Vector, VectorRecord, WrongDimension

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LONGEST_NAME = 200


class BadNamespace(BadRequest):
    """The namespace is empty."""


class BadVector(BadRequest):
    """The vector has no direction: it is zero, not finite, or not one-dimensional."""


def encoded_namespace(namespace: str) -> str:
    """Return a name of letters, digits and `_` that no other namespace has, not even by case.

    Raises:
        BadNamespace: it is empty.
    """
    if not namespace:
        msg = "a namespace without a name"
        raise BadNamespace(msg)
    name = "".join(c if c in _PLAIN else f"_{ord(c):x}_" for c in namespace)
    if len(name) <= _LONGEST_NAME:
        return name
    # No short name has `_x`.
    end = f"_x{hashlib.sha256(namespace.encode()).hexdigest()}"
    return name[: _LONGEST_NAME - len(end)] + end


def checked_vector(vector: Vector, name: str, dimension: int | None) -> Vector:
    """Return `vector` as float32, shape (D,).

    Args:
        vector: any sequence of D numbers.
        name: what to call it in an error.
        dimension: what D has to be; None allows any.

    Raises:
        BadVector: it has no direction.
        WrongDimension: D differs from `dimension`.
    """
    array: Vector = np.asarray(vector, dtype=np.float32)
    if array.ndim != 1 or not np.isfinite(array).all() or not array.any():
        msg = f"a vector needs a direction (one-dimensional, finite, not zero): {name}"
        raise BadVector(msg)
    if dimension is not None and len(array) != dimension:
        msg = f"wrong dimension of {name}: {len(array)}, the namespace holds {dimension}"
        raise WrongDimension(msg)
    return array


def checked_matrix(records: Sequence[VectorRecord], dimension: int | None) -> NDArray[np.float32]:
    """Return the records' vectors, shape (N, D), all of one dimension."""
    wanted = dimension if dimension is not None else len(records[0].vector)
    return np.stack([checked_vector(r.vector, repr(r.id), wanted) for r in records])


def last_of_each_id(records: Sequence[VectorRecord]) -> list[VectorRecord]:
    """Return the records without those that a later one of the same id replaces."""
    return list({record.id: record for record in records}.values())


def tags(metadata: Mapping[str, Scalar]) -> list[str]:
    """Return one text per entry, equal only for equal key, type and value."""
    return [f"{key}={json.dumps(value)}" for key, value in sorted(metadata.items())]


def nearest(found: Sequence[Neighbour], k: int) -> list[Neighbour]:
    """Return the k nearest; distances that differ only by rounding are ties, in order of id."""
    return sorted(found, key=lambda n: (round(n.distance, 6), n.id))[:k]


def tie_at_the_end(found: Sequence[Neighbour], k: int) -> bool:
    """Tell whether records left out may tie with the k-th: the last one found still does."""
    distances = sorted(round(n.distance, 6) for n in found)
    return len(distances) > k and distances[-1] == distances[k - 1]
