"""From pixels to what shards and the served log keep: the same numbers for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference_service.app.core.images import Pixels, image_statistics
from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    RuntimeInput,
    RuntimeOutput,
    seed_of,
)
from inference_service.app.core.uncertainty import uncertainty
from shared.models.data import Split
from shared.predictions import ScoredImage


@dataclass(frozen=True)
class Picture:
    """One decoded image, RGB of shape (H, W, 3)."""

    image_id: str
    split: Split
    pixels: Pixels


def score_pictures(
    runtime: DetectorRuntime, pictures: Sequence[Picture], options: DetectionOptions
) -> list[ScoredImage]:
    """Return what the detector sees in each picture, with uncertainty and statistics."""
    inputs = [RuntimeInput(p.pixels, seed_of(p.image_id)) for p in pictures]
    outputs = runtime.detect(inputs, options)
    return [_scored(p, o) for p, o in zip(pictures, outputs, strict=True)]


def without_boxes(scored: ScoredImage) -> ScoredImage:
    """Return the image without its boxes, whose classes mean nothing to the project."""
    none = np.zeros(0, dtype=np.float32)
    return ScoredImage(
        image_id=scored.image_id,
        split=scored.split,
        xyxy=none.reshape(0, 4),
        class_scores=none.reshape(0, 0),
        class_probabilities=np.zeros((0, 0, 0), dtype=np.float16),
        entropy=none,
        margin=none,
        bald=none,
        embedding=scored.embedding,
        brightness=scored.brightness,
        contrast=scored.contrast,
        sharpness=scored.sharpness,
    )


def _scored(picture: Picture, output: RuntimeOutput) -> ScoredImage:
    unsure = uncertainty(output.class_probabilities)
    statistics = image_statistics(picture.pixels)
    return ScoredImage(
        image_id=picture.image_id,
        split=picture.split,
        xyxy=output.xyxy,
        class_scores=output.class_scores,
        class_probabilities=output.class_probabilities.astype(np.float16),
        entropy=unsure.entropy,
        margin=unsure.margin,
        bald=unsure.bald,
        embedding=output.embedding,
        brightness=statistics.brightness,
        contrast=statistics.contrast,
        sharpness=statistics.sharpness,
    )
