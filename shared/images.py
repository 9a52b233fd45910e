"""Image files that nobody vouches for: each becomes an upright 8-bit picture or is refused.

What an ingestion takes and what a prediction takes is the same, with the same values.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.models.data import RejectionReason

ImageKind = Literal["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000"]

_EXIF_ORIENTATION = 0x0112
_TILE_SIDE = 512
_AVIF_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
_TIFF = (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")
_JPEG2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")

# By the first bytes, and opened by the format's own class: Ultralytics replaces `PIL.Image.open` by
# one that wants to install a package when a file is not recognised, and Pillow's own would try
# every plugin, among them one that starts Ghostscript. The photograph that an MPO begins with is
# read as the JPEG that it is.
_FORMATS: tuple[tuple[ImageKind, Callable[[bytes], bool], type[ImageFile]], ...] = (
    ("JPEG", lambda head: head.startswith(b"\xff\xd8\xff"), JpegImageFile),
    ("PNG", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    ("BMP", lambda head: head.startswith(b"BM"), BmpImageFile),
    ("TIFF", lambda head: head.startswith(_TIFF), TiffImageFile),
    ("WEBP", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", WebPImageFile),
    ("GIF", lambda head: head.startswith((b"GIF87a", b"GIF89a")), GifImageFile),
    ("AVIF", lambda head: head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS, AvifImageFile),
    ("JPEG2000", lambda head: head.startswith(_JPEG2000), Jpeg2KImageFile),
)
# What Pillow raises on bytes that are broken; SyntaxError is its "not my format".
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, RuntimeError,
    IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError,
)  # fmt: skip


class BadImage(Exception):
    """The bytes cannot become a picture."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        """Keep the reason, one of those of an ingestion's report, and what was wrong."""
        super().__init__(detail)
        self.reason: RejectionReason = reason
        self.detail = detail


@dataclass(frozen=True)
class UprightImage:
    """One decoded picture.

    Attributes:
        image: upright, of mode L or RGB.
        kind: of the file.
        orientation: EXIF orientation of the file, 1 to 8; 1 is upright.
        plain: the file is a JPEG or PNG that holds these very values.
    """

    image: Image.Image
    kind: ImageKind
    orientation: int
    plain: bool


def kind_of(head: bytes) -> ImageKind | None:
    """Return what the first 16 bytes are of; None when they are of no image that is read."""
    return next((kind for kind, matches, _ in _FORMATS if matches(head[:16])), None)


def n_pixels_of(data: bytes) -> int:
    """Return how many pixels the header of an image file announces; 0 where it cannot be read."""
    try:
        with pillow_failures(), _open(data) as (_, image):
            return image.width * image.height
    except BadImage:
        return 0


def decode_upright(data: bytes, max_pixels: float) -> UprightImage:
    """Decode the bytes of one image file.

    Alpha is composited on white; 16-bit values are scaled from 0..65535 and floating ones from
    0..1 to 0..255, the same for every image; CMYK, palette and other colour spaces become RGB.

    Args:
        data: the file's bytes.
        max_pixels: more than this is refused by the header, before anything is decoded.

    Raises:
        BadImage: it cannot become a picture.
    """
    with pillow_failures(), _open(data) as (kind, image):
        _check_header(image, max_pixels)
        image.load()
        orientation = _orientation(image)
        if orientation != 1:
            ImageOps.exif_transpose(image, in_place=True)
        upright = _to_8bit(image)
        plain = orientation == 1 and _is_plain(kind, image, data)
    return UprightImage(upright, kind, orientation, plain)


@contextmanager
def pillow_failures() -> Iterator[None]:
    """Turn what Pillow raises on a file it cannot handle into a `BadImage`."""
    try:
        yield
    except Image.DecompressionBombError as exc:
        raise BadImage("oversized", str(exc)) from exc
    except _BROKEN as exc:
        text = str(exc).lower()
        words = ("truncated", "unexpected end", "not enough data")
        cut = isinstance(exc, EOFError) or any(word in text for word in words)
        detail = f"{type(exc).__name__}: {exc}"
        raise BadImage("truncated" if cut else "unreadable", detail) from exc


@contextmanager
def _open(data: bytes) -> Iterator[tuple[ImageKind, ImageFile]]:
    if not data:
        raise BadImage("unreadable", "the file is empty")
    for kind, matches, image_class in _FORMATS:
        if matches(data[:16]):
            try:
                image = image_class(io.BytesIO(data), "")
            except SyntaxError as exc:
                raise BadImage(
                    "unreadable", f"starts like {kind}, but has no valid header"
                ) from exc
            with image:
                yield kind, image
            return
    kinds = "JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF or JPEG 2000"
    raise BadImage("unsupported", f"not a {kinds} image")


def _check_header(image: ImageFile, max_pixels: float) -> None:
    width, height = image.size
    if width * height > max_pixels:
        size = f"{width}x{height} is {width * height / 1e6:.1f} megapixels"
        raise BadImage("oversized", f"{size}, the limit is {max_pixels / 1e6:g}")
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1:
        raise BadImage("animated", f"{n_frames} frames or pages, one is read")


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_plain(kind: ImageKind, image: Image.Image, data: bytes) -> bool:
    if image.mode not in {"L", "RGB"} or "transparency" in image.info:
        return False
    # Pillow shows a 16-bit RGB PNG as RGB; the depth stands at byte 24 of the header.
    return kind == "JPEG" or (kind == "PNG" and data[24] == 8)


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in {"L", "LA", "La", "1"} else "RGB"
    whole = Image.new(mode, image.size)
    for box in _tiles(image):
        rgba = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        whole.paste(Image.alpha_composite(white, rgba).convert(mode), box)
    return whole


def _scaled(image: Image.Image) -> Image.Image:
    top = 1.0 if image.mode == "F" else 65535.0
    grey = np.empty((image.height, image.width), np.uint8)
    for x, y, right, bottom in _tiles(image):
        values = np.asarray(image.crop((x, y, right, bottom))).astype(np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
            detail = f"values of mode {image.mode} outside 0..{top:g}, their range is unknown"
            raise BadImage("unsupported", detail)
        grey[y:bottom, x:right] = np.rint(values * (255.0 / top))
    return Image.fromarray(grey)


def _tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    # 100 megapixels take 800 MB as float64 and 400 as RGBA, and every step makes another copy.
    corners = product(range(0, image.height, _TILE_SIDE), range(0, image.width, _TILE_SIDE))
    for y, x in corners:
        yield x, y, min(x + _TILE_SIDE, image.width), min(y + _TILE_SIDE, image.height)
