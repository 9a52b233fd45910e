import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_service.app.core.images import decode_image as ingested
from data_service.tests.builders import encoded, noise
from inference_service.app.core.images import decode_image as predicted
from shared.images import BadImage, decode_upright, kind_of, n_pixels_of

LIMIT = 1e6


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def sixteen_bit(dtype: str) -> Image.Image:
    return Image.fromarray(np.arange(64 * 48, dtype=dtype).reshape(48, 64) * 21)


FILES = {
    "a.jpg": encoded(noise(1), "JPEG"),
    "a.png": encoded(noise(1)),
    "a.bmp": encoded(noise(1), "BMP"),
    "a.tif": encoded(noise(1), "TIFF"),
    "a.webp": encoded(noise(1), "WEBP"),
    "a.gif": encoded(noise(1), "GIF"),
    "a.avif": encoded(noise(1), "AVIF"),
    "a.jp2": encoded(noise(1), "JPEG2000"),
    "grey.png": encoded(noise(1).convert("L")),
    "alpha.png": encoded(noise(1).convert("RGBA")),
    "palette.png": encoded(noise(1).convert("P"), transparency=0),
    "16bit.png": encoded(sixteen_bit("<u2")),
    "16bit.tif": encoded(sixteen_bit(">u2"), "TIFF"),
    "float.tif": encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"),
    "turned.png": encoded(noise(1), exif=turned(6)),
    "two.mpo": encoded(noise(1), "MPO", save_all=True, append_images=[noise(2)]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_prediction_sees_the_values_that_an_ingestion_stores(name: str) -> None:
    stored = ingested(FILES[name], name, 1.0)
    rendition = FILES[name] if stored.rendition is None else stored.rendition
    np.testing.assert_array_equal(predicted(FILES[name], LIMIT), predicted(rendition, LIMIT))


def test_a_floating_half_is_the_middle_grey() -> None:
    assert predicted(FILES["float.tif"], LIMIT)[0, 0].tolist() == [128, 128, 128]


def test_a_kind_is_told_by_the_first_bytes() -> None:
    assert {name: kind_of(data[:16]) for name, data in FILES.items() if name[0] == "a"} == {
        "a.jpg": "JPEG",
        "a.png": "PNG",
        "a.bmp": "BMP",
        "a.tif": "TIFF",
        "a.webp": "WEBP",
        "a.gif": "GIF",
        "a.avif": "AVIF",
        "a.jp2": "JPEG2000",
        "alpha.png": "PNG",
    }
    assert kind_of(b"") is None
    assert kind_of(b"RIFF\0\0\0\0AVI ") is None


@pytest.mark.parametrize(("shape", "last"), [((3000, 1000), 2999), ((1, 3_000_000), 0)])
def test_16_bit_values_are_scaled_without_copies_of_the_whole(
    shape: tuple[int, int], last: int
) -> None:
    values = np.zeros(shape, np.uint16)
    values[last, -1] = 65535
    data = encoded(Image.fromarray(values), "TIFF", compression="tiff_deflate")
    tracemalloc.start()
    try:
        image = decode_upright(data, 3e6).image
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (image.size, image.getpixel((shape[1] - 1, last))) == (shape[::-1], 255)
    assert image.getpixel((0, 0)) == 0
    assert image.histogram()[255] == 1
    # One byte for each of three million pixels, and a few tiles in floating point.
    assert peak < 3e6 + 12e6


def test_one_value_of_unknown_range_in_the_last_row_is_found() -> None:
    values = np.zeros((2000, 1000), np.float32)
    values[-1, -1] = 1.5
    with pytest.raises(BadImage, match=r"values of mode F outside 0\.\.1") as caught:
        decode_upright(encoded(Image.fromarray(values), "TIFF"), 3e6)
    assert caught.value.reason == "unsupported"


def test_bytes_of_no_image_are_unsupported() -> None:
    with pytest.raises(BadImage, match="not a JPEG, PNG") as caught:
        decode_upright(b"%PDF-1.7 ...", LIMIT)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_tile_by_tile_as_in_one_piece(mode: str) -> None:
    image = noise(1, (1100, 600)).convert(mode)
    image.putalpha(noise(2, (1100, 600)).convert("L"))
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    whole = Image.alpha_composite(white, rgba).convert("L" if mode == "LA" else "RGB")
    upright = decode_upright(encoded(image), 1e6).image
    assert upright.mode == whole.mode
    np.testing.assert_array_equal(upright, whole)


def test_a_turned_picture_with_alpha_takes_no_third_copy_of_itself(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4000, 3000), (1, 2, 3, 40))
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image, compress_level=1, exif=turned(6)))
    # Pillow's memory is known to the kernel alone, and only a new process begins without a peak.
    program = """
import pathlib, re, sys
from shared.images import decode_upright
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
data = pathlib.Path(sys.argv[1]).read_bytes()
decode_upright(pathlib.Path(sys.argv[2]).read_bytes(), 1e6)
before = peak()
decode_upright(data, 12e6)
print((peak() - before) * 1024 / 12e6)
"""
    small = tmp_path / "b.png"
    small.write_bytes(FILES["alpha.png"])
    command = [sys.executable, "-c", program, str(path), str(small)]
    bytes_per_pixel = float(subprocess.check_output(command, text=True))
    # Four for what is decoded and four for what comes out, and a few tiles.
    assert bytes_per_pixel < 10


def test_the_pixels_of_a_file_are_told_by_its_header() -> None:
    half = FILES["a.jpg"][: len(FILES["a.jpg"]) // 2]
    assert [n_pixels_of(data) for data in (FILES["turned.png"], half)] == [64 * 48] * 2
    assert [n_pixels_of(data) for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n")] == [0] * 3
