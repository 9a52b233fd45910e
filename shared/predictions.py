"""Prediction shards: Parquet files in the object store, the record of what a model saw."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shared.models.data import Split
from shared.objects.port import ObjectNotFound, ObjectStore

FloatArray = NDArray[np.float32]

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("xyxy", pa.list_(pa.list_(pa.float32(), 4))),
        ("class_scores", pa.list_(pa.list_(pa.float32()))),
        ("class_probabilities", pa.list_(pa.list_(pa.list_(pa.float16())))),
        ("entropy", pa.list_(pa.float32())),
        ("margin", pa.list_(pa.float32())),
        ("certainty", pa.list_(pa.float32())),
        ("bald", pa.list_(pa.float32())),
        ("variance", pa.list_(pa.float32())),
        ("localisation", pa.list_(pa.float32())),
        ("inconsistency", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
        ("box_embeddings", pa.list_(pa.list_(pa.float16()))),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("sharpness", pa.float32()),
    ]
)


@dataclass(frozen=True)
class ScoredImage:
    """What one model version saw in one image: N boxes, C classes, T stochastic passes, D features.

    Attributes:
        image_id: SHA-256 of the image.
        split: of the image when it was scored.
        xyxy: shape (N, 4), normalised to [0, 1]; score at least 0.001, after NMS at IoU 0.7.
        class_scores: shape (N, C), each class's own score in [0, 1].
        class_probabilities: shape (N, C + 1, T), background last, sums to 1 over axis 1; float16.
        entropy: shape (N,), entropy of the mean distribution, in nats; high is uncertain.
        margin: shape (N,), first minus second probability of the mean; low is uncertain.
        certainty: shape (N,), first probability of the mean; low is uncertain.
        bald: shape (N,), mutual information, in nats; high is uncertain.
        variance: shape (N,), variance over the passes, mean over classes; high is uncertain.
        localisation: shape (N,), 1 - mean IoU of the box with its passes; high is uncertain.
        inconsistency: shape (N,), how much the image flipped and made smaller contradicts the box;
            high is uncertain, NaN where the views were not looked at.
        embedding: shape (D,), pooled features of the trunk.
        box_embeddings: shape (M, E), features of the first M boxes, those of the best scores.
        brightness: mean grey value in [0, 1].
        contrast: standard deviation of the grey values.
        sharpness: variance of the Laplacian of the grey image at a fixed size.
    """

    image_id: str
    split: Split
    xyxy: FloatArray
    class_scores: FloatArray
    class_probabilities: NDArray[np.float16]
    entropy: FloatArray
    margin: FloatArray
    certainty: FloatArray
    bald: FloatArray
    variance: FloatArray
    localisation: FloatArray
    inconsistency: FloatArray
    embedding: FloatArray
    brightness: float
    contrast: float
    sharpness: float
    box_embeddings: NDArray[np.float16] = field(
        default_factory=lambda: np.zeros((0, 0), np.float16)
    )

    @property
    def scores(self) -> FloatArray:
        """Return each box's best class score, shape (N,)."""
        best: FloatArray = self.class_scores.max(axis=1, initial=0.0)
        return best

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """Return each box's best class, shape (N,)."""
        if len(self.class_scores) == 0:
            return np.zeros(0, dtype=np.int64)
        best: NDArray[np.int64] = self.class_scores.argmax(axis=1).astype(np.int64)
        return best


def shard_prefix(project: str, model_version: int | None) -> str:
    """Return the key prefix of a model version's shards; version None is the base model's, `v0`."""
    return f"projects/{project}/predictions/v{model_version or 0}/"


def write_shard(store: ObjectStore, key: str, images: Sequence[ScoredImage]) -> None:
    """Write one shard; the same key replaces it whole."""
    columns = [_column(field, [getattr(i, field.name) for i in images]) for field in SCHEMA]
    buffer = io.BytesIO()
    table = pa.table(columns, schema=SCHEMA)
    # Dictionaries of real numbers make writing ten times slower and the file a quarter larger.
    pq.write_table(table, buffer, compression="zstd", use_dictionary=["split"])
    store.put(key, buffer.getvalue(), "application/vnd.apache.parquet")


def read_shards(
    store: ObjectStore, project: str, model_version: int | None, splits: Sequence[Split] = ()
) -> Iterator[ScoredImage]:
    """Yield every image that a model version scored, in key order; of `splits` only, if given."""
    prefix = shard_prefix(project, model_version)
    for key in store.list(prefix):
        # A shard holds images of one split, whose name starts its own.
        if not splits or key.removeprefix(prefix).split("-", maxsplit=1)[0] in splits:
            yield from read_shard(store, key)


