"""Image bytes to upright 8-bit RGB pixels, and what drift watches of the pixels."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import BadRequest, TooLarge, UnsupportedMedia

Pixels = NDArray[np.uint8]

STATISTICS_SIZE = 256


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


# By the first bytes, and opened by the format's own class: Ultralytics replaces `PIL.Image.open` by
# one that wants to install a package when a file is not recognised.
_FORMATS: tuple[tuple[Callable[[bytes], bool], type[ImageFile]], ...] = (
    (lambda head: head.startswith(b"\xff\xd8\xff"), JpegImageFile),
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    (lambda head: head.startswith(b"BM"), BmpImageFile),
    (lambda head: head[:4] in {b"II*\0", b"MM\0*"}, TiffImageFile),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", WebPImageFile),
)


def decode_image(data: bytes, max_pixels: float, name: str = "image") -> Pixels:
    """Return the image upright, as 8-bit RGB, shape (H, W, 3).

    Transparent parts become white; 16-bit grey keeps its upper 8 bits.

    Args:
        data: the file's bytes: JPEG, PNG, BMP, TIFF or WebP.
        max_pixels: more than this is refused by the header, before anything is decoded.
        name: for the message.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: another kind of file, or more than one frame.
        ImageTooLarge: too many pixels.
        CorruptImage: damaged or truncated.
    """
    try:
        with _open(data, name) as image:
            _check(image, max_pixels, name)
            image.load()
            return _to_rgb(image)
    # What Pillow's decoders raise on damaged files; SyntaxError is their "not my format".
    except (OSError, SyntaxError, ValueError, IndexError, TypeError, EOFError, struct.error) as exc:
        msg = f"corrupt image: {name!r}: {exc}"
        raise CorruptImage(msg) from exc


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


def _open(data: bytes, name: str) -> ImageFile:
    if not data:
        msg = f"empty image: {name!r}"
        raise EmptyImage(msg)
    for matches, image_class in _FORMATS:
        if matches(data[:16]):
            return image_class(io.BytesIO(data), "")
    msg = f"not a JPEG, PNG, BMP, TIFF or WebP image: {name!r}"
    raise UnsupportedImage(msg)


def _check(image: ImageFile, max_pixels: float, name: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        msg = f"image too large: {name!r} has {width} x {height} pixels, limit {max_pixels:.0f}"
        raise ImageTooLarge(msg)
    if getattr(image, "n_frames", 1) > 1:
        msg = f"animated image or several pages: {name!r}"
        raise UnsupportedImage(msg)


def _to_rgb(image: Image.Image) -> Pixels:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        grey = np.clip(np.asarray(upright).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        upright = Image.fromarray(grey)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        upright = Image.alpha_composite(paper, rgba)
    return np.ascontiguousarray(upright.convert("RGB"), dtype=np.uint8)
