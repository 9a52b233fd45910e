"""Which of a model's candidate boxes count as detections: the same rule in serving and in drift."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.models.registry import CalibrationManifest

FloatArray = NDArray[np.float32]
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
    boxes, ids = xyxy[order], class_ids[order]
    rivals = overlaps(boxes[:, None], boxes[None]) > thresholds.nms_iou
    rivals &= ids[:, None] == ids[None]
    suppressed = np.zeros(len(order), dtype=bool)
    for n in range(len(order)):
        if not suppressed[n]:
            suppressed[n + 1 :] |= rivals[n, n + 1 :]
    kept: IndexArray = order[~suppressed].astype(np.int64)
    return kept


def overlaps(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes, shapes (..., 4), which broadcast."""
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    one_area, other_area = ((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (one, other))
    union = one_area + other_area - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
