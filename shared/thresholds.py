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
    kept: list[int] = []
    for index in order[enough[order]]:
        rivals = [k for k in kept if class_ids[k] == class_ids[index]]
        if not rivals or overlaps(xyxy[index], xyxy[rivals]).max() <= thresholds.nms_iou:
            kept.append(int(index))
    return np.asarray(kept, dtype=np.int64)


def overlaps(box: FloatArray, others: FloatArray) -> FloatArray:
    """Return the intersection over union of one box, shape (4,), with others, shape (N, 4)."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
