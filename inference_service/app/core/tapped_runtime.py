"""Adapter of the detector port: PyTorch, on a GPU if there is one."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401 - Ultralytics takes its faster NMS only where it is imported
from torch import Tensor, nn

from inference_service.app.core.letterbox import Letterbox
from inference_service.app.core.passes import (
    HeadBranch,
    HeadLevel,
    anchor_points,
    draw_masks,
    stochastic_boxes,
    stochastic_scores,
)
from inference_service.app.core.runtime import DetectionOptions, RuntimeInput, RuntimeOutput
from shared.detector.dropout import head_dropout
from shared.detector.package import BASES, load_package, new_model
from shared.detector.ultralytics_env import DetectionModel, nms
from shared.served import with_background

# Torchvision is imported above because Ultralytics suppresses with it where some other module has
# imported it, else with code of its own that orders equal scores otherwise: a restarted process
# would keep other boxes.

# Measured on 2 cores, 320 px: 65 images/s one by one, 103 in eights, 106 in sixteens.
BATCH = 8
BASE_IMAGE_SIZE = 320


@dataclass(frozen=True)
class TorchOptions:
    """How PyTorch computes.

    Attributes:
        threads: 0 means all cores.
        bf16: run the convolutions in bfloat16; faster where the CPU has AMX, less exact.
    """

    threads: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class _Tapped:
    """One pass: candidates (B, 4 + C, A), the branches' maps (B, K, H, W) by level, pooled (B, D).

    Candidates are boxes as centre, width and height in pixels of the network's input, then scores.
    """

    candidates: Tensor
    box_maps: tuple[Tensor, ...]
    cls_maps: tuple[Tensor, ...]
    pooled: Tensor


@dataclass(frozen=True)
class _Kept:
    """What is kept of one image: its row in the batch, anchors (N,), passes, and its place.

    The passes' class scores have shape (N, C, T), their boxes (N, 4, T), in pixels of the input.
    """

    row: int
    anchors: Tensor
    scores: Tensor
    pass_xyxy: Tensor
    letterbox: Letterbox


class TorchRuntime:
    """A YOLOv8 network with taps before the head's dropout and behind the trunk."""

    def __init__(
        self,
        model: DetectionModel,
        classes: tuple[str, ...],
        image_size: int,
        options: TorchOptions | None = None,
    ) -> None:
        """Take over `model`: fuse it, put taps into it and never train it again."""
        self._options = options or TorchOptions()
        torch.set_num_threads(self._options.threads or os.cpu_count() or 1)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._classes = classes
        self._image_size = image_size
        self._p = head_dropout(model)
        fused = model.fuse(verbose=False).eval().requires_grad_(requires_grad=False)
        self._model = fused.to(self._device, memory_format=torch.channels_last)
        head = self._model.model[-1]
        parts = list(zip(head.cv2, head.cv3, head.stride.tolist(), strict=True))
        self._levels = [HeadLevel(_branch(b), _branch(c), stride) for b, c, stride in parts]
        self._taps: dict[str, Tensor] = {}
        for n, (box, cls, _) in enumerate(parts):
            self._tap(box[1], f"box{n}")
            self._tap(cls[1], f"cls{n}")
        self._tap(next(m for m in self._model.model if type(m).__name__ == "SPPF"), "trunk")

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores."""
        return self._classes

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image, in their order."""
        boxes = [
            Letterbox.fit(i.pixels.shape[1], i.pixels.shape[0], self._image_size * i.scale)
            for i in images
        ]
        outputs: dict[int, RuntimeOutput] = {}
        with torch.inference_mode():
            for batch in _batches(boxes):
                tapped = self._forward([boxes[i].apply(images[i].pixels) for i in batch])
                anchors = self._suppress(tapped, options)
                for row, index in enumerate(batch):
                    how = options.n_passes, images[index].seed
                    passes = self._passes(tapped, row, anchors[row], how)
                    kept = _Kept(row, anchors[row], *passes, boxes[index])
                    outputs[index] = _output(tapped, kept)
        return [outputs[i] for i in range(len(images))]

    def _tap(self, module: nn.Module, name: str) -> None:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            del module, inputs
            self._taps[name] = output.float()

        module.register_forward_hook(keep)

    def _forward(self, pixels: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> _Tapped:
        stacked = torch.from_numpy(np.stack(pixels)).to(self._device)
        # (B, H, W, 3) seen as (B, 3, H, W) is channels_last already.
        scaled = stacked.permute(0, 3, 1, 2).float().div_(255)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._options.bf16):
            candidates = self._model(scaled)[0]
        box, cls = (
            tuple(self._taps[f"{branch}{n}"] for n in range(len(self._levels)))
            for branch in ("box", "cls")
        )
        return _Tapped(candidates.float(), box, cls, self._taps["trunk"].mean(dim=(2, 3)))

    def _suppress(self, tapped: _Tapped, options: DetectionOptions) -> list[Tensor]:
        """Return the kept anchors of each image, by falling score."""
        _, indices = nms.non_max_suppression(
            tapped.candidates,
            conf_thres=options.score_threshold,
            iou_thres=options.nms_iou,
            max_det=options.max_boxes,
            nc=len(self._classes),
            # Its own limit would drop the boxes of the images that come late on a slow machine.
            max_time_img=3600.0,
            return_idxs=True,
        )
        return [i.view(-1).long() for i in indices]

    def _passes(
        self, tapped: _Tapped, row: int, anchors: Tensor, how: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return the class scores (N, C, T) and boxes (N, 4, T) of every pass at kept anchors."""
        n_passes, seed = how
        scores, boxes = (
            torch.empty((len(anchors), n, n_passes), device=self._device)
            for n in (len(self._classes), 4)
        )
        masks = draw_masks(self._levels, self._p, n_passes, seed)
        start = 0
        for n, (level, drawn) in enumerate(zip(self._levels, masks, strict=True)):
            box_map, cls_map = tapped.box_maps[n][row], tapped.cls_maps[n][row]
            size = box_map.shape[1] * box_map.shape[2]
            here = (anchors >= start) & (anchors < start + size)
            chosen = anchors[here] - start
            points = anchor_points(chosen, box_map.shape[2], level.stride)
            # Channels lie together in memory, so that only the kept anchors are copied.
            box_features, cls_features = (
                m.permute(1, 2, 0).flatten(0, 1)[chosen] for m in (box_map, cls_map)
            )
            box_masks, cls_masks = drawn.box.to(self._device), drawn.cls.to(self._device)
            boxes[here] = stochastic_boxes(box_features, level, box_masks, points)
            scores[here] = stochastic_scores(cls_features, level.cls, cls_masks)
            start += size
        return scores, boxes


def load_runtime(folder: Path, options: TorchOptions | None = None) -> TorchRuntime:
    """Return the detector of a model package.

    Raises:
        CorruptPackage: the package is damaged.
    """
    model, info = load_package(folder)
    return TorchRuntime(model, info.classes, info.image_size, options)


def load_base_runtime(
    base: str, downloads: Path, options: TorchOptions | None = None
) -> TorchRuntime:
    """Return a detector for embeddings, before any training.

    Args:
        base: as `shared.detector.package.new_model` takes it; the weights of `scratch` are random,
            but the same each time.
        downloads: as there.
        options: how PyTorch computes.

    Raises:
        UnknownBase: no base model has this name.
    """
    for folder in (BASES / base, Path(base)):
        if folder.is_dir():
            return load_runtime(folder, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_model(("object",), base, downloads)
    return TorchRuntime(model, ("object",), BASE_IMAGE_SIZE, options)


def _branch(convolutions: Any) -> HeadBranch:
    last = convolutions[-1]
    return HeadBranch(last.weight.detach().flatten(1).float(), last.bias.detach().float())


def _batches(boxes: Sequence[Letterbox]) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, box in enumerate(boxes):
        by_shape[box.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), BATCH):
            yield indices[start : start + BATCH]


def _output(tapped: _Tapped, kept: _Kept) -> RuntimeOutput:
    candidates = tapped.candidates[kept.row][:, kept.anchors].T
    centre, half = candidates[:, :2], candidates[:, 2:4] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)
    xyxy = kept.letterbox.normalised(corners.cpu().numpy())
    pass_xyxy = kept.letterbox.normalised(kept.pass_xyxy.transpose(1, 2).cpu().numpy())
    # Boxes that lie in the padding, or were clipped to a line.
    whole = (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    probabilities = with_background(kept.scores.cpu().numpy()).astype(np.float32)
    return RuntimeOutput(
        xyxy=xyxy[whole],
        pass_xyxy=pass_xyxy.transpose(0, 2, 1)[whole],
        class_scores=candidates[:, 4:].cpu().numpy()[whole],
        class_probabilities=probabilities[whole],
        embedding=tapped.pooled[kept.row].cpu().numpy(),
    )
