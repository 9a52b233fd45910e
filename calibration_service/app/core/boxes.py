"""Boxes of one image: overlap, non-maximum suppression, and matching to what is really there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.thresholds import overlaps

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class EvidenceImage:
    """What a model saw in one labelled image, and what is there: N detections, M objects.

    Attributes:
        image_id: of the image.
        xyxy: shape (N, 4), detections, by falling score.
        scores: shape (N,), in [0, 1].
        class_ids: shape (N,).
        true_xyxy: shape (M, 4), objects.
        true_class_ids: shape (M,).
    """

    image_id: str
    xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    true_xyxy: FloatArray
    true_class_ids: IntArray

    def only(self, index: IntArray | BoolArray) -> "EvidenceImage":
        """Return the image with some of its detections, in their order."""
        return EvidenceImage(
            self.image_id,
            self.xyxy[index],
            self.scores[index],
            self.class_ids[index],
            self.true_xyxy,
            self.true_class_ids,
        )


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the overlap of every box of (N, 4) with every one of (M, 4), shape (N, M).

    Normalised boxes have the same overlap as pixel boxes: both areas scale alike.
    """
    return overlaps(first[:, None], second[None])


def match(image: EvidenceImage, iou_thresholds: FloatArray) -> BoolArray:
    """Return which detections find an object, shape (N, I) for I thresholds.

    By falling score each detection takes the free object of its class that it overlaps most, if by
    at least the threshold (the rule of COCO and PASCAL VOC). The better scored ones alone would be
    matched the same, so a score threshold may be applied afterwards.
    """
    hits = np.zeros((len(image.scores), len(iou_thresholds)), dtype=np.bool_)
    if not len(image.true_class_ids):
        return hits
    overlap = box_iou(image.xyxy, image.true_xyxy)
    overlap[image.class_ids[:, None] != image.true_class_ids[None, :]] = 0.0
    for i, threshold in enumerate(iou_thresholds):
        free = np.ones(len(image.true_class_ids), dtype=np.bool_)
        for n in np.flatnonzero(overlap.max(axis=1, initial=0.0) >= threshold):
            candidates = np.where(free, overlap[n], 0.0)
            best = int(candidates.argmax())
            if candidates[best] >= threshold:
                hits[n, i] = True
                free[best] = False
    return hits
