"""Image bytes to upright 8-bit RGB pixels, and what drift watches of the pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from shared.errors import BadRequest, TooLarge, UnsupportedMedia
from shared.images import BadImage, decode_upright
from shared.models.data import RejectionReason

Pixels = NDArray[np.uint8]

STATISTICS_SIZE = 256
# Of one file to predict, which is read into memory whole.
MAX_IMAGE_BYTES = 128 << 20


class EmptyImage(BadRequest):
    """The file has no bytes."""


class CorruptImage(BadRequest):
    """The file says that it is an image, but cannot be decoded to the end."""


class ImageTooLarge(TooLarge):
    """The header announces more pixels than allowed."""


class UnsupportedImage(UnsupportedMedia):
    """The file is not an image of a kind we read, or it is animated."""


@dataclass(frozen=True)
class ImageStatistics:
    """Brightness and contrast: mean and standard deviation of the grey values in [0, 1].

    Sharpness is the variance of the Laplacian of the grey image at 256 x 256 pixels.
    """

    brightness: float
    contrast: float
    sharpness: float


_Refusal = type[CorruptImage | ImageTooLarge | UnsupportedImage]
_CORRUPT: tuple[_Refusal, str] = (CorruptImage, "corrupt image")
_REFUSALS: dict[RejectionReason, tuple[_Refusal, str]] = {
    "oversized": (ImageTooLarge, "image too large"),
    "animated": (UnsupportedImage, "animated image or several pages"),
    "unsupported": (UnsupportedImage, "unsupported image"),
}


def decode_image(data: bytes, max_pixels: float, name: str = "image") -> Pixels:
    """Return the image upright, as 8-bit RGB, shape (H, W, 3).

    Args:
        data: the file's bytes, of any kind that an ingestion takes.
        max_pixels: more than this is refused by the header, before anything is decoded.
        name: for the message.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: another kind of file, more than one frame, or values of unknown range.
        ImageTooLarge: too many pixels.
        CorruptImage: damaged or truncated.
    """
    if not data:
        msg = f"empty image: {name!r}"
        raise EmptyImage(msg)
    try:
        upright = decode_upright(data, max_pixels).image
    except BadImage as exc:
        refusal, what = _REFUSALS.get(exc.reason, _CORRUPT)
        msg = f"{what}: {name!r}: {exc.detail}"
        raise refusal(msg) from exc
    # Of an image that is RGB already, convert makes a copy.
    return _array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def image_statistics(pixels: Pixels) -> ImageStatistics:
    """Return brightness, contrast and sharpness of an RGB image, shape (H, W, 3)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    size = (STATISTICS_SIZE, STATISTICS_SIZE)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return ImageStatistics(
        brightness=float(mean[0, 0]) / 255,
        contrast=float(deviation[0, 0]) / 255,
        sharpness=float(cv2.Laplacian(small, cv2.CV_32F).var()),
    )


def _array(rgb: Image.Image) -> Pixels:
    try:
        # Pillow's own memory, four bytes a pixel: NumPy would have every row copied, and joined.
        shared = pa.array(rgb).flatten().to_numpy()
    except ValueError:
        # A large image lies in several blocks.
        return np.ascontiguousarray(rgb, dtype=np.uint8)
    padded = shared.reshape(rgb.height, rgb.width, 4)
    return np.asarray(cv2.cvtColor(padded, cv2.COLOR_RGBA2RGB), np.uint8)
