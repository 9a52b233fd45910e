"""A YOLOv8 network that also shows what Bayesian passes and embeddings need; and its ONNX graph."""

import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from shared.detector.ultralytics_env import DetectionModel

INPUT = "pixels"
# Of the last 1x1 convolution's input, by level, fine to coarse; the dropout stands between.
BOX_MAPS, CLS_MAPS = ("box0", "box1", "box2"), ("cls0", "cls1", "cls2")
OUTPUTS = ("candidates", *BOX_MAPS, *CLS_MAPS, "pooled")
OPSET = 17


class TappedNetwork(nn.Module):
    """A fused network, never to be trained again.

    Takes pixels, RGB, uint8, shape (B, H, W, 3), sides multiples of 32. Returns, in the order of
    `OUTPUTS`: candidates (B, 4 + C, A), centre, width and height in pixels and C class scores of A
    anchors; the maps of the box and class branches (B, K, h, w) before the head's dropout; and the
    trunk's last map pooled over the image, (B, D).
    """

    def __init__(self, model: DetectionModel) -> None:
        """Take over `model`, with or without dropout in its head."""
        super().__init__()
        self.model = model.fuse(verbose=False).requires_grad_(requires_grad=False)
        self._taps: dict[str, Tensor] = {}
        self._dtype = torch.float32
        head = self.model.model[-1]
        # The decoded candidates alone; else the raw ones are returned beside them.
        head.export, head.format, head.dynamic = True, "onnx", True
        _decode_in_float32(head)
        for n, (box, cls) in enumerate(zip(head.cv2, head.cv3, strict=True)):
            # In front of what comes last: behind the activation and before the dropout, which does
            # nothing in `eval` mode.
            self._tap(box[1], BOX_MAPS[n])
            self._tap(cls[1], CLS_MAPS[n])
        self._tap(next(m for m in self.model.model if type(m).__name__ == "SPPF"), "trunk")
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return candidates, maps and pooled features."""
        # (B, H, W, 3) seen as (B, 3, H, W) is channels_last already.
        candidates = self.model(pixels.permute(0, 3, 1, 2).to(self._dtype) / 255)
        maps = (self._taps[name] for name in (*BOX_MAPS, *CLS_MAPS))
        return (candidates, *maps, self._taps["trunk"].mean(dim=(2, 3)))

    def half(self) -> Self:
        """Compute in float16 from here on, but for the places of the boxes."""
        super().half()
        self.model.model[-1].dfl.float()
        self._dtype = torch.float16
        return self

    def _tap(self, module: nn.Module, name: str) -> None:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            del module, inputs
            self._taps[name] = output

        module.register_forward_hook(keep)


def _decode_in_float32(head: Any) -> None:
    """Have `head` place its boxes in float32 whatever the network computes in.

    At 640 pixels two numbers of float16 are half a pixel apart, two of bfloat16 four pixels.
    """
    decode = head._inference

    def exact(raw: dict[str, Any]) -> Tensor:
        exactly = {name: raw[name].float() for name in ("boxes", "scores")}
        feats = [level.float() for level in raw["feats"]]
        with torch.autocast(exactly["boxes"].device.type, enabled=False):
            candidates: Tensor = decode({**exactly, "feats": feats})
        return candidates

    head._inference = exact


def export_onnx(model: DetectionModel, path: Path) -> None:
    """Write the tapped graph of `model`, which it takes over, for any batch, height and width."""
    network = TappedNetwork(model.cpu().float())
    example = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter by tracing is called old, but the new one fixes the shapes of this head.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {0: "batch", 1: "height", 2: "width"}},
            opset_version=OPSET,
            dynamo=False,
        )
