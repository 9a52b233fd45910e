"""Prediction requests of every kind, good and bad, and how each has to be answered."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

JSON = "application/json"
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
# One byte more than a prediction takes.
TOO_LONG = (128 << 20) + 1
# By file ending, with Pillow's name for it and the longer side of the picture.
FORMATS = {
    "jpg": ("JPEG", 320),
    "png": ("PNG", 96),
    "webp": ("WEBP", 640),
    "bmp": ("BMP", 200),
    "tif": ("TIFF", 1280),
    "gif": ("GIF", 160),
    "avif": ("AVIF", 480),
    "jp2": ("JPEG2000", 256),
}


@dataclass(frozen=True)
class Sending:
    """One request to predict.

    Attributes:
        name: of the file, or of what is wrong.
        kind: media type of the body.
        body: its bytes.
        status: that answers it.
        error: name of the error.
        says: what the error's message has to contain.
    """

    name: str
    kind: str
    body: bytes
    status: int = 200
    error: str = ""
    says: str = ""


def good_sendings(photos: Sequence[Path], image_ids: Sequence[str]) -> Iterator[Sending]:
    """Yield images of several sizes and formats, each sent in one of the ways there are."""
    for index, photo in enumerate(photos):
        ending, (kind, side) = list(FORMATS.items())[index % len(FORMATS)]
        data = encoded(photo, kind, side + 16 * (index // len(FORMATS)))
        name = f"{photo.stem}.{ending}"
        match index % 3:
            case 0:
                yield Sending(name, FORM, form(name, data))
            case 1:
                yield Sending(name, "image/*", data)
            case _:
                yield in_base64(name, base64.b64encode(data).decode())
    yield Sending("camera.jpg", "image/jpeg", encoded(photos[0], "JPEG", 6000))
    for image_id in image_ids:
        yield Sending(image_id, JSON, json.dumps({"image_id": image_id}).encode())


def bad_sendings(photo: Path) -> Iterator[Sending]:
    """Yield what has to be refused, each for its own reason."""
    whole = encoded(photo, "JPEG", 640)
    corrupt, unsupported = (400, "CorruptImage"), (415, "UnsupportedImage")
    files: dict[str, tuple[bytes, int, str, str]] = {
        "empty.jpg": (b"", 400, "EmptyImage", "empty image"),
        "cut.jpg": (whole[: len(whole) // 2], *corrupt, "corrupt image"),
        "cut.png": (encoded(photo, "PNG", 320)[:-500], *corrupt, "corrupt image"),
        "cut.webp": (encoded(photo, "WEBP", 320)[:-500], *corrupt, "corrupt image"),
        "harmed.png": (harmed(encoded(photo, "PNG", 320)), *corrupt, "corrupt image"),
        "header.jpg": (b"\xff\xd8\xff" + b"\0" * 2000, *corrupt, "corrupt image"),
        "bomb.png": (bomb(20_000), 413, "ImageTooLarge", "400.0 megapixels"),
        "moving.gif": (moving("GIF"), *unsupported, "3 frames"),
        "moving.webp": (moving("WEBP"), *unsupported, "3 frames"),
        "moving.png": (moving("PNG"), *unsupported, "3 frames"),
        "notes.txt": (b"these are notes\n" * 50, *unsupported, "unsupported image"),
        "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"0 " * 500, *unsupported, "unsupported"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", *unsupported, "unsupported"),
        "film.mp4": (b"\0\0\0\x20ftypisom" + b"\0" * 2000, *unsupported, "unsupported image"),
    }
    for name, (data, status, error, says) in files.items():
        yield Sending(name, FORM, form(name, data), status, error, says)
    yield from bad_bodies(photo)


def bad_bodies(photo: Path) -> Iterator[Sending]:
    """Yield requests that hold no image, or name one that there is not."""
    data = encoded(photo, "JPEG", 160)
    invalid, wrong_kind = (422, "ValidationFailed"), (415, "UnsupportedMedia")
    yield Sending("nothing", "image/png", b"", 400, "EmptyImage", "empty image")
    yield Sending("text", "text/plain", b"notes", *wrong_kind, "'text/plain'")
    yield Sending("film", "video/mp4", b"\0" * 99, *wrong_kind, "'video/mp4'")
    yield Sending("other field", FORM, form("a.jpg", data, "picture"), *invalid, "`file`")
    yield Sending("no file", FORM, form("", data), *invalid, "`file`")
    two = form("a.jpg", data)[: -len(f"--{BOUNDARY}--\r\n")] + form("b.jpg", data)
    yield Sending("two files", FORM, two, 400, "BadRequest", "Too many files")
    unbound = "multipart/form-data"
    yield Sending("no boundary", unbound, form("a.jpg", data), 400, "BadRequest", "boundary")
    yield Sending("cut form", FORM, form("a.jpg", data)[:-200], *invalid, "`file`")
    yield Sending("no form", FORM, data, 400, "BadRequest", "Invalid multipart data")
    yield in_base64("no base64", "%%%", *invalid, "image: Value error, not base64")
    yield in_base64("cut base64", base64.b64encode(data).decode()[:-3], *invalid, "not base64")
    text = base64.b64encode(b"these are notes").decode()
    yield in_base64("notes in base64", text, 415, "UnsupportedImage", "unsupported image")
    yield Sending("no JSON", JSON, b"{image", *invalid, "Invalid JSON")
    yield Sending("no source", JSON, b"{}", *invalid, "give one of image_id, image, url")
    unknown = json.dumps({"image_id": "no-such-image"}).encode()
    yield Sending("unknown id", JSON, unknown, 404, "NotFound", "'no-such-image'")
    for host in ("127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"):
        address = f"http://[{host}]/a.png" if ":" in host else f"http://{host}/a.png"
        body = json.dumps({"url": address}).encode()
        yield Sending(address, JSON, body, 400, "UrlRefused", f"'{host}' is not a host")


def too_long_sending() -> Sending:
    """Return a file that is a byte longer than is taken."""
    return Sending(
        "long.bmp", "image/bmp", b"BM" + bytes(TOO_LONG - 2), 413, "TooLarge", str(TOO_LONG)
    )


def in_base64(name: str, text: str, status: int = 200, error: str = "", says: str = "") -> Sending:
    """Return an image as part of a JSON body."""
    return Sending(name, JSON, json.dumps({"image": text}).encode(), status, error, says)


def form(name: str, data: bytes, field: str = "file") -> bytes:
    """Return a form with one file; without a name it is a field like any other."""
    filename = f'; filename="{name}"' if name else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{filename}\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def encoded(photo: Path, kind: str, side: int) -> bytes:
    """Return a picture with a longer side of `side` pixels as a file of another format."""
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(buffer, kind)
    return buffer.getvalue()


def moving(kind: str) -> bytes:
    """Return an animation of three frames."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(frame) for frame in pixels]
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, duration=100)
    return buffer.getvalue()


def harmed(png: bytes) -> bytes:
    """Return a PNG with one byte of its pixels changed."""
    at = len(png) // 2
    return png[:at] + bytes([png[at] ^ 0xFF]) + png[at + 1 :]


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that is `side` pixels high and wide."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
