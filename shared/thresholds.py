"""Which of a model's candidate boxes count as detections: the same rule in serving and in drift."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.models.registry import CalibrationManifest

FloatArray = NDArray[np.floating]
IndexArray = NDArray[np.int64]

DEFAULT_SCORE = 0.25
DEFAULT_NMS_IOU = 0.7


@dataclass(frozen=True)
class Thresholds:
    """Least score per class, in the order of the class map, and the IoU of the last suppression."""

    scores: tuple[float, ...]
    nms_iou: float = DEFAULT_NMS_IOU

    @classmethod
    def default(cls, n_classes: int) -> Self:
        """Return what applies to a model that was never calibrated."""
        return cls(scores=(DEFAULT_SCORE,) * n_classes)

    @classmethod
    def of(cls, manifest: CalibrationManifest | None, n_classes: int) -> Self:
        """Return the thresholds of a calibration; without one, or without that part, the default.

        Raises:
            ValueError: the calibration has another number of classes than the model.
        """
        thresholds = cls.default(n_classes)
        for component in manifest.components if manifest else ():
            if len(component.score_thresholds) != n_classes:
                msg = (
                    f"calibration for {len(component.score_thresholds)} classes, "
                    f"but the model has {n_classes}"
                )
                raise ValueError(msg)
            thresholds = cls(scores=component.score_thresholds, nms_iou=component.nms_iou)
        return thresholds


def kept_boxes(xyxy: FloatArray, class_scores: FloatArray, thresholds: Thresholds) -> IndexArray:
    """Return the boxes that count as detections, best first.

    A box belongs to its best class; it needs that class's threshold, and no better box of the same
    class may overlap it by more than `nms_iou`.

    Args:
        xyxy: shape (N, 4).
        class_scores: shape (N, C).
        thresholds: of C classes.

    Returns:
        Indices into the N boxes, shape (K,), by falling score; ties in the given order.
    """
    if len(xyxy) == 0:
        return np.zeros(0, dtype=np.int64)
    class_ids = class_scores.argmax(axis=1)
    scores = class_scores.max(axis=1)
    enough = scores >= np.asarray(thresholds.scores, dtype=np.float32)[class_ids]
    order = np.argsort(-scores, kind="stable")
    order = order[enough[order]]
    kept: IndexArray = order[nms(xyxy[order], class_ids[order], thresholds.nms_iou)]
    return kept


def nms(xyxy: FloatArray, class_ids: IndexArray, iou: float) -> NDArray[np.bool_]:
    """Return which boxes stay, shape (N,): greedy in their order, class by class.

    A box goes when a kept one of its own class overlaps it by more than `iou`.

    Args:
        xyxy: shape (N, 4), by falling score.
        class_ids: shape (N,).
        iou: in [0, 1].
    """
    same = class_ids[:, None] == class_ids[None, :]
    covers = (overlaps(xyxy[:, None], xyxy[None]) > iou) & same
    keep = np.ones(len(xyxy), dtype=np.bool_)
    for n in np.flatnonzero(np.triu(covers, 1).any(axis=1)):
        if keep[n]:
            keep[n + 1 :] &= ~covers[n, n + 1 :]
    return keep


def overlaps(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes, shapes (..., 4), which broadcast."""
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    one_area, other_area = ((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (one, other))
    union = one_area + other_area - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