def read_shard(store: ObjectStore, key: str) -> Iterator[ScoredImage]:
    """Yield the images of one shard; none if another schema wrote it, since values are missing."""
    table = _read(store, key)
    if table is None:
        return
    columns = [_values(table[name]) for name in SCHEMA.names]
    for row in zip(*columns, strict=True):
        values = dict(zip(SCHEMA.names, row, strict=True))
        values["xyxy"] = values["xyxy"].reshape(-1, 4)
        yield ScoredImage(**values)


def ids_of_shard(store: ObjectStore, key: str) -> frozenset[str]:
    """Return the images of one shard; none if another schema wrote it."""
    table = _read(store, key, ["image_id"])
    return frozenset() if table is None else frozenset(table["image_id"].to_pylist())


def has_shard(store: ObjectStore, key: str, *, consistency: bool = False) -> bool:
    """Tell whether there is this shard; one that another schema wrote does not count.

    With `consistency`, one that was written without it does not count either.
    """
    try:
        table = _read(store, key, ["image_id", "inconsistency"])
    except ObjectNotFound:
        return False
    if table is None:
        return False
    return not (consistency and any(np.isnan(f).any() for f in _values(table["inconsistency"])))


def scored_keys(
    store: ObjectStore, project: str, model_version: int | None, *, consistency: bool = False
) -> dict[str, str]:
    """Return the shard that holds each image which a model version scored, by image id.

    Shards that another schema wrote do not count.

    Args:
        store: the object store.
        project: its name.
        model_version: None is the base model.
        consistency: leave out the images with boxes whose `inconsistency` is not known.
    """
    keys: dict[str, str] = {}
    for key in store.list(shard_prefix(project, model_version)):
        table = _read(store, key, ["image_id", "inconsistency"])
        if table is not None:
            rows = zip(table["image_id"].to_pylist(), _values(table["inconsistency"]), strict=True)
            keys |= {i: key for i, found in rows if not (consistency and np.isnan(found).any())}
    return keys


def _read(store: ObjectStore, key: str, columns: Sequence[str] | None = None) -> Any:
    """Return the table of a shard, or None if another schema wrote it."""
    buffer = io.BytesIO(store.get(key))
    if not pq.read_schema(buffer).equals(SCHEMA):
        return None
    return pq.read_table(buffer, columns=columns)


def _column(field: Any, values: Sequence[Any]) -> Any:
    """Return the column of one value per image; nested lists come from flat arrays, not objects."""
    depth = _depth(field.type)
    if depth == 0 or not values:
        return pa.array(values, field.type)
    flat = np.concatenate([value.ravel() for value in values])
    nested = pa.array(flat, _leaf(field.type))
    for axis in reversed(range(depth)):
        sizes = np.array([value.shape[axis] for value in values])
        repeats = np.array([int(np.prod(value.shape[:axis])) for value in values])
        offsets = np.concatenate(([0], np.cumsum(np.repeat(sizes, repeats))))
        nested = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), nested)
    return nested.cast(field.type)


def _values(column: Any) -> Iterator[Any]:
    """Yield each image's value: text and numbers as they are, nested lists as arrays."""
    depth = _depth(column.type)
    if depth == 0:
        yield from column.to_pylist()
        return
    array = column.combine_chunks()
    starts = np.arange(len(array) + 1)
    levels = []
    for _ in range(depth):
        starts = _offsets(array)[starts]
        levels.append(starts)
        array = array.values
    flat = array.to_numpy(zero_copy_only=False)
    counts = np.stack(levels)
    counts = counts[:, 1:] - counts[:, :-1]
    for n, (start, stop) in enumerate(pairwise(starts)):
        # A copy, so that one image kept does not keep the shard.
        yield flat[start:stop].copy().reshape(_shape(counts[:, n]))


def _shape(counts: NDArray[np.int64]) -> list[int]:
    """Return the shape of an array from how many items it has, down to each axis."""
    shape, total = [], 1
    for count in counts.tolist():
        shape.append(count // total if total else 0)
        total = count
    return shape


def _offsets(array: Any) -> NDArray[np.int64]:
    if pa.types.is_fixed_size_list(array.type):
        starts: NDArray[np.int64] = np.arange(len(array) + 1) + array.offset
        return starts * int(array.type.list_size)
    offsets: NDArray[np.int64] = array.offsets.to_numpy().astype(np.int64)
    return offsets


def _depth(kind: Any) -> int:
    return 1 + _depth(kind.value_type) if _is_list(kind) else 0


def _leaf(kind: Any) -> Any:
    return _leaf(kind.value_type) if _is_list(kind) else kind


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))
