"""Per-class score thresholds and the NMS overlap, fitted and judged by cross-validation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calibration_service.app.core.boxes import BoolArray, EvidenceImage, FloatArray
from calibration_service.app.core.metrics import (
    ClassEvidence,
    Counts,
    MatchedImage,
    by_class,
    count_at,
    matched,
)
from shared.models.registry import OperatingPoint, ThresholdComponent
from shared.thresholds import nms

DEFAULT_SCORE = 0.25
DEFAULT_NMS_IOU = 0.7
# Shards are written after NMS at 0.7, so a looser one cannot be tried.
NMS_GRID = (0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)
MIN_POSITIVES = 10
LOWEST_SCORE = 0.01
N_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose; `kept` is False when nothing beat the default."""

    component: ThresholdComponent
    kept: bool


def default_component(n_classes: int) -> ThresholdComponent:
    """Return what serving does without a calibration."""
    return ThresholdComponent(
        score_thresholds=(DEFAULT_SCORE,) * n_classes,
        nms_iou=DEFAULT_NMS_IOU,
        fallback=(True,) * n_classes,
    )


def measure(images: Sequence[EvidenceImage], component: ThresholdComponent) -> OperatingPoint:
    """Return precision, recall and F1 of what `component` would serve of K > 0 images."""
    n_classes = len(component.score_thresholds)
    evidence = by_class(_suppressed(images, component.nms_iou, n_classes), n_classes)
    return count_at(evidence, component.score_thresholds).point()


class ThresholdFit:
    """Thresholds for some labelled images; suppression and matching are done once, up front."""

    def __init__(self, images: Sequence[EvidenceImage], n_classes: int) -> None:
        """Match K > 0 images at every overlap of the grid."""
        self.n_images = len(images)
        self.n_classes = n_classes
        self._matched = {iou: _suppressed(images, iou, n_classes) for iou in NMS_GRID}

    def fit(
        self, min_positives: float = MIN_POSITIVES, images: Sequence[int] | None = None
    ) -> ThresholdComponent:
        """Return the thresholds that maximise each class's F1, and the overlap that lets them.

        Args:
            min_positives: a class with fewer objects takes the one threshold that is best for all
                classes together; infinity makes that one threshold the only one.
            images: positions of those to fit on; unset: all.
        """
        best: tuple[float, ThresholdComponent] | None = None
        for iou in NMS_GRID:
            evidence = self._evidence(iou, images)
            component = _fit_at(evidence, iou, min_positives)
            f1 = count_at(evidence, component.score_thresholds).point().f1
            # A tie keeps the looser overlap, which is nearer to the default.
            if best is None or f1 > best[0] + 1e-9:
                best = (f1, component)
        assert best is not None  # noqa: S101 - the grid is not empty
        return best[1]

    def choose(self, progress: Callable[[float], None]) -> Choice:
        """Fit on all images what does best on images it was not fitted on.

        Thresholds fitted and judged on the same images always look better than the default. So the
        images are cut into five folds; each is measured with what was fitted on the other four, and
        the F1 of the folds together decides between one threshold per class, one for all, and the
        default. A tie goes to the simpler one.
        """
        default = default_component(self.n_classes)
        best_f1, best = self._count(default, range(self.n_images)).point().f1, None
        for n, min_positives in enumerate((math.inf, MIN_POSITIVES)):
            f1 = self._held_out_f1(min_positives)
            if f1 > best_f1 + 1e-9:
                best_f1, best = f1, min_positives
            progress((n + 1) / 2)
        if best is None:
            return Choice(default, kept=False)
        return Choice(self.fit(best), kept=True)

    def _held_out_f1(self, min_positives: float) -> float:
        folds = _folds(self.n_images)
        total = Counts(0, 0, 0)
        for fold in folds:
            rest = [i for other in folds if other is not fold for i in other]
            total += self._count(self.fit(min_positives, rest), fold)
        return total.point().f1

    def _count(self, component: ThresholdComponent, images: Sequence[int]) -> Counts:
        return count_at(self._evidence(component.nms_iou, images), component.score_thresholds)

    def _evidence(self, iou: float, images: Sequence[int] | None) -> list[ClassEvidence]:
        every = self._matched[iou]
        return by_class(every if images is None else [every[i] for i in images], self.n_classes)


def _suppressed(images: Sequence[EvidenceImage], iou: float, n_classes: int) -> list[MatchedImage]:
    plausible = [image.only(image.scores >= LOWEST_SCORE) for image in images]
    return matched(
        [image.only(nms(image.xyxy, image.class_ids, iou)) for image in plausible], n_classes
    )


def _fit_at(
    evidence: Sequence[ClassEvidence], iou: float, min_positives: float
) -> ThresholdComponent:
    common = _best_threshold(
        np.concatenate([e.scores for e in evidence]),
        np.concatenate([e.hits[:, 0] for e in evidence]),
        sum(int(e.n_objects.sum()) for e in evidence),
    )
    shared_threshold = DEFAULT_SCORE if common is None else common
    own = [
        _best_threshold(e.scores, e.hits[:, 0], int(e.n_objects.sum()))
        if e.n_objects.sum() >= min_positives
        else None
        for e in evidence
    ]
    return ThresholdComponent(
        score_thresholds=tuple(shared_threshold if t is None else t for t in own),
        nms_iou=iou,
        fallback=tuple(t is None for t in own),
    )


def _best_threshold(scores: FloatArray, hits: BoolArray, n_objects: int) -> float | None:
    """Return the threshold of the highest F1, midway to the next score; None without a hit."""
    if not hits.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    f1 = 2 * np.cumsum(hits) / (np.arange(1, len(scores) + 1) + n_objects)
    # Equal scores stand or fall together.
    f1[:-1][scores[:-1] == scores[1:]] = 0.0
    best = int(f1.argmax())
    below = float(scores[best + 1]) if best + 1 < len(scores) else LOWEST_SCORE
    return round((float(scores[best]) + max(below, LOWEST_SCORE)) / 2, 6)


def _folds(n_images: int) -> list[list[int]]:
    order = np.random.default_rng(0).permutation(n_images)
    n_folds = min(N_FOLDS, n_images)
    return [order[f::n_folds].tolist() for f in range(n_folds)] if n_images > 1 else []
