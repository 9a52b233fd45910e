"""The detector behind its port, whichever engine computes the trunk."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

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

# Features times passes of the boxes that are drawn at once, 16 MB: all of a batch in ten passes.
MOST_NUMBERS = 4_000_000


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
    """The N boxes that are kept of a batch, those of its first image first, on the trunk's device.

    Attributes:
        counts: how many each image has.
        rows: shape (N,), the image of each.
        anchors: shape (N,).
    """

    counts: tuple[int, ...]
    rows: Tensor
    anchors: Tensor


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

    @property
    def batch(self) -> int:
        """Return how many images it looks at together, at most."""
        return self._trunk.batch

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
            for batch in _batches(boxes, self.batch):
                tapped = self._trunk.forward(
                    np.stack([boxes[i].apply(images[i].pixels) for i in batch])
                )
                seen = self._seen(
                    tapped, [images[i] for i in batch], [boxes[i] for i in batch], options
                )
                outputs.update(zip(batch, seen, strict=True))
        return [outputs[i] for i in range(len(images))]

    def _seen(
        self,
        tapped: Tapped,
        images: Sequence[RuntimeInput],
        boxes: Sequence[Letterbox],
        options: DetectionOptions,
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image of a batch: all at once, since calls cost most."""
        kept = self._suppress(tapped, options)
        scores, pass_xyxy = self._passes(tapped, kept, [i.seed for i in images], options.n_passes)
        candidates = tapped.candidates[kept.rows, :, kept.anchors]
        centre, half = candidates[:, :2], candidates[:, 2:4] / 2
        found = zip(
            boxes,
            _split(torch.cat([centre - half, centre + half], dim=1), kept),
            _split(candidates[:, 4:], kept),
            _split(pass_xyxy.transpose(1, 2), kept),
            np.split(with_background(scores.cpu().numpy()).astype(np.float32), _ends(kept)),
            tapped.pooled.cpu().numpy().copy(),
            strict=True,
        )
        outputs = [_output(*each) for each in found]
        described = [
            box.pixels(
                described_boxes(image, output.xyxy, output.class_scores.max(axis=1), options)
            )
            for image, box, output in zip(images, boxes, outputs, strict=True)
        ]
        features = self._features(tapped, described)
        return [replace(o, box_embeddings=f) for o, f in zip(outputs, features, strict=True)]

    def _suppress(self, tapped: Tapped, options: DetectionOptions) -> _Kept:
        """Return the kept anchors, those of an image by falling score."""
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
        anchors = [i.view(-1).long() for i in indices]
        counts = [len(a) for a in anchors]
        rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        together = torch.cat(anchors)
        return _Kept(tuple(counts), rows.to(together.device), together)

    def _features(self, tapped: Tapped, xyxy: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the features of some boxes, shape (M, 4) in pixels of the input, of each image."""
        strides = [level.stride for level in self._head.levels]
        found = box_features(tapped.cls_maps, strides, [torch.from_numpy(boxes) for boxes in xyxy])
        ends = np.cumsum([len(boxes) for boxes in xyxy])[:-1]
        return np.split(found.cpu().numpy(), ends)

    def _passes(
        self, tapped: Tapped, kept: _Kept, seeds: Sequence[int], n_passes: int
    ) -> tuple[Tensor, Tensor]:
        """Return the class scores (N, C, T) and boxes (N, 4, T) of every pass at kept anchors.

        The boxes are in pixels of the input.
        """
        scores, boxes = (
            torch.empty((len(kept.anchors), n, n_passes), device=kept.anchors.device)
            for n in (len(self._kind.classes), 4)
        )
        masks = [
            draw_masks(self._head.levels, self._head.dropout, n_passes, seed) for seed in seeds
        ]
        start = 0
        for n, level in enumerate(self._head.levels):
            box_map, cls_map = tapped.box_maps[n], tapped.cls_maps[n]
            size, width = box_map.shape[2] * box_map.shape[3], box_map.shape[3]
            here = ((kept.anchors >= start) & (kept.anchors < start + size)).nonzero().view(-1)
            drawn_box, drawn_cls = (
                torch.stack([getattr(drawn[n], branch) for drawn in masks])
                for branch in ("box", "cls")
            )
            n_channels = max(level.box.n_channels, level.cls.n_channels)
            for at in torch.split(here, max(1, MOST_NUMBERS // (n_passes * n_channels))):
                chosen, rows = kept.anchors[at] - start, kept.rows[at]
                # By row and column, so that only the kept anchors are copied, however the map lies.
                box_features, cls_features = (
                    m[rows, :, chosen // width, chosen % width] for m in (box_map, cls_map)
                )
                points = anchor_points(chosen, width, level.stride)
                boxes[at] = stochastic_boxes(box_features, level, drawn_box[rows], points)
                scores[at] = stochastic_scores(cls_features, level.cls, drawn_cls[rows])
            start += size
        return scores, boxes


def _batches(boxes: Sequence[Letterbox], size: int) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, box in enumerate(boxes):
        by_shape[box.shape].append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _ends(kept: _Kept) -> list[int]:
    """Return where the boxes of each image but the last end."""
    return list(accumulate(kept.counts[:-1]))


def _split(of_all: Tensor, kept: _Kept) -> list[FloatArray]:
    """Return what belongs to each image."""
    return np.split(of_all.cpu().numpy(), _ends(kept))


def _output(
    letterbox: Letterbox,
    corners: FloatArray,
    class_scores: FloatArray,
    pass_corners: FloatArray,
    probabilities: FloatArray,
    embedding: FloatArray,
) -> RuntimeOutput:
    xyxy, pass_xyxy = letterbox.normalised(corners), letterbox.normalised(pass_corners)
    # Boxes that lie in the padding, or were clipped to a line.
    whole = (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    return RuntimeOutput(
        xyxy=xyxy[whole],
        pass_xyxy=pass_xyxy.transpose(0, 2, 1)[whole],
        class_scores=class_scores[whole],
        class_probabilities=probabilities[whole],
        embedding=embedding,
    )
