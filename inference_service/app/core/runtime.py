"""Port of the detector: pixels in; boxes, all class scores, stochastic passes and embedding out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference_service.app.core.images import Pixels
from shared.models.registry import EngineChoice

FloatArray = NDArray[np.float32]

# Boxes below it are mostly nothing; who looks for similar objects would find noise.
DESCRIBED_SCORE = 0.1


@dataclass(frozen=True)
class DetectionOptions:
    """What is kept of a model's candidates, and how often it is asked.

    Attributes:
        n_passes: T, stochastic passes with dropout.
        max_boxes: most boxes of one image.
        score_threshold: least best-class score of a box.
        nms_iou: overlap above which the lesser box of one class is dropped.
        max_described: most boxes of one image that get an embedding, those of the best scores.
    """

    n_passes: int = 10
    max_boxes: int = 100
    score_threshold: float = 0.001
    nms_iou: float = 0.7
    max_described: int = 32


@dataclass(frozen=True)
class RuntimeInput:
    """One image, and how it is looked at.

    Attributes:
        pixels: RGB, shape (H, W, 3).
        seed: of its dropout masks.
        scale: how large the network sees it, as a share of its usual input size.
        regions: shape (M, 4), normalised to [0, 1]: boxes to describe in place of its own.
    """

    pixels: Pixels
    seed: int
    scale: float = 1.0
    regions: FloatArray | None = None


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
        box_embeddings: shape (M, E), features of the given regions; without any, of its first M
            boxes, those of score `DESCRIBED_SCORE` at least.
    """

    xyxy: FloatArray
    pass_xyxy: FloatArray
    class_scores: FloatArray
    class_probabilities: FloatArray
    embedding: FloatArray
    box_embeddings: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class DetectorRuntime(Protocol):
    """A loaded detector; several threads may ask at once.

    Equal batches give equal results, bit by bit. An equal image with an equal seed in another batch
    gives the same result up to rounding (about 1e-6), whatever else is in the batch.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores."""

    @property
    def engine(self) -> EngineChoice:
        """Return what computes it, and why that."""

    @property
    def batch(self) -> int:
        """Return how many images it looks at together, at most; more are looked at in turn."""

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image, in their order."""


def described_boxes(
    image: RuntimeInput, xyxy: FloatArray, scores: FloatArray, options: DetectionOptions
) -> FloatArray:
    """Return the boxes that get an embedding, shape (M, 4), normalised to [0, 1].

    Args:
        image: which may ask for regions of its own.
        xyxy: shape (N, 4), its boxes by falling score.
        scores: shape (N,).
        options: how many at most.
    """
    if image.regions is not None:
        return image.regions
    n_good = int((scores >= DESCRIBED_SCORE).sum())
    return xyxy[: min(n_good, options.max_described)]


def seed_of(image_id: str) -> int:
    """Return the seed of an image's dropout masks: scored again, it gets equal numbers."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:7])
