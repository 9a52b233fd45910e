"""Log of served predictions: what drift compares, and the same columns of scored images."""

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage
from shared.thresholds import Thresholds, kept_boxes

FloatArray = NDArray[np.float32]

# Seconds until a served prediction is in the object store at the latest, while the store is up.
FLUSH_S = 2.0
# Shards keep at most this many boxes an image; a served image is described by as many.
MAX_BOXES = 100
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"
SCALARS = (
    "n_boxes",
    "mean_score",
    "max_score",
    "mean_box_area",
    "mean_entropy",
    "brightness",
    "contrast",
    "sharpness",
)

SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("image_id", pa.string()),
        ("batch", pa.string()),
        ("n_boxes", pa.int32()),
        ("mean_score", pa.float32()),
        ("max_score", pa.float32()),
        ("mean_box_area", pa.float32()),
        ("mean_entropy", pa.float32()),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("sharpness", pa.float32()),
        ("class_counts", pa.list_(pa.int32())),
        ("embedding", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class DriftRow:
    """What drift watches of one image: K detections of C classes after thresholds, D features.

    Attributes:
        n_boxes: K.
        mean_score: over the detections; 0 without any.
        max_score: of the detections; 0 without any.
        mean_box_area: share of the image in [0, 1]; 0 without any.
        mean_entropy: of each detection's class distribution with background, in nats; from the
            deterministic scores, so that it does not depend on the number of passes.
        brightness: mean grey value in [0, 1].
        contrast: standard deviation of the grey values.
        sharpness: variance of the Laplacian of the grey image at a fixed size.
        class_counts: detections per class, in the map's order, length C.
        embedding: shape (D,), pooled features of the trunk.
    """

    n_boxes: int
    mean_score: float
    max_score: float
    mean_box_area: float
    mean_entropy: float
    brightness: float
    contrast: float
    sharpness: float
    class_counts: tuple[int, ...]
    embedding: FloatArray

    def columns(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the scalar columns by name, and `class_<name>` for each class of the map."""
        scalars = {name: float(getattr(self, name)) for name in SCALARS}
        counts = zip(classes, self.class_counts, strict=True)
        return scalars | {f"class_{name}": float(count) for name, count in counts}


@dataclass(frozen=True)
class ServedPrediction:
    """One answered request; `time` has a zone, `batch` is the caller's own label."""

    prediction_id: str
    time: datetime
    image_id: str
    batch: str | None
    row: DriftRow


@dataclass(frozen=True)
class Window:
    """Which served predictions: `since` <= time < `until`, and of one batch, where given."""

    since: datetime | None = None
    until: datetime | None = None
    batch: str | None = None

    def __contains__(self, served: ServedPrediction) -> bool:
        """Tell whether a prediction lies in the window."""
        return (
            (self.since is None or served.time >= self.since)
            and (self.until is None or served.time < self.until)
            and (self.batch is None or served.batch == self.batch)
        )


EVERYTHING = Window()


def drift_row(scored: ScoredImage, thresholds: Thresholds) -> DriftRow:
    """Return what drift watches of an image, from its best `MAX_BOXES` boxes.

    Serving logs its own predictions by this function, so shards and served images compare.

    Args:
        scored: an image as scored or served, boxes by falling score.
        thresholds: that serving applies to this model version.
    """
    xyxy, class_scores = scored.xyxy[:MAX_BOXES], scored.class_scores[:MAX_BOXES]
    kept = kept_boxes(xyxy, class_scores, thresholds)
    boxes, scores = xyxy[kept], class_scores[kept] if len(kept) else np.zeros((0, 1), np.float32)
    best = scores.max(axis=1, initial=0.0)
    classes = np.bincount(scores.argmax(axis=1), minlength=len(thresholds.scores))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return DriftRow(
        n_boxes=len(kept),
        mean_score=_mean(best),
        max_score=float(best.max(initial=0.0)),
        mean_box_area=_mean(areas),
        mean_entropy=_mean(_entropy(with_background(scores))),
        brightness=scored.brightness,
        contrast=scored.contrast,
        sharpness=scored.sharpness,
        class_counts=tuple(int(n) for n in classes),
        embedding=scored.embedding,
    )


def with_background(class_scores: FloatArray) -> NDArray[np.float64]:
    """Return a distribution over the classes and background, from independent class scores.

    Background is the product of `1 - score` over the classes; then everything is renormalised.

    Args:
        class_scores: shape (N, C) or (N, C, T), each in [0, 1].

    Returns:
        Shape (N, C + 1) or (N, C + 1, T), background last; sums to 1 over axis 1.
    """
    scores = class_scores.astype(np.float64)
    joined = np.concatenate([scores, (1 - scores).prod(axis=1, keepdims=True)], axis=1)
    result: NDArray[np.float64] = joined / joined.sum(axis=1, keepdims=True)
    return result


def served_prefix(project: str, model_version: int) -> str:
    """Return the key prefix of the log of a model version."""
    return f"projects/{project}/served/v{model_version}/"


def write_served(
    store: ObjectStore, project: str, model_version: int, served: Sequence[ServedPrediction]
) -> str:
    """Write predictions as one file under a new key, and return the key."""
    rows = [_to_plain(s) for s in served]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    stamp = datetime.now(UTC).strftime(TIME_FORMAT)
    key = f"{served_prefix(project, model_version)}{stamp}-{uuid.uuid4().hex}.parquet"
    store.put(key, buffer.getvalue(), "application/vnd.apache.parquet")
    return key


def read_served(
    store: ObjectStore,
    project: str,
    model_version: int,
    window: Window = EVERYTHING,
    limit: int | None = None,
) -> list[ServedPrediction]:
    """Return the newest `limit` served predictions of a window in the order of time, each once.

    A prediction may lie in two files when a process was killed between writing and forgetting it.
    Files are read newest first, and none that can add nothing.
    """
    found: list[ServedPrediction] = []
    since = window.since or datetime.min.replace(tzinfo=UTC)
    for key in reversed(list(store.list(served_prefix(project, model_version)))):
        # A file is written after everything in it was served.
        if _written(key) < since:
            break
        here = (served for served in _read_file(store, key) if served in window)
        found = _newest({s.prediction_id: s for s in (*found, *here)}.values(), limit)
        if limit is not None and len(found) == limit:
            since = found[0].time
    return found


def _newest(served: Iterable[ServedPrediction], limit: int | None) -> list[ServedPrediction]:
    in_order = sorted(served, key=lambda s: (s.time, s.prediction_id))
    return in_order if limit is None else in_order[-limit:]


def _written(key: str) -> datetime:
    stamp = key.rsplit("/", 1)[-1].split("-", 1)[0]
    return datetime.strptime(stamp, TIME_FORMAT).replace(tzinfo=UTC)


def _read_file(store: ObjectStore, key: str) -> Iterator[ServedPrediction]:
    for row in pq.read_table(io.BytesIO(store.get(key)), schema=SCHEMA).to_pylist():
        yield _from_plain(row)


def _to_plain(served: ServedPrediction) -> dict[str, object]:
    row = served.row
    return {
        "prediction_id": served.prediction_id,
        "time": served.time,
        "image_id": served.image_id,
        "batch": served.batch,
        **{name: getattr(row, name) for name in SCALARS},
        "class_counts": list(row.class_counts),
        "embedding": row.embedding.tolist(),
    }


def _from_plain(plain: Mapping[str, Any]) -> ServedPrediction:
    return ServedPrediction(
        prediction_id=plain["prediction_id"],
        time=plain["time"],
        image_id=plain["image_id"],
        batch=plain["batch"],
        row=DriftRow(
            **{name: plain[name] for name in SCALARS},
            class_counts=tuple(plain["class_counts"]),
            embedding=np.asarray(plain["embedding"], dtype=np.float32),
        ),
    )


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.where(probabilities > 0, probabilities, 1.0)
    result: NDArray[np.float64] = -(probabilities * np.log(safe)).sum(axis=1)
    return result


def _mean(values: NDArray[np.floating[Any]]) -> float:
    return float(values.mean()) if len(values) else 0.0
