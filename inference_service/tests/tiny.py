"""Tiny detectors and images for tests."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shared.detector.dropout import add_head_dropout
from shared.detector.info import Architecture, PackageInfo
from shared.detector.package import PackageOptions, build_model, save_package
from shared.detector.ultralytics_env import DetectionModel

CLASSES = ("ring", "cross", "dot")
IMAGE_SIZE = 96
TINY = Architecture(depth_multiple=0.33, width_multiple=0.125, max_channels=256)


def tiny_model(seed: int = 0, dropout: float = 0.2) -> DetectionModel:
    """Return a small network whose random weights give scores all over (0, 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(TINY, CLASSES)
        head = model.model[-1]
        for branch in head.cv3:
            torch.nn.init.normal_(branch[-1].weight, std=0.6)
            torch.nn.init.constant_(branch[-1].bias, -2.0)
        for branch in head.cv2:
            torch.nn.init.normal_(branch[-1].weight, std=0.3)
        _settle_batch_norm(model)
    model.eval()
    add_head_dropout(model, dropout)
    return model


def _settle_batch_norm(model: DetectionModel) -> None:
    """Fit the running statistics; with the initial ones the signal dies out layer by layer."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(12):
            blobs = torch.rand(8, 3, 8, 8)
            model(torch.nn.functional.interpolate(blobs, IMAGE_SIZE, mode="bicubic"))


def tiny_package(folder: Path, seed: int = 0) -> PackageInfo:
    """Write the package of a tiny network."""
    return save_package(tiny_model(seed), folder, PackageOptions(IMAGE_SIZE, "scratch", graph=True))


def picture(seed: int, width: int = 80, height: int = 60) -> NDArray[np.uint8]:
    """Return an image of coloured blobs, shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
