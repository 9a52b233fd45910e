import io
import zlib

import numpy as np
import pytest
from PIL import Image

from inference_service.app.core.images import (
    CorruptImage,
    EmptyImage,
    ImageTooLarge,
    UnsupportedImage,
    decode_image,
    image_statistics,
)
from inference_service.tests.tiny import picture, png

LIMIT = 10_000


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_no_bytes_are_refused_as_empty() -> None:
    with pytest.raises(EmptyImage, match=r"empty image: 'a\.png'"):
        decode_image(b"", LIMIT, "a.png")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7 ...", b"RIFF0000AVI " + b"0" * 100])
def test_other_files_are_refused_by_their_first_bytes(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="not a JPEG, PNG"):
        decode_image(data, LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_truncated_file_is_corrupt(kind: str) -> None:
    data = saved(Image.fromarray(picture(0)), kind)
    for cut in (16, 40, len(data) * 2 // 3):
        with pytest.raises(CorruptImage, match="corrupt image: 'x'"):
            decode_image(data[:cut], LIMIT, "x")


def test_huge_header_is_refused_before_decoding() -> None:
    bomb = bytearray(png(picture(0)))
    bomb[16:24] = (60_000).to_bytes(4) * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4)
    with pytest.raises(
        ImageTooLarge, match=r"image too large: 'image': 60000x60000 is 3600\.0 megapixels"
    ):
        decode_image(bytes(bomb), LIMIT)


def test_animation_is_refused() -> None:
    frames = [Image.fromarray(picture(i)) for i in range(3)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match="animated"):
        decode_image(data, LIMIT)


def test_png_comes_back_as_it_is() -> None:
    np.testing.assert_array_equal(decode_image(png(picture(5)), LIMIT), picture(5))


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 333, 3), (1500, 4001, 3)])
def test_pixels_of_any_size_come_back_as_they_are(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = decode_image(saved(Image.fromarray(pixels), "BMP"), pixels.size)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, pixels)


def test_turned_photo_comes_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.new("RGB", (40, 20)), "JPEG", exif=exif)
    assert decode_image(data, LIMIT).shape == (40, 20, 3)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 77), "PNG", (77, 77, 77)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.fromarray(np.full((2, 2), 0x4D00, np.uint16)), "PNG", (77, 77, 77)),
        (Image.new("RGBA", (2, 2), (9, 9, 9, 0)), "PNG", (255, 255, 255)),
        (Image.new("P", (2, 2), 0), "PNG", (0, 0, 0)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(
    image: Image.Image, kind: str, expected: tuple[int, int, int]
) -> None:
    pixels = decode_image(saved(image, kind), LIMIT)
    assert pixels.dtype == np.uint8
    assert tuple(pixels[0, 0]) == expected


def test_statistics_of_flat_and_striped_images() -> None:
    flat = image_statistics(np.full((50, 70, 3), 51, np.uint8))
    assert flat.brightness == pytest.approx(0.2)
    assert (flat.contrast, flat.sharpness) == (0, 0)
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[::2] = 255
    striped = image_statistics(stripes)
    assert striped.brightness == pytest.approx(0.5)
    assert striped.contrast == pytest.approx(0.5)
    assert striped.sharpness == pytest.approx(4.0)
