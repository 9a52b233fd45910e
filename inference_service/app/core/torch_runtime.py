"""Adapter of the detector port: PyTorch, on a GPU if there is one."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401
from torch import Tensor, nn

from inference_service.app.core.letterbox import Letterbox
from inference_service.app.core.passes import HeadBranch, draw_masks, stochastic_scores
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
    """One pass: candidates (B, 4 + C, A), the class branches' maps (B, K, H, W), pooled (B, D)."""

    candidates: Tensor
    maps: tuple[Tensor, ...]
    pooled: Tensor


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
        self._branches = [_branch(box, cls) for box, cls in zip(head.cv2, head.cv3, strict=True)]
        self._taps: dict[str, Tensor] = {}
        for level, branch in enumerate(head.cv3):
            self._tap(branch[1], f"map{level}")
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
            Letterbox.fit(i.pixels.shape[1], i.pixels.shape[0], self._image_size) for i in images
        ]
        outputs: dict[int, RuntimeOutput] = {}
        with torch.inference_mode():
            for batch in _batches(boxes):
                tapped = self._forward([boxes[i].apply(images[i].pixels) for i in batch])
                kept = self._suppress(tapped, options)
                for row, index in enumerate(batch):
                    passes = self._passes(tapped, row, kept[row], (options, images[index].seed))
                    outputs[index] = _output(tapped, row, kept[row], (passes, boxes[index]))
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
        maps = tuple(self._taps[f"map{level}"] for level in range(len(self._branches)))
        return _Tapped(candidates.float(), maps, self._taps["trunk"].mean(dim=(2, 3)))

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
        self, tapped: _Tapped, row: int, anchors: Tensor, how: tuple[DetectionOptions, int]
    ) -> Tensor:
        """Return the class scores of every pass at the kept anchors, shape (N, C, T)."""
        options, seed = how
        shape = (len(anchors), len(self._classes), options.n_passes)
        scores = torch.empty(shape, device=self._device)
        masks = draw_masks(self._branches, self._p, options.n_passes, seed)
        start = 0
        for branch, level_map, level_masks in zip(self._branches, tapped.maps, masks, strict=True):
            features = level_map[row].flatten(1)
            here = (anchors >= start) & (anchors < start + features.shape[1])
            chosen = features[:, anchors[here] - start].T
            scores[here] = stochastic_scores(chosen, branch, level_masks.to(self._device))
            start += features.shape[1]
        return scores


def load_runtime(folder: Path, options: TorchOptions | None = None) -> TorchRuntime:
    """Return the detector of a model package.

    Raises:
        CorruptPackage: the package is damaged.
    """
    model, info = load_package(folder)
    return TorchRuntime(model, info.classes, info.image_size, options)


def load_base_runtime(base: str, options: TorchOptions | None = None) -> TorchRuntime:
    """Return a detector for embeddings, before any training.

    Args:
        base: as `shared.detector.package.new_model` takes it; the weights of `scratch` are random,
            but the same each time.
        options: how PyTorch computes.

    Raises:
        UnknownBase: no base model has this name.
    """
    for folder in (BASES / base, Path(base)):
        if folder.is_dir():
            return load_runtime(folder, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_model(("object",), base)
    return TorchRuntime(model, ("object",), BASE_IMAGE_SIZE, options)


def _branch(box: Any, cls: Any) -> HeadBranch:
    last = cls[-1]
    weight = last.weight.detach().flatten(1).float()
    return HeadBranch(weight, last.bias.detach().float(), box[1].conv.out_channels)


def _batches(boxes: Sequence[Letterbox]) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, box in enumerate(boxes):
        by_shape[box.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), BATCH):
            yield indices[start : start + BATCH]


def _output(
    tapped: _Tapped, row: int, anchors: Tensor, rest: tuple[Tensor, Letterbox]
) -> RuntimeOutput:
    passes, letterbox = rest
    kept = tapped.candidates[row][:, anchors].T
    centre, half = kept[:, :2], kept[:, 2:4] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)
    xyxy = letterbox.normalised(corners.cpu().numpy())
    # Boxes that lie in the padding, or were clipped to a line.
    whole = (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    probabilities = with_background(passes.cpu().numpy()).astype(np.float32)
    return RuntimeOutput(
        xyxy=xyxy[whole],
        class_scores=kept[:, 4:].cpu().numpy()[whole],
        class_probabilities=probabilities[whole],
        embedding=tapped.pooled[row].cpu().numpy(),
    )
