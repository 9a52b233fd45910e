"""Decoding of images: what is no plain, upright 8-bit picture is refused or made one."""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_service.app.core.phash import perceptual_hash
from shared.models.data import RejectionReason

THUMBNAIL_SIDE = 256
_JPEG_QUALITY = 95
_EXIF_ORIENTATION = 0x0112

# Pillow would try every plugin, among them one that starts Ghostscript.
_EXTENSIONS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
}
# An MPO is opened as the JPEG that it begins with.
_OPENED = [kind for kind in _EXTENSIONS if kind != "MPO"]
IMAGE_EXTENSIONS = frozenset(e for extensions in _EXTENSIONS.values() for e in extensions)
UNSUPPORTED_EXTENSIONS = frozenset(
    {".heic", ".heif", ".psd", ".svg", ".raw", ".dng", ".cr2", ".nef", ".arw", ".exr", ".hdr"}
    | {".eps", ".ico", ".dcm", ".mp4", ".avi", ".mov", ".mkv", ".webm"}
    | {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WEBP"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
)
# What Pillow's decoders raise on bytes that are broken, besides OSError.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
    IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError,
)  # fmt: skip


class BadImage(Exception):
    """The bytes cannot become a picture; why is one of the reasons of a report."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        """Keep both for the report."""
        super().__init__(detail)
        self.reason: RejectionReason = reason
        self.detail = detail


@dataclass(frozen=True)
class DecodedImage:
    """One picture, ready to store.

    Attributes:
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        orientation: EXIF orientation of the file, 1 to 8; 1 is upright.
        original_extension: of the bytes as they came, `.tif`.
        rendition: upright 8-bit RGB or grey JPEG or PNG, where the original is none.
        rendition_extension: `.jpg` or `.png`; of the original where there is no rendition.
        thumbnail: JPEG, at most 256 pixels wide and high.
        phash: 64 bits; None for a picture of one colour.
    """

    width: int
    height: int
    orientation: int
    original_extension: str
    rendition: bytes | None
    rendition_extension: str
    thumbnail: bytes
    phash: int | None


def decode_image(data: bytes, name: str, max_megapixels: float) -> DecodedImage:
    """Decode the bytes of one image file.

    Alpha is composited on white; 16-bit values are scaled from 0..65535 to 0..255, the same for
    every image; CMYK, palette and other colour spaces become RGB.

    Args:
        data: the file's bytes.
        name: its name, whose extension must tell the truth (none is fine).
        max_megapixels: larger ones are refused by their header, before they are decoded.

    Raises:
        BadImage: it cannot become a picture.
    """
    with _open(data, name) as image:
        _check_header(image, name, max_megapixels)
        try:
            image.load()
            orientation = _orientation(image)
            plain = orientation == 1 and _is_plain(image, data)
            upright = _to_8bit(image if orientation == 1 else ImageOps.exif_transpose(image))
        except Image.DecompressionBombError as exc:
            raise BadImage("oversized", str(exc)) from exc
        except _BROKEN as exc:
            raise _broken(exc) from exc
        photo = image.format in {"JPEG", "MPO"}
        extension = _EXTENSIONS[str(image.format)][0]
    return DecodedImage(
        width=upright.width,
        height=upright.height,
        orientation=orientation,
        original_extension=extension,
        rendition=None if plain else _encode(upright, photo=photo),
        rendition_extension=extension if plain else (".jpg" if photo else ".png"),
        thumbnail=_thumbnail(upright),
        phash=perceptual_hash(upright),
    )


def extension_of(data: bytes) -> str:
    """Return the extension that fits the first bytes; empty when they are of no image."""
    return next((_EXTENSIONS[kind][0] for magic, kind in _MAGIC if data.startswith(magic)), "")


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise BadImage("unreadable", "the file is empty")
    try:
        return Image.open(io.BytesIO(data), formats=_OPENED)
    except Image.DecompressionBombError as exc:
        raise BadImage("oversized", str(exc)) from exc
    except UnidentifiedImageError as exc:
        extension = PurePosixPath(name).suffix.lower()
        actual = extension_of(data)
        if not actual:
            detail = f"named {extension or 'without extension'}, but the bytes are no image we read"
            raise BadImage("mislabelled", detail) from exc
        raise BadImage("unreadable", f"starts like {actual}, but has no valid header") from exc
    except _BROKEN as exc:
        raise _broken(exc) from exc


def _check_header(image: Image.Image, name: str, max_megapixels: float) -> None:
    extension = PurePosixPath(name).suffix.lower()
    if extension in IMAGE_EXTENSIONS and extension not in _EXTENSIONS[str(image.format)]:
        raise BadImage("mislabelled", f"named {extension}, but the bytes are {image.format}")
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        size = f"{image.width}x{image.height} is {megapixels:.1f} megapixels"
        raise BadImage("oversized", f"{size}, the limit is {max_megapixels:g}")
    try:
        n_frames = getattr(image, "n_frames", 1)
    except _BROKEN as exc:
        raise _broken(exc) from exc
    # An MPO is one photograph of a phone with its preview or depth beside it.
    if n_frames > 1 and image.format != "MPO":
        raise BadImage("animated", f"{n_frames} frames or pages, one is read")


def _broken(exc: BaseException) -> BadImage:
    text = f"{type(exc).__name__}: {exc}"
    cut = isinstance(exc, EOFError) or any(
        word in str(exc).lower() for word in ("truncated", "unexpected end", "not enough data")
    )
    return BadImage("truncated" if cut else "unreadable", text)


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_plain(image: Image.Image, data: bytes) -> bool:
    if image.mode not in {"L", "RGB"} or "transparency" in image.info:
        return False
    if image.format in {"JPEG", "MPO"}:
        return True
    # Pillow shows a 16-bit RGB PNG as RGB; the depth stands at byte 24 of the header.
    return image.format == "PNG" and data[24] == 8


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image)
    if image.has_transparency_data:
        grey = image.mode in {"L", "LA", "La", "1"}
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("L" if grey else "RGB")
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
        detail = f"values of mode {image.mode} outside 0..{top:g}, their range is unknown"
        raise BadImage("unsupported", detail)
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8))


def _encode(image: Image.Image, *, photo: bool) -> bytes:
    buffer = io.BytesIO()
    if photo:
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=b"")
    else:
        image.save(buffer, "PNG", exif=b"")
    return buffer.getvalue()


def _thumbnail(image: Image.Image) -> bytes:
    side = THUMBNAIL_SIDE
    small = ImageOps.contain(image, (side, side)) if max(image.size) > side else image
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, exif=b"")
    return buffer.getvalue()
