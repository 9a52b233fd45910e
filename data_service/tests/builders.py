"""Images and data sets for the tests."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RGB = tuple[int, int, int]


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return an image whose perceptual hash is far from that of any other seed."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    return encoded(noise(seed))


def write_files(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def voc_xml(
    name: str, *objects: tuple[str, float, float, float, float], size: str = "64x48"
) -> str:
    width, height = size.split("x")
    body = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in objects
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{body}</annotation>"
    )


def yolo_files(n: int = 4, *, first: int = 0) -> dict[str, bytes | str]:
    """Return a labelled data set of `n` images with two classes and no lists."""
    files: dict[str, bytes | str] = {"data.yaml": "names: [zebra, ant]\n"}
    for i in range(first, first + n):
        files[f"images/p{i}.png"] = png(i)
        files[f"labels/p{i}.txt"] = f"{i % 2} 0.5 0.5 0.25 0.5\n"
    return files


def coco_json(boxes: list[dict[str, Any]], names: list[str]) -> str:
    images = [
        {"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)
    ]
    categories = [{"id": 7, "name": "ant"}, {"id": 3, "name": "zebra"}]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories})
