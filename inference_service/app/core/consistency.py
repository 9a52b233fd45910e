"""Consistency of a detector: does it see the same boxes in the image flipped, and made smaller."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
)
from inference_service.app.core.uncertainty import iou
from shared.served import with_background

Doubles = NDArray[np.float64]

# The network's input at 640 px becomes 480 px.
SMALLER = 0.75


def inconsistencies(
    runtime: DetectorRuntime,
    inputs: Sequence[RuntimeInput],
    outputs: Sequence[RuntimeOutput],
    options: DetectionOptions,
) -> list[FloatArray]:
    """Return how much two more views of each image contradict its boxes.

    The views are the image flipped left to right, and the image at `SMALLER` of its scale.

    Args:
        runtime: the detector.
        inputs: the images.
        outputs: what it saw in them.
        options: as for the outputs; the views need neither passes nor embeddings.

    Returns:
        For each image shape (N,), in [0, 1], the mean of its views; 0 where both views show the
        same boxes with the same classes, 1 where neither shows the box, high is unsure.

    Source:
        The idea is of Gao et al. 2020 (arXiv:1910.07153) and, for detection, of Yu et al. 2022,
        CALD (arXiv:2103.10374), which compares boxes and distributions of augmented images.
    """
    once = replace(options, n_passes=1, max_described=0)
    flipped = runtime.detect([replace(i, pixels=i.pixels[:, ::-1]) for i in inputs], once)
    smaller = runtime.detect([replace(i, scale=i.scale * SMALLER) for i in inputs], once)
    return [
        (contradiction(seen, _flip(mirrored)) + contradiction(seen, small)) / np.float32(2)
        for seen, mirrored, small in zip(outputs, flipped, smaller, strict=True)
    ]


def contradiction(seen: RuntimeOutput, view: RuntimeOutput) -> FloatArray:
    """Return how much one view contradicts each box, shape (N,), in [0, 1].

    It is 1 - max(IoU * similarity) over the view's boxes, where the similarity of two class
    distributions with background is 1 - JS / ln 2, of the Jensen-Shannon divergence JS in nats.
    The best product picks the counterpart: the box of best IoU alone may be one of the faint boxes
    that suppression leaves around every object. Without any overlap it is 1.
    """
    if len(view.xyxy) == 0:
        return np.ones(len(seen.xyxy), dtype=np.float32)
    overlap = iou(seen.xyxy[:, :, None], view.xyxy.T[None])
    ours, theirs = (with_background(o.class_scores) for o in (seen, view))
    divergence = _jensen_shannon(ours[:, None], theirs[None])
    agreement = (overlap * (1 - divergence / np.log(2))).max(axis=1)
    return np.asarray((1 - agreement).clip(0, 1), dtype=np.float32)


def _jensen_shannon(one: Doubles, other: Doubles) -> Doubles:
    """Return the Jensen-Shannon divergence in nats, over the last axis; Lin 1991."""
    middle = _entropy((one + other) / 2)
    divergence: Doubles = middle - (_entropy(one) + _entropy(other)) / 2
    return divergence


def _entropy(chances: Doubles) -> Doubles:
    summed: Doubles = -(chances * np.log(np.where(chances > 0, chances, 1))).sum(axis=-1)
    return summed


def _flip(output: RuntimeOutput) -> RuntimeOutput:
    """Return the boxes of a flipped image as boxes of the image itself."""
    x1, y1, x2, y2 = output.xyxy.T
    return replace(output, xyxy=np.stack([1 - x2, y1, 1 - x1, y2], axis=1))
