"""From pixels to what shards and the served log keep: the same numbers for both."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from inference_service.app.core.consistency import inconsistencies
from inference_service.app.core.images import Pixels, image_statistics
from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
    seed_of,
)
from inference_service.app.core.uncertainty import Uncertainty, localisation, uncertainty
from shared.models.data import Split
from shared.predictions import ScoredImage


@dataclass(frozen=True)
class Picture:
    """One decoded image, RGB of shape (H, W, 3).

    `regions`, shape (M, 4), are boxes to describe in place of those that are found in it.
    """

    image_id: str
    split: Split
    pixels: Pixels
    regions: FloatArray | None = None


def score_pictures(
    runtime: DetectorRuntime,
    pictures: Sequence[Picture],
    options: DetectionOptions,
    *,
    consistency: bool = False,
) -> list[ScoredImage]:
    """Return what the detector sees in each picture, with uncertainty and statistics.

    With `consistency` it looks at two more views of each; else `inconsistency` is NaN.
    """
    inputs = [RuntimeInput(p.pixels, seed_of(p.image_id), regions=p.regions) for p in pictures]
    outputs = runtime.detect(inputs, options)
    unstable = (
        inconsistencies(runtime, inputs, outputs, options)
        if consistency
        else [np.full(len(o.xyxy), np.nan, dtype=np.float32) for o in outputs]
    )
    unsure = _uncertainties(outputs)
    return [_scored(*each) for each in zip(pictures, outputs, unsure, unstable, strict=True)]


def _uncertainties(outputs: Sequence[RuntimeOutput]) -> list[Uncertainty]:
    """Return those of each image, measured at once: boxes know nothing of each other."""
    if not outputs:
        return []
    found = uncertainty(np.concatenate([o.class_probabilities for o in outputs]))
    ends = np.cumsum([len(o.xyxy) for o in outputs])[:-1]
    split = {f.name: np.split(getattr(found, f.name), ends) for f in fields(found)}
    return [Uncertainty(**{name: of[n] for name, of in split.items()}) for n in range(len(outputs))]


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
        certainty=none,
        bald=none,
        variance=none,
        localisation=none,
        inconsistency=none,
        embedding=scored.embedding,
        box_embeddings=np.zeros((0, 0), dtype=np.float16),
        brightness=scored.brightness,
        contrast=scored.contrast,
        sharpness=scored.sharpness,
    )


def _scored(
    picture: Picture, output: RuntimeOutput, unsure: Uncertainty, inconsistency: FloatArray
) -> ScoredImage:
    statistics = image_statistics(picture.pixels)
    return ScoredImage(
        image_id=picture.image_id,
        split=picture.split,
        xyxy=output.xyxy,
        class_scores=output.class_scores,
        class_probabilities=output.class_probabilities.astype(np.float16),
        entropy=unsure.entropy,
        margin=unsure.margin,
        certainty=unsure.certainty,
        bald=unsure.bald,
        variance=unsure.variance,
        localisation=localisation(output.xyxy, output.pass_xyxy),
        inconsistency=inconsistency,
        embedding=output.embedding,
        box_embeddings=output.box_embeddings.astype(np.float16),
        brightness=statistics.brightness,
        contrast=statistics.contrast,
        sharpness=statistics.sharpness,
    )
