"""Somebody else's detector: any ONNX graph with boxes and scores. Nothing of Ultralytics."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from torchvision.ops import batched_nms

from inference_service.app.core.images import Pixels
from inference_service.app.core.letterbox import Letterbox
from inference_service.app.core.onnx_session import open_session
from inference_service.app.core.runtime import (
    DetectionOptions,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
    described_boxes,
)
from inference_service.app.core.torch_threads import torch_threads
from shared.cores import usable_cores
from shared.detector.info import CorruptPackage, GraphInfo, check_file
from shared.models.registry import EngineChoice
from shared.served import with_background

BATCH = 8
# Without an embedding of its own, an image is described by a thumbnail of this side.
THUMBNAIL = 8
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class _InputShape:
    """What a graph takes: `batch` images (None: any number) of `size` (height, width; or any)."""

    batch: int | None
    size: tuple[int, int] | None
    image_size: int

    @classmethod
    def of(cls, dims: Sequence[int | str | None], info: GraphInfo) -> "_InputShape":
        batch, *rest = (dim if isinstance(dim, int) else None for dim in dims)
        height, width = rest[1:] if info.input.layout == "NCHW" else rest[:2]
        size = (height, width) if height is not None and width is not None else None
        return cls(batch, size, info.image_size)

    def letterbox(self, image: RuntimeInput) -> Letterbox:
        height, width = image.pixels.shape[:2]
        if self.size is None:
            return Letterbox.fit(width, height, self.image_size * image.scale)
        return Letterbox.into(width, height, self.size, image.scale)


class GraphDetector:
    """A detector whose passes are all alike: it has no dropout that could be left on.

    So its boxes have entropy, margin and certainty, and inconsistency where that is asked for; the
    mutual information and the spread of the boxes are 0.
    """

    def __init__(self, folder: Path, info: GraphInfo, threads: int = 0) -> None:
        """Load the graph of a package; `threads` 0 means all cores.

        Raises:
            CorruptPackage: it is damaged, or not what its description says.
        """
        path = folder / info.weights_file
        check_file(path, info.weights_sha256)
        self._info = info
        self._session = open_session(path, threads or usable_cores())
        names = (info.outputs.boxes, info.outputs.scores, info.outputs.embedding)
        self._outputs = [name for name in names if name is not None]
        given = {each.name: each for each in self._session.get_inputs()}
        there = {each.name for each in self._session.get_outputs()}
        if list(given) != [info.input.name] or not there.issuperset(self._outputs):
            msg = (
                f"graph {path} takes {sorted(given)} and gives {sorted(there)}; its description "
                f"says that it takes {info.input.name!r} and gives {self._outputs}"
            )
            raise CorruptPackage(msg)
        dims = given[info.input.name].shape
        if len(dims) != 4:
            msg = f"graph {path} takes {dims}, which is no batch of images"
            raise CorruptPackage(msg)
        self._type = _TYPES.get(given[info.input.name].type, np.float32)
        self._shape = _InputShape.of(dims, info)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in the order of the scores."""
        return self._info.classes

    @property
    def engine(self) -> EngineChoice:
        """Return what computes it."""
        return EngineChoice(engine="onnxruntime")

    @property
    def batch(self) -> int:
        """Return how many images it looks at together, at most."""
        return self._shape.batch or BATCH

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        """Return what is seen in each image, in their order."""
        boxes = [self._shape.letterbox(image) for image in images]
        outputs: dict[int, RuntimeOutput] = {}
        for batch in self._batches(boxes):
            pixels = np.stack([boxes[i].apply(images[i].pixels) for i in batch])
            found = self._run(pixels)
            # As behind a tapped trunk: more threads would wait for those of the session.
            with torch_threads(1):
                for row, index in enumerate(batch):
                    seen = [np.asarray(each[row], np.float32) for each in found]
                    outputs[index] = self._output(seen, boxes[index], images[index], options)
        return [outputs[i] for i in range(len(images))]

    def _run(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Return the graph's outputs for a batch."""
        given = self._input(pixels)
        try:
            found = self._session.run(self._outputs, {self._info.input.name: given})
        except InvalidArgument as exc:
            msg = f"the graph does not take {self._info.input.name!r} of shape {given.shape}: {exc}"
            raise CorruptPackage(msg) from exc
        boxes, scores = (np.asarray(each) for each in found[:2])
        fits = boxes.ndim == scores.ndim == 3 and boxes.shape == (*scores.shape[:2], 4)
        if not fits or len(boxes) != len(given):
            msg = (
                f"the graph gives boxes of shape {boxes.shape} and scores of {scores.shape} for "
                f"{len(given)} images: they have to be (B, N, 4) and (B, N, C)"
            )
            raise CorruptPackage(msg)
        if scores.size and np.isnan(scores).all():
            msg = "the graph gives scores that are all no numbers"
            raise CorruptPackage(msg)
        return [boxes, scores, *found[2:]]

    def _batches(self, boxes: Sequence[Letterbox]) -> Iterator[list[int]]:
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, box in enumerate(boxes):
            by_shape[box.shape].append(index)
        for indices in by_shape.values():
            starts = range(0, len(indices), self.batch)
            yield from (indices[start : start + self.batch] for start in starts)

    def _input(self, pixels: Pixels) -> NDArray[Any]:
        """Return a batch as the graph takes it; one that takes more images gets the last again."""
        how = self._info.input
        if missing := (self._shape.batch or len(pixels)) - len(pixels):
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
        batch: NDArray[Any] = pixels
        if self._type is not np.uint8:
            mean, std = (np.array(v, np.float32) for v in (how.mean, how.std))
            batch = ((pixels.astype(np.float32) * how.scale - mean) / std).astype(self._type)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if how.layout == "NCHW" else batch

    def _output(
        self, seen: list[FloatArray], box: Letterbox, image: RuntimeInput, options: DetectionOptions
    ) -> RuntimeOutput:
        scores = self._class_scores(seen[1])
        corners = self._corners(seen[0], box)
        kept = self._kept(corners, scores, options)
        xyxy, scores = box.normalised(corners[kept]), scores[kept]
        # Boxes that lie in the padding, or were clipped to a line.
        whole = (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
        xyxy, scores = xyxy[whole], scores[whole]
        passes = options.n_passes
        described = described_boxes(image, xyxy, scores.max(axis=1), options)
        return RuntimeOutput(
            xyxy=xyxy,
            pass_xyxy=np.repeat(xyxy[:, :, None], passes, axis=2),
            class_scores=scores,
            class_probabilities=np.repeat(
                with_background(scores).astype(np.float32)[:, :, None], passes, axis=2
            ),
            embedding=seen[2].ravel() if len(seen) > 2 else thumbnail(image.pixels),
            box_embeddings=_thumbnails(image.pixels, described),
        )

    def _class_scores(self, raw: FloatArray) -> FloatArray:
        how = self._info.outputs
        scores = torch.from_numpy(raw)
        if how.activation != "none":
            scores = scores.sigmoid() if how.activation == "sigmoid" else scores.softmax(-1)
        first, last = (int(how.background == which) for which in ("first", "last"))
        found: FloatArray = scores.numpy()[:, first : scores.shape[1] - last].clip(0, 1)
        if found.shape[1] != len(self.classes):
            msg = (
                f"the graph gives scores of {found.shape[1]} classes (background: "
                f"{how.background}), and its description names {len(self.classes)}"
            )
            raise CorruptPackage(msg)
        return found

    def _corners(self, raw: FloatArray, box: Letterbox) -> FloatArray:
        """Return xyxy in pixels of the network's input."""
        how = self._info.outputs
        corners = raw
        if how.box_format == "cxcywh":
            corners = np.hstack([raw[:, :2] - raw[:, 2:] / 2, raw[:, :2] + raw[:, 2:] / 2])
        if how.normalised:
            height, width = box.shape
            corners = corners * np.array([width, height, width, height], np.float32)
        return corners.astype(np.float32)

    def _kept(
        self, corners: FloatArray, scores: FloatArray, options: DetectionOptions
    ) -> NDArray[np.int64]:
        """Return the boxes that are kept, by falling score."""
        best = scores.max(axis=1, initial=0.0)
        # Suppression needs numbers: one that is none would keep every overlap of the others.
        real = np.isfinite(corners).all(axis=1)
        sure = np.flatnonzero((best >= options.score_threshold) & real)
        order = sure[np.argsort(-best[sure], kind="stable")]
        if not self._info.outputs.suppressed and len(order):
            order = order[
                batched_nms(
                    torch.from_numpy(corners[order]),
                    torch.from_numpy(best[order]),
                    torch.from_numpy(scores[order].argmax(axis=1)),
                    options.nms_iou,
                ).numpy()
            ]
        return order[: options.max_boxes]


def _thumbnails(pixels: Pixels, xyxy: FloatArray) -> FloatArray:
    """Return what is in normalised boxes, as an image is described, shape (M, 3 THUMBNAIL^2)."""
    height, width = pixels.shape[:2]
    cut = (xyxy * np.array([width, height] * 2, np.float32)).round().astype(int)
    found = [
        thumbnail(
            pixels[min(y1, height - 1) : max(y2, y1 + 1), min(x1, width - 1) : max(x2, x1 + 1)]
        )
        for x1, y1, x2, y2 in cut
    ]
    return np.array(found, np.float32).reshape(len(cut), 3 * THUMBNAIL**2)


def thumbnail(pixels: Pixels) -> FloatArray:
    """Return an image as a few centred numbers, shape (3 * THUMBNAIL ** 2,)."""
    small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    flat = small.astype(np.float32).ravel() / 255
    found: FloatArray = flat - flat.mean() + np.float32(1e-3)
    return found
