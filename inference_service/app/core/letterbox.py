"""Fit an image into the least rectangle a network takes, and boxes back out of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_service.app.core.images import Pixels

FloatArray = NDArray[np.float32]

STRIDE = 32
GREY = 114


@dataclass(frozen=True)
class Letterbox:
    """How an image of `width` x `height` lies in the network's input, in pixels."""

    width: int
    height: int
    scale: float
    inner_wh: tuple[int, int]
    top_bottom: tuple[int, int]
    left_right: tuple[int, int]

    @classmethod
    def fit(cls, width: int, height: int, image_size: float) -> "Letterbox":
        """Return the placement with the longer side at `image_size` and the least padding.

        Source:
            ultralytics.data.augment.LetterBox(image_size, auto=True, stride=32), where
            `image_size` is a multiple of 32; its result depends on this image alone, so batches
            hold images of one shape.
        """
        scale = min(image_size / height, image_size / width)
        inner = max(round(width * scale), 1), max(round(height * scale), 1)
        pad_w, pad_h = (-side % STRIDE / 2 for side in inner)
        return cls(
            width=width,
            height=height,
            scale=scale,
            inner_wh=inner,
            top_bottom=(round(pad_h - 0.1), round(pad_h + 0.1)),
            left_right=(round(pad_w - 0.1), round(pad_w + 0.1)),
        )

    @classmethod
    def into(
        cls, width: int, height: int, shape: tuple[int, int], share: float = 1.0
    ) -> "Letterbox":
        """Return the placement in the middle of an input of exactly `shape` (height, width).

        With a `share` below 1 the image is that much smaller than it could be.
        """
        scale = min(shape[0] / height, shape[1] / width) * share
        inner = max(round(width * scale), 1), max(round(height * scale), 1)
        pad_w, pad_h = shape[1] - inner[0], shape[0] - inner[1]
        return cls(
            width=width,
            height=height,
            scale=scale,
            inner_wh=inner,
            top_bottom=(pad_h // 2, pad_h - pad_h // 2),
            left_right=(pad_w // 2, pad_w - pad_w // 2),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the network's input."""
        width, height = self.inner_wh
        return height + sum(self.top_bottom), width + sum(self.left_right)

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the image resized and padded with grey, shape (*self.shape, 3)."""
        if (self.width, self.height) != self.inner_wh:
            pixels = cv2.resize(pixels, self.inner_wh, interpolation=cv2.INTER_LINEAR).astype(
                np.uint8, copy=False
            )
        (top, bottom), (left, right) = self.top_bottom, self.left_right
        padding = ((top, bottom), (left, right), (0, 0))
        return np.pad(pixels, padding, constant_values=GREY)

    def pixels(self, xyxy: FloatArray) -> FloatArray:
        """Return normalised boxes of the image, shape (..., 4), in pixels of the input."""
        origin, size = self._frame()
        return xyxy * size + origin

    def normalised(self, xyxy: FloatArray) -> FloatArray:
        """Return boxes of the network's input, shape (..., 4), as shares of the image in [0, 1]."""
        origin, size = self._frame()
        shares: FloatArray = np.clip((xyxy - origin) / size, 0, 1).astype(np.float32)
        return shares

    def _frame(self) -> tuple[FloatArray, FloatArray]:
        """Return where the image begins in the input and how large it is there, shape (4,) each."""
        origin = np.array([self.left_right[0], self.top_bottom[0]] * 2, dtype=np.float32)
        size = np.array([self.width, self.height] * 2, dtype=np.float32) * self.scale
        return origin, size.astype(np.float32, copy=False)
