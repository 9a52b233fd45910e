"""The digit-scene data sets: the demo's, the base model's, and batches for drift reports.

Real handwritten digits on crops of real photos, all from installed packages. The base model, the
pool and the held-out splits share neither photos nor digit samples; val and test share photos.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import typer
import yaml
from numpy.typing import NDArray

from shared.demo.scenes import DEMO, SHIFTED, Image, Scene, SceneMaker, SceneSource, SceneStyle

Part = Literal["base", "pool", "val", "test"]
PARTS: tuple[Part, ...] = ("base", "pool", "val", "test")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# No target is another digit's mirror image, so that flips stay a fair augmentation.
DEMO_DIGITS = (0, 3, 8, 4, 7, 6)
DEMO_WEIGHTS = (0.30, 0.22, 0.17, 0.13, 0.10, 0.08)
BASE_DIGITS = (1, 2, 5, 9)
BASE_WEIGHTS = (0.25, 0.25, 0.25, 0.25)
BASE_PHOTOS = ("brick", "gravel", "immunohistochemistry", "moon", "coins", "retina", "cell")
POOL_PHOTOS = ("astronaut", "camera", "coffee", "grass", "stereo_motorcycle", "hubble_deep_field")
HELD_PHOTOS = ("china.jpg", "flower.jpg", "chelsea", "rocket", "clock")
TARGET_SHARE = 0.5


@dataclass(frozen=True)
class DemoSizes:
    """Images per split; the service draws its gate split from half of `val`."""

    pool: int = 480
    val: int = 240
    test: int = 200


DEMO_SIZES = DemoSizes()


def make_demo_dataset(folder: Path, seed: int = 0, sizes: DemoSizes = DEMO_SIZES) -> Path:
    """Write the demo's data set in YOLO format and return its `data.yaml`.

    Half of the images hold no target, so that choosing images matters; classes are very unequal.
    The same seed makes the same bytes.
    """
    parts: tuple[tuple[str, Part, int], ...] = (
        ("train", "pool", sizes.pool),
        ("val", "val", sizes.val),
        ("test", "test", sizes.test),
    )
    for split, part, n_images in parts:
        for index, scene in enumerate(_scenes(part, n_images, seed)):
            _write_labelled(scene, folder, split, f"{part}_{index:04d}")
    return _write_yaml(folder, [NAMES[digit] for digit in DEMO_DIGITS], [s for s, _, _ in parts])


def make_base_dataset(folder: Path, n_train: int, n_val: int, seed: int = 0) -> Path:
    """Write the data set of the base model (other digits, other photos); return `data.yaml`."""
    for index, scene in enumerate(_scenes("base", n_train + n_val, seed, SceneStyle())):
        split = "train" if index < n_train else "val"
        _write_labelled(scene, folder, split, f"base_{index:04d}")
    return _write_yaml(folder, [NAMES[digit] for digit in BASE_DIGITS], ["train", "val"])


def make_batch(folder: Path, n_images: int, seed: int, *, shifted: bool) -> list[Path]:
    """Write unlabelled images like those of the test split, and return their paths.

    Args:
        folder: is made if need be.
        n_images: how many.
        seed: another seed makes other images.
        shifted: dark, blurred, noisy and with larger digits, as if a camera had been changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    style = SHIFTED if shifted else DEMO
    paths = []
    # Apart from the test split's own scenes, which are drawn from the bare seed.
    for index, scene in enumerate(_scenes("test", n_images, seed + 1_000_003, style)):
        name = f"{'shifted' if shifted else 'unshifted'}_{seed}_{index:04d}.jpg"
        _write_image(folder / name, scene.image)
        paths.append(folder / name)
    return paths


def _scenes(part: Part, n_images: int, seed: int, style: SceneStyle = DEMO) -> list[Scene]:
    source = _source(part)
    scenes = []
    for index in range(n_images):
        rng = np.random.default_rng([seed, PARTS.index(part), index])
        maker = SceneMaker(source, style, rng)
        share = 0.9 if part == "base" else TARGET_SHARE
        scenes.append(maker.scene(with_targets=bool(rng.random() < share)))
    return scenes


def _source(part: Part) -> SceneSource:
    names = {"base": BASE_PHOTOS, "pool": POOL_PHOTOS, "val": HELD_PHOTOS, "test": HELD_PHOTOS}
    samples = [_digit_samples(digit, part) for digit in range(10)]
    photos = tuple(_photo(name) for name in names[part])
    if part == "base":
        # The base model must not be taught that the demo's targets are background.
        targets = tuple(samples[digit] for digit in BASE_DIGITS)
        return SceneSource(photos, targets, BASE_WEIGHTS, np.empty((0, 8, 8)))
    targets = tuple(samples[digit] for digit in DEMO_DIGITS)
    lookalikes = np.concatenate([samples[digit] for digit in BASE_DIGITS])
    return SceneSource(photos, targets, DEMO_WEIGHTS, lookalikes)


def _digit_samples(digit: int, part: Part) -> NDArray[np.float64]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    samples: NDArray[np.float64] = digits.images[digits.target == digit]
    # About 178 of each digit; a fifth each for val and test, the rest for pool or base.
    cuts = {"base": (0.0, 0.6), "pool": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
    first, last = (round(cut * len(samples)) for cut in cuts[part])
    return samples[first:last]


def _photo(name: str) -> Image:
    if name.endswith(".jpg"):
        from sklearn.datasets import load_sample_image

        photo = load_sample_image(name)
    else:
        from skimage import data

        photo = getattr(data, name)()
        photo = photo[0] if isinstance(photo, tuple) else photo
    rgb = np.repeat(photo[..., None], 3, axis=2) if photo.ndim == 2 else photo[..., :3]
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def _write_labelled(scene: Scene, folder: Path, split: str, name: str) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    _write_image(images / f"{name}.jpg", scene.image)
    size = scene.image.shape[0]
    lines = [
        f"{class_id} {(x1 + x2) / 2 / size:.6f} {(y1 + y2) / 2 / size:.6f} "
        f"{(x2 - x1) / size:.6f} {(y2 - y1) / size:.6f}\n"
        for class_id, (x1, y1, x2, y2) in scene.objects
    ]
    (labels / f"{name}.txt").write_text("".join(lines))


def _write_image(path: Path, image: Image) -> None:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
    path.write_bytes(data.tobytes())


def _write_yaml(folder: Path, names: list[str], splits: list[str]) -> Path:
    content = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(names))}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def main(folder: Path, seed: int = 0) -> None:
    """Write the demo's data set into FOLDER, for simulations."""
    typer.echo(make_demo_dataset(folder, seed))


if __name__ == "__main__":
    typer.run(main)
