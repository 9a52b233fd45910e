"""What Ultralytics is told of a training, and the learning rate where iterations are counted."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from training_service.app.services.specs import TrainSpec

WARM_UP_ITERATIONS = 30
FINAL_SHARE = 0.01
# Of the coarsest of the network's maps.
STRIDE = 32


def overrides(spec: TrainSpec) -> dict[str, Any]:
    """Return Ultralytics' arguments: settings that help small sets, nothing it does by itself."""
    params = spec.params
    return {
        "model": "yolov8n.yaml",
        "data": str(spec.data_yaml),
        "save_dir": str(spec.work / "run"),
        # Where iterations are counted, a bound: the training itself stops at the last of them.
        "epochs": params.iterations or params.epochs,
        "imgsz": params.image_size,
        "batch": params.batch,
        # The default accumulates gradients over 64 images: a tenth of the steps.
        "nbs": params.batch,
        "seed": params.seed,
        "optimizer": "AdamW",
        "lr0": params.learning_rate,
        "lrf": FINAL_SHARE,
        "momentum": 0.9,
        "warmup_epochs": 0.0 if params.iterations else _warm_up_epochs(spec),
        "warmup_bias_lr": 0.0,
        "patience": 0,
        "mosaic": 0.0,
        "close_mosaic": 0,
        "cache": "ram",
        "workers": 0,
        "amp": "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else False,
        "val": False,
        "plots": False,
        "verbose": False,
    }


def learning_rate_share(iteration: int, n_iterations: int) -> float:
    """Return the learning rate of an iteration, as a share of the highest, in (0, 1].

    It rises over the first iterations and falls linearly to `FINAL_SHARE`: per iteration, so that
    it does not depend on how many images there are.

    Args:
        iteration: 0 is the first.
        n_iterations: of the whole training.
    """
    n_rising = max(1, min(WARM_UP_ITERATIONS, n_iterations // 4))
    rising = min(1.0, (iteration + 1) / n_rising)
    return rising * (1 - (1 - FINAL_SHARE) * iteration / n_iterations)


def batch_shape(shapes: Iterable[tuple[int, int]], image_size: int) -> tuple[int, int]:
    """Return the smallest height and width that hold every image, in whole strides.

    Args:
        shapes: height and width of each image, pixels, before it is resized.
        image_size: its longer side once it is resized.
    """
    heights, widths = zip(*((h / max(h, w), w / max(h, w)) for h, w in shapes), strict=True)
    height, width = (math.ceil(max(s) * image_size / STRIDE) * STRIDE for s in (heights, widths))
    return height, width


def _warm_up_epochs(spec: TrainSpec) -> float:
    n_images = sum(1 for _ in (spec.data_yaml.parent / "images" / "train").iterdir())
    n_batches = -(-n_images // spec.params.batch)
    return min(3.0, WARM_UP_ITERATIONS / n_batches)
