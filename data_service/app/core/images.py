"""What is stored of an image: its rendition where the file is none itself, thumbnail and hash."""

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from data_service.app.core.phash import perceptual_hash
from shared.images import BadImage, ImageKind, decode_upright, kind_of, pillow_failures

THUMBNAIL_SIDE = 256
_JPEG_QUALITY = 95
# 16-bit RGBA, the largest that a picture within the limit can be uncompressed.
_BYTES_PER_PIXEL = 8

_EXTENSIONS: dict[ImageKind, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
}
IMAGE_EXTENSIONS = frozenset(e for extensions in _EXTENSIONS.values() for e in extensions)
UNSUPPORTED_EXTENSIONS = frozenset(
    {".heic", ".heif", ".psd", ".svg", ".raw", ".dng", ".cr2", ".nef", ".arw", ".exr", ".hdr"}
    | {".eps", ".ico", ".dcm", ".mp4", ".avi", ".mov", ".mkv", ".webm"}
    | {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
)


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
    """Decode the bytes of one image file, and make what is stored beside them.

    Args:
        data: the file's bytes.
        name: its name, whose extension must tell the truth (none is fine).
        max_megapixels: larger ones are refused by their header, before they are decoded.

    Raises:
        BadImage: it cannot become a picture.
    """
    if data:
        _check_name(data, name)
    decoded = decode_upright(data, max_megapixels * 1e6)
    upright, photo = decoded.image, decoded.kind == "JPEG"
    # Encoders too refuse pictures, by their shape or by what the file says beside its pixels.
    with pillow_failures():
        return DecodedImage(
            width=upright.width,
            height=upright.height,
            orientation=decoded.orientation,
            original_extension=_EXTENSIONS[decoded.kind][0],
            rendition=None if decoded.plain else _encode(upright, photo=photo),
            rendition_extension=".jpg" if photo else ".png",
            thumbnail=_thumbnail(upright),
            phash=perceptual_hash(upright),
        )


def max_file_bytes(max_megapixels: float) -> int:
    """Return the size of the largest file that is read as an image."""
    return int(max_megapixels * 1e6 * _BYTES_PER_PIXEL)


def extension_of(data: bytes) -> str:
    """Return the extension that fits the first bytes; empty when they are of no image."""
    kind = kind_of(data)
    return "" if kind is None else _EXTENSIONS[kind][0]


def _check_name(data: bytes, name: str) -> None:
    extension = PurePosixPath(name).suffix.lower()
    kind = kind_of(data)
    if kind is None:
        detail = f"named {extension or 'without extension'}, but the bytes are no image we read"
        raise BadImage("mislabelled", detail)
    if extension in IMAGE_EXTENSIONS and extension not in _EXTENSIONS[kind]:
        raise BadImage("mislabelled", f"named {extension}, but the bytes are {kind}")


def _encode(image: Image.Image, *, photo: bool) -> bytes:
    buffer = io.BytesIO()
    if photo:
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=b"")
    else:
        image.save(buffer, "PNG", exif=b"")
    return buffer.getvalue()


def _thumbnail(image: Image.Image) -> bytes:
    shrunk = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = max(1, round(image.width * shrunk)), max(1, round(image.height * shrunk))
    small = image if size == image.size else image.resize(size)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, exif=b"")
    return buffer.getvalue()
