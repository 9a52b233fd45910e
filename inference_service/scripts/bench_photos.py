"""What the benchmarks look at: photos of 640x480 and a model for them."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from shared.demo.digits import make_batch
from shared.detector.dropout import add_head_dropout
from shared.detector.package import BASES, PackageOptions, load_package, save_package

WIDTH, HEIGHT = 640, 480


def make_photos(folder: Path, n_images: int) -> list[Path]:
    """Write photos of 640x480, each of twelve digit scenes side by side."""
    scenes = make_batch(folder / "scenes", 60, seed=0, shifted=False)
    pieces = [cv2.resize(cv2.imread(str(path)), (160, 160)) for path in scenes]
    rng = np.random.default_rng(0)
    paths = []
    for n in range(n_images):
        chosen = rng.integers(len(pieces), size=(3, 4))
        photo = np.vstack([np.hstack([pieces[i] for i in row]) for row in chosen])
        paths.append(folder / f"{n:06}.jpg")
        cv2.imwrite(str(paths[-1]), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])
    shutil.rmtree(folder / "scenes")
    return paths


def photos_of(folder: Path, n_images: int) -> list[Path]:
    """Return `n_images` JPEGs of a folder, the same ones again if there are fewer."""
    jpegs = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    found = [path for path in jpegs if _size_of(path) == (WIDTH, HEIGHT)]
    if not found:
        sys.exit(f"no JPEG of {WIDTH}x{HEIGHT} below {folder}")
    return [found[n % len(found)] for n in range(n_images)]


def _size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def make_package(folder: Path) -> Path:
    """Return the shipped base model as a training would save it, for 640 pixels."""
    model, info = load_package(BASES / "fovea-digits")
    add_head_dropout(model, 0.2)
    save_package(model, folder, PackageOptions(WIDTH, info.base, graph=True))
    return folder
