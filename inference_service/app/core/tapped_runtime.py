"""The detector behind its port, whichever engine computes the trunk."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torchvision  # noqa: F401 - Ultralytics takes its faster NMS only where it is imported
from torch import Tensor

from inference_service.app.core.box_features import box_features
from inference_service.app.core.letterbox import Letterbox
from inference_service.app.core.passes import (
    anchor_points,
    draw_masks,
    stochastic_boxes,
    stochastic_scores,
)
from inference_service.app.core.runtime import (
    DetectionOptions,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
    described_boxes,
)
from inference_service.app.core.torch_threads import torch_threads
from inference_service.app.core.trunk import Head, Tapped, Trunk
from shared.detector.ultralytics_env import nms
from shared.models.registry import EngineChoice
from shared.served import with_background

# Torchvision is imported above because Ultralytics suppresses with it where some other module has
# imported it, else with code of its own that orders equal scores otherwise: a restarted process
# would keep other boxes.

# Measured on 2 cores, 320 px: 65 images/s one by one, 103 in eights, 106 in sixteens.
BATCH = 8


@dataclass(frozen=True)
class DetectorKind:
    """What a detector sees, how large it looks, and what computes it.

    Attributes:
        classes: names in the order of the scores.
        image_size: longer side of an image in the network, pixels.
        engine: of the trunk.
    """

    classes: tuple[str, ...]
    image_size: int
    engine: EngineChoice


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


class TappedRuntime:
    """A YOLOv8 network: the trunk once, by an engine; the head behind the dropout T times, here."""

    def __init__(self, trunk: Trunk, head: Head, kind: DetectorKind) -> None:
        """Look through `trunk`, whose head is `head`."""
        self._trunk = trunk
        self._head = head
        self._kind = kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores."""
        return self._kind.classes

    @property
    def engine(self) -> EngineChoice:
        """Return what computes it, and why that."""
        return self._kind.engine

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image, in their order."""
        boxes = [
            Letterbox.fit(i.pixels.shape[1], i.pixels.shape[0], self._kind.image_size * i.scale)
            for i in images
        ]
        outputs: dict[int, RuntimeOutput] = {}
        # What comes behind the trunk is small: more threads wait for each other, and keep the cores
        # from an engine that has threads of its own. Measured: 123 ms for ten passes in place of 7.
        with torch.inference_mode(), torch_threads(1):
            for batch in _batches(boxes):
                tapped = self._trunk.forward(
                    np.stack([boxes[i].apply(images[i].pixels) for i in batch])
                )
                anchors = self._suppress(tapped, options)
                for row, index in enumerate(batch):
                    how = options.n_passes, images[index].seed
                    passes = self._passes(tapped, row, anchors[row], how)
                    kept = _Kept(row, anchors[row], *passes, boxes[index])
                    output = _output(tapped, kept)
                    described = described_boxes(
                        images[index], output.xyxy, output.class_scores.max(axis=1), options
                    )
                    features = self._features(tapped, row, boxes[index].pixels(described))
                    outputs[index] = replace(output, box_embeddings=features)
        return [outputs[i] for i in range(len(images))]

    def _suppress(self, tapped: Tapped, options: DetectionOptions) -> list[Tensor]:
        """Return the kept anchors of each image, by falling score."""
        _, indices = nms.non_max_suppression(
            tapped.candidates,
            conf_thres=options.score_threshold,
            iou_thres=options.nms_iou,
            max_det=options.max_boxes,
            nc=len(self._kind.classes),
            # Its own limit would drop the boxes of the images that come late on a slow machine.
            max_time_img=3600.0,
            return_idxs=True,
        )
        return [i.view(-1).long() for i in indices]

    def _features(self, tapped: Tapped, row: int, xyxy: FloatArray) -> FloatArray:
        """Return the features of boxes, shape (M, 4) in pixels of the input, of one image."""
        strides = [level.stride for level in self._head.levels]
        found = box_features([m[row] for m in tapped.cls_maps], strides, torch.from_numpy(xyxy))
        features: FloatArray = found.cpu().numpy()
        return features

    def _passes(
        self, tapped: Tapped, row: int, anchors: Tensor, how: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return the class scores (N, C, T) and boxes (N, 4, T) of every pass at kept anchors."""
        n_passes, seed = how
        scores, boxes = (
            torch.empty((len(anchors), n, n_passes), device=anchors.device)
            for n in (len(self._kind.classes), 4)
        )
        masks = draw_masks(self._head.levels, self._head.dropout, n_passes, seed)
        start = 0
        for n, (level, drawn) in enumerate(zip(self._head.levels, masks, strict=True)):
            box_map, cls_map = tapped.box_maps[n][row], tapped.cls_maps[n][row]
            size = box_map.shape[1] * box_map.shape[2]
            here = (anchors >= start) & (anchors < start + size)
            chosen = anchors[here] - start
            width = box_map.shape[2]
            # By row and column, so that only the kept anchors are copied, however the map lies.
            box_features, cls_features = (
                m[:, chosen // width, chosen % width].T for m in (box_map, cls_map)
            )
            points = anchor_points(chosen, width, level.stride)
            boxes[here] = stochastic_boxes(box_features, level, drawn.box, points)
            scores[here] = stochastic_scores(cls_features, level.cls, drawn.cls)
            start += size
        return scores, boxes


def _batches(boxes: Sequence[Letterbox]) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, box in enumerate(boxes):
        by_shape[box.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), BATCH):
            yield indices[start : start + BATCH]


def _output(tapped: Tapped, kept: _Kept) -> RuntimeOutput:
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
