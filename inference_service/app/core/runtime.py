"""Port of the detector: pixels in; boxes, all class scores, stochastic passes and embedding out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference_service.app.core.images import Pixels
from shared.models.registry import EngineChoice

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class DetectionOptions:
    """What is kept of a model's candidates, and how often it is asked.

    Attributes:
        n_passes: T, stochastic passes with dropout.
        max_boxes: most boxes of one image.
        score_threshold: least best-class score of a box.
        nms_iou: overlap above which the lesser box of one class is dropped.
    """

    n_passes: int = 10
    max_boxes: int = 100
    score_threshold: float = 0.001
    nms_iou: float = 0.7


@dataclass(frozen=True)
class RuntimeInput:
    """One image, and how it is looked at.

    Attributes:
        pixels: RGB, shape (H, W, 3).
        seed: of its dropout masks.
        scale: how large the network sees it, as a share of its usual input size.
    """

    pixels: Pixels
    seed: int
    scale: float = 1.0


@dataclass(frozen=True)
class RuntimeOutput:
    """What a detector sees in one image: N boxes by falling score, C classes, T passes, D features.

    Attributes:
        xyxy: shape (N, 4), normalised to [0, 1] of the given image; none is degenerate.
        pass_xyxy: shape (N, 4, T), the same boxes in each pass with dropout, normalised likewise;
            clipped to the image they may be degenerate.
        class_scores: shape (N, C), of the pass without dropout.
        class_probabilities: shape (N, C + 1, T), background last; sums to 1 over axis 1.
        embedding: shape (D,), features of the trunk, pooled over the image.
    """

    xyxy: FloatArray
    pass_xyxy: FloatArray
    class_scores: FloatArray
    class_probabilities: FloatArray
    embedding: FloatArray


class DetectorRuntime(Protocol):
    """A loaded detector. One thread at a time may use it.

    Equal batches give equal results, bit by bit. An equal image with an equal seed in another batch
    gives the same result up to rounding (about 1e-6), whatever else is in the batch.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores."""

    @property
    def engine(self) -> EngineChoice:
        """Return what computes it, and why that."""

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image, in their order."""


def seed_of(image_id: str) -> int:
    """Return the seed of an image's dropout masks: scored again, it gets equal numbers."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:7])
