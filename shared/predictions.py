"""Prediction shards: Parquet files in the object store, the record of what a model saw."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shared.models.data import Split
from shared.objects.port import ObjectStore

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
        ("bald", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
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
        class_probabilities: shape (N, C + 1, T), background last, sums to 1 over axis 1; half precision.
        entropy: shape (N,), entropy of the mean distribution, in nats; high is uncertain.
        margin: shape (N,), first minus second probability of the mean; low is uncertain.
        bald: shape (N,), mutual information, in nats; high is uncertain.
        embedding: shape (D,), pooled features of the trunk.
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
    bald: FloatArray
    embedding: FloatArray
    brightness: float
    contrast: float
    sharpness: float

    @property
    def scores(self) -> FloatArray:
        """Return each box's best class score, shape (N,)."""
        return self.class_scores.max(axis=1, initial=0.0)

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """Return each box's best class, shape (N,)."""
        if len(self.class_scores) == 0:
            return np.zeros(0, dtype=np.int64)
        return self.class_scores.argmax(axis=1).astype(np.int64)


def shard_prefix(project: str, model_version: int | None) -> str:
    """Return the key prefix of a model version's shards; version None is the base model's, `v0`."""
    return f"projects/{project}/predictions/v{model_version or 0}/"


def write_shard(store: ObjectStore, key: str, images: Sequence[ScoredImage]) -> None:
    """Write one shard; the same key replaces it whole."""
    columns = {name: [_plain(getattr(i, name)) for i in images] for name in SCHEMA.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), buffer, compression="zstd")
    store.put(key, buffer.getvalue(), "application/vnd.apache.parquet")


def read_shards(
    store: ObjectStore, project: str, model_version: int | None, splits: Sequence[Split] = ()
) -> Iterator[ScoredImage]:
    """Yield every image that a model version scored, in key order; of `splits` only, if given."""
    for key in store.list(shard_prefix(project, model_version)):
        yield from (i for i in read_shard(store, key) if not splits or i.split in splits)


def read_shard(store: ObjectStore, key: str) -> Iterator[ScoredImage]:
    """Yield the images of one shard."""
    table = pq.read_table(io.BytesIO(store.get(key)), schema=SCHEMA)
    for row in table.to_pylist():
        yield _from_row(row)


def scored_ids(store: ObjectStore, project: str, model_version: int | None) -> set[str]:
    """Return the ids of the images that a model version scored already."""
    ids: set[str] = set()
    for key in store.list(shard_prefix(project, model_version)):
        ids.update(pq.read_table(io.BytesIO(store.get(key)), columns=["image_id"])[0].to_pylist())
    return ids


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _from_row(row: dict[str, object]) -> ScoredImage:
    n = len(row["xyxy"])  # type: ignore[arg-type]
    arrays = {
        name: np.asarray(row[name], dtype=np.float32)
        for name in ("class_scores", "entropy", "margin", "bald", "embedding")
    }
    probabilities = np.asarray(row["class_probabilities"], dtype=np.float16)
    return ScoredImage(
        image_id=str(row["image_id"]),
        split=row["split"],  # type: ignore[arg-type]
        xyxy=np.asarray(row["xyxy"], dtype=np.float32).reshape(n, 4),
        class_probabilities=probabilities.reshape(n, *(probabilities.shape[1:] or (0, 0))),
        brightness=float(row["brightness"]),  # type: ignore[arg-type]
        contrast=float(row["contrast"]),  # type: ignore[arg-type]
        sharpness=float(row["sharpness"]),  # type: ignore[arg-type]
        class_scores=arrays["class_scores"].reshape(n, -1) if n else np.zeros((0, 0), np.float32),
        entropy=arrays["entropy"],
        margin=arrays["margin"],
        bald=arrays["bald"],
        embedding=arrays["embedding"],
    )
