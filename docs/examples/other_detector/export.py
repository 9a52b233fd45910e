"""A detector without Ultralytics, as a package for `fovea import-model`.

    python export.py FOLDER

It finds bright spots in pictures that are otherwise dark: a stand-in for a network of your own.
Any `torch.nn.Module` (or any other program that writes ONNX) will do that takes a batch of images
and returns boxes and scores; `model.json` says what they look like.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

STRIDE = 8


class SpotDetector(nn.Module):
    """One box for each cell of 8x8 pixels: its score, in each class, is the cell's brightness."""

    def __init__(self, n_classes: int) -> None:
        """Know so many classes."""
        super().__init__()
        self.n_classes = n_classes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4), xyxy in pixels, and scores (B, N, C), of images (B, 3, H, W)."""
        grey = nn.functional.avg_pool2d(images.mean(1, keepdim=True), STRIDE)
        rows = torch.arange(grey.shape[2]) * STRIDE
        columns = torch.arange(grey.shape[3]) * STRIDE
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners = torch.stack([x, y, x + STRIDE, y + STRIDE], dim=-1).float().view(1, -1, 4)
        scores = grey.flatten(1).unsqueeze(-1).expand(-1, -1, self.n_classes)
        return corners.expand(images.shape[0], -1, -1), scores


def export(folder: Path, classes: list[str], size: int = 64) -> None:
    """Write `model.onnx` and `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "model.onnx"
    torch.onnx.export(
        SpotDetector(len(classes)).eval(),
        (torch.zeros(1, 3, size, size),),
        graph,
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamic_axes={name: {0: "batch"} for name in ("images", "boxes", "scores")},
        dynamo=False,
    )
    description = {
        "kind": "graph",
        "classes": classes,
        "image_size": size,
        "weights_sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "input": {"name": "images", "layout": "NCHW", "scale": 1 / 255},
        "outputs": {
            "boxes": "boxes",
            "scores": "scores",
            "box_format": "xyxy",
            "normalised": False,
        },
    }
    (folder / "model.json").write_text(json.dumps(description, indent=2))


if __name__ == "__main__":
    export(Path(sys.argv[1]), ["spot"])
