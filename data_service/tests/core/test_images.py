import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_service.app.core.images import DecodedImage, decode_image
from data_service.tests.builders import encoded, noise
from shared.images import BadImage


def decode(data: bytes, name: str = "a.png", max_megapixels: float = 1.0) -> DecodedImage:
    return decode_image(data, name, max_megapixels)


def rendered(decoded: DecodedImage) -> Image.Image:
    assert decoded.rendition is not None
    return Image.open(io.BytesIO(decoded.rendition))


def refusal(data: bytes, name: str) -> tuple[str, str]:
    with pytest.raises(BadImage) as caught:
        decode(data, name)
    return caught.value.reason, caught.value.detail


def test_an_empty_file_is_unreadable() -> None:
    assert refusal(b"", "a.png") == ("unreadable", "the file is empty")


def test_text_named_png_is_mislabelled() -> None:
    detail = "named .png, but the bytes are no image we read"
    assert refusal(b"hello, world", "a.png") == ("mislabelled", detail)


def test_a_jpeg_named_png_is_mislabelled() -> None:
    data = encoded(noise(1), "JPEG")
    assert refusal(data, "a.png") == ("mislabelled", "named .png, but the bytes are JPEG")


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.png"), ("JPEG", "a.jpg")])
def test_half_a_file_is_truncated(kind: str, name: str) -> None:
    data = encoded(noise(1, (400, 300)), kind)
    reason, detail = refusal(data[: len(data) // 2], name)
    assert reason == "truncated"
    assert "truncated" in detail


def test_a_right_beginning_alone_is_unreadable() -> None:
    reason, detail = refusal(b"\x89PNG\r\n\x1a\n" + bytes(50), "a.png")
    assert reason == "unreadable"
    assert detail == "starts like PNG, but has no valid header"


@pytest.mark.parametrize(("kind", "name"), [("GIF", "a.gif"), ("PNG", "a.png"), ("TIFF", "a.tif")])
def test_several_frames_are_animated(kind: str, name: str) -> None:
    data = encoded(noise(1), kind, save_all=True, append_images=[noise(2), noise(3)])
    assert refusal(data, name) == ("animated", "3 frames or pages, one is read")


def test_one_frame_of_a_gif_is_fine() -> None:
    assert decode(encoded(noise(1), "GIF"), "a.gif").rendition_extension == ".png"


def test_a_decompression_bomb_is_oversized_by_its_header() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 8_000, 8_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    detail = "8000x8000 is 64.0 megapixels, the limit is 1"
    assert refusal(data, "bomb.png") == ("oversized", detail)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "a.jpg"), ("PNG", "a.PNG")])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_plain_image_stays_as_it_is(kind: str, name: str, mode: str) -> None:
    decoded = decode(encoded(noise(1).convert(mode), kind), name)
    assert decoded.rendition is None
    assert (decoded.width, decoded.height) == (64, 48)


def test_exif_orientation_is_applied_and_not_kept() -> None:
    image = Image.new("RGB", (64, 48), "white")
    image.paste((255, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(encoded(image, "JPEG", exif=exif, quality=95), "a.jpg")
    upright = rendered(decoded).convert("RGB")
    assert (decoded.width, decoded.height, decoded.orientation) == (48, 64, 6)
    assert upright.size == (48, 64)
    assert upright.getexif().get(0x0112, 1) == 1
    red = np.asarray(upright)[4, 43].astype(int)
    assert red[0] > 240
    assert red[1] < 20


def test_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 128), (4, 0, 8, 8))
    upright = rendered(decode(encoded(image)))
    assert upright.mode == "RGB"
    assert upright.getpixel((0, 0)) == (255, 255, 255)
    assert upright.getpixel((6, 0)) == (255, 127, 127)


def test_a_palette_with_transparency_comes_in_right() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (4, 0, 8, 8))
    upright = rendered(decode(encoded(image, transparency=0)))
    assert upright.getpixel((0, 0)) == (255, 255, 255)
    assert upright.getpixel((6, 0)) == (10, 200, 30)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16).repeat(4, axis=0)
    upright = rendered(decode(encoded(Image.fromarray(values))))
    assert upright.mode == "L"
    assert np.asarray(upright)[0].tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    upright = rendered(decode(encoded(image, "JPEG", quality=95), "a.jpg"))
    red, green, blue = np.asarray(upright)[16, 16].tolist()
    assert upright.mode == "RGB"
    assert red > 230
    assert max(green, blue) < 30


def test_a_bilevel_image_becomes_grey() -> None:
    image = Image.new("1", (8, 8), 1)
    upright = rendered(decode(encoded(image)))
    assert (upright.mode, upright.getpixel((0, 0))) == ("L", 255)


@pytest.mark.parametrize(
    ("kind", "name"), [("BMP", "a.bmp"), ("WEBP", "a.webp"), ("TIFF", "a.tif")]
)
def test_other_formats_get_a_png(kind: str, name: str) -> None:
    decoded = decode(encoded(noise(1), kind), name)
    assert rendered(decoded).format == "PNG"
    assert decoded.original_extension == name[1:]


def test_a_float_image_of_unknown_range_is_unsupported() -> None:
    image = Image.fromarray(np.full((4, 4), 17.0, dtype=np.float32))
    detail = "values of mode F outside 0..1, their range is unknown"
    assert refusal(encoded(image, "TIFF"), "a.tif") == ("unsupported", detail)


def test_a_thumbnail_is_at_most_256_pixels_wide() -> None:
    decoded = decode(encoded(noise(1, (1000, 500))))
    assert Image.open(io.BytesIO(decoded.thumbnail)).size == (256, 128)
