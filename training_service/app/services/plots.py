"""Pictures of a training: its losses, and what the model sees in val images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.detector.info import PackageInfo
from shared.detector.package import load_package
from shared.detector.ultralytics_env import DetectionModel, LetterBox, nms, ops

Image = NDArray[np.uint8]
COLUMNS, ROWS = 4, 3
TILE_PX = 240
SCORE_THRESHOLD = 0.25


def draw_losses(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the mean losses of every epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(4 * len(history), 3), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, values) in zip(
        figure.subplots(1, len(history), squeeze=False)[0], history.items(), strict=True
    ):
        axes.plot(range(1, len(values) + 1), values)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def draw_predictions(package: Path, images: Sequence[Path], path: Path) -> None:
    """Draw predicted boxes on up to twelve images, evenly chosen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model, info = load_package(package)
    step = max(1, len(images) // (COLUMNS * ROWS))
    chosen = images[::step][: COLUMNS * ROWS]
    tiles = [_tile(model, info, _read(image)) for image in chosen]
    blank = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(path), np.vstack(rows))


def _read(path: Path) -> Image:
    image = cv2.imread(str(path))
    if image is None:
        msg = f"unreadable image: {path}"
        raise ValueError(msg)
    return np.asarray(image, np.uint8)


def _tile(model: DetectionModel, info: PackageInfo, image: Image) -> Image:
    boxes = _predict(model, info, image)
    scale = TILE_PX / max(image.shape[:2])
    tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    small = cv2.resize(image, None, fx=scale, fy=scale)[:TILE_PX, :TILE_PX]
    tile[: small.shape[0], : small.shape[1]] = small
    for x1, y1, x2, y2, score, class_id in boxes:
        corner = (int(x1 * scale), int(y1 * scale))
        cv2.rectangle(tile, corner, (int(x2 * scale), int(y2 * scale)), (0, 140, 255), 2)
        text = f"{info.classes[int(class_id)]} {score:.2f}"
        place = (corner[0], max(12, corner[1] - 4))
        cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 140, 255), 1, cv2.LINE_AA)
    return tile


def _predict(model: DetectionModel, info: PackageInfo, image: Image) -> list[list[float]]:
    """Return xyxy in pixels of `image`, score and class of every box."""
    boxed = LetterBox((info.image_size, info.image_size), auto=False)(image=image)
    rgb = np.ascontiguousarray(boxed[..., ::-1].transpose(2, 0, 1))
    batch = torch.from_numpy(rgb)[None].float() / 255
    with torch.inference_mode():
        found = nms.non_max_suppression(model(batch), SCORE_THRESHOLD, 0.7)[0]
        found[:, :4] = ops.scale_boxes(batch.shape[2:], found[:, :4], image.shape)
    rows: list[list[float]] = found.tolist()
    return rows
