"""Detection quality over images: average precision, and F1 at fixed thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_service.app.core.boxes import (
    BoolArray,
    EvidenceImage,
    FloatArray,
    IntArray,
    match,
)
from shared.models.registry import Metrics, OperatingPoint

IOU_50 = np.array([0.5])
IOU_50_95 = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class MatchedImage:
    """One image after matching: N detections by falling score, I overlaps, C classes.

    Attributes:
        scores: shape (N,).
        class_ids: shape (N,).
        hits: shape (N, I), whether each detection found an object.
        n_objects: shape (C,), objects of each class.
    """

    scores: FloatArray
    class_ids: IntArray
    hits: BoolArray
    n_objects: IntArray


@dataclass(frozen=True)
class ClassEvidence:
    """All detections of one class over K images, by falling score: N detections, I overlaps.

    Attributes:
        image_index: shape (N,), which image each detection is in.
        scores: shape (N,).
        hits: shape (N, I), whether it found an object.
        n_objects: shape (K,), objects of the class in each image.
    """

    image_index: IntArray
    scores: FloatArray
    hits: BoolArray
    n_objects: IntArray


def matched(
    images: Sequence[EvidenceImage], n_classes: int, iou_thresholds: FloatArray = IOU_50
) -> list[MatchedImage]:
    """Match the detections of every image to its objects."""
    return [
        MatchedImage(
            image.scores,
            image.class_ids,
            match(image, iou_thresholds),
            np.bincount(image.true_class_ids, minlength=n_classes),
        )
        for image in images
    ]


def by_class(images: Sequence[MatchedImage], n_classes: int) -> list[ClassEvidence]:
    """Return the evidence of each class over K > 0 images."""
    index = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    scores = np.concatenate([image.scores for image in images])
    class_ids = np.concatenate([image.class_ids for image in images])
    hits = np.concatenate([image.hits for image in images])
    n_objects = np.stack([image.n_objects for image in images], axis=1)
    order = np.argsort(-scores, kind="stable")
    mine = [order[class_ids[order] == class_id] for class_id in range(n_classes)]
    return [
        ClassEvidence(index[m], scores[m], hits[m], n_objects[class_id])
        for class_id, m in enumerate(mine)
    ]


def average_precision(evidence: ClassEvidence, weights: FloatArray | None = None) -> FloatArray:
    """Return the average precision of one class at each overlap, shape (I,).

    Args:
        evidence: of the class.
        weights: shape (K,), how often each image counts; unset: once.

    Returns:
        In [0, 1]; NaN where there is no object, and so no recall.

    Source:
        101-point interpolation of COCO, integrated by trapezoids; equal to
        ultralytics.utils.metrics.ap_per_class to 1e-3.
    """
    per_image = np.ones(len(evidence.n_objects)) if weights is None else weights
    n_objects = float(evidence.n_objects @ per_image)
    if n_objects == 0:
        return np.full(evidence.hits.shape[1], np.nan)
    if not len(evidence.scores):
        return np.zeros(evidence.hits.shape[1])
    weight = per_image[evidence.image_index]
    n_found = np.cumsum(evidence.hits * weight[:, None], axis=0)
    n_seen = np.cumsum(weight)
    precision = n_found / np.maximum(n_seen, 1e-12)[:, None]
    recall = n_found / n_objects
    return np.array([_area(recall[:, i], precision[:, i]) for i in range(evidence.hits.shape[1])])


def evaluate(images: Sequence[EvidenceImage], classes: Sequence[str]) -> Metrics:
    """Return mAP of K > 0 images over the classes that have objects; 0 when none has."""
    n_classes = len(classes)
    evidence = by_class(matched(images, n_classes, IOU_50_95), n_classes)
    table = np.array([average_precision(e) for e in evidence]).reshape(n_classes, -1)
    present = np.array([e.n_objects.sum() > 0 for e in evidence], dtype=np.bool_)
    per_class = {name: float(table[n, 0]) for n, name in enumerate(classes) if present[n]}
    return Metrics(
        map50=float(table[present, 0].mean()) if per_class else 0.0,
        map50_95=float(table[present].mean()) if per_class else 0.0,
        per_class_map50=per_class,
        n_images=len(images),
    )


@dataclass(frozen=True)
class Counts:
    """Hits at fixed thresholds, over all classes."""

    n_hits: int
    n_detections: int
    n_objects: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.n_hits + other.n_hits,
            self.n_detections + other.n_detections,
            self.n_objects + other.n_objects,
        )

    def point(self) -> OperatingPoint:
        """Return micro-averaged precision, recall and F1; 0 where there is nothing to divide by."""
        both = self.n_detections + self.n_objects
        return OperatingPoint(
            f1=2 * self.n_hits / both if both else 0.0,
            precision=self.n_hits / self.n_detections if self.n_detections else 0.0,
            recall=self.n_hits / self.n_objects if self.n_objects else 0.0,
        )


def count_at(evidence: Sequence[ClassEvidence], score_thresholds: Sequence[float]) -> Counts:
    """Count, at the first overlap, what scores at least its class's threshold."""
    total = Counts(0, 0, 0)
    for mine, threshold in zip(evidence, score_thresholds, strict=True):
        kept = mine.scores >= threshold
        n_hits = int(mine.hits[kept, 0].sum())
        total += Counts(n_hits, int(kept.sum()), int(mine.n_objects.sum()))
    return total


def _area(recall: FloatArray, precision: FloatArray) -> float:
    recall = np.concatenate(([0.0], recall, [recall[-1]], [1.0]))
    precision = np.concatenate(([1.0], precision, [0.0], [0.0]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.trapezoid(np.interp(_RECALLS, recall, envelope), _RECALLS))
