"""One digit scene: handwritten digits and look-alikes on a crop of a photo."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.float32]
LETTERS = "AEFHKMNRSVXYZ&?@%#"
MIN_CONTRAST = 45.0


@dataclass(frozen=True)
class SceneStyle:
    """How scenes look; the defaults are those of the base model's data set.

    Attributes:
        n_targets: fewest and most in a scene that has any.
    """

    size: int = 160
    n_targets: tuple[int, int] = (1, 3)
    digit_px: tuple[int, int] = (22, 52)
    brightness: tuple[float, float] = (0.8, 1.15)
    blur_sigma: float = 0.0
    noise_sigma: tuple[float, float] = (0.0, 6.0)


DEMO = SceneStyle(n_targets=(2, 5))
SHIFTED = replace(
    DEMO, digit_px=(34, 72), brightness=(0.35, 0.5), blur_sigma=1.6, noise_sigma=(12.0, 18.0)
)


@dataclass(frozen=True)
class SceneSource:
    """What scenes are made of.

    Attributes:
        photos: RGB, each (H, W, 3).
        targets: per class, samples of (8, 8) in [0, 16].
        weights: how often each class is drawn; sums to 1.
        lookalikes: samples of digits that are no target, (N, 8, 8); none: letters and strokes only.
    """

    photos: tuple[Image, ...]
    targets: tuple[NDArray[np.float64], ...]
    weights: tuple[float, ...]
    lookalikes: NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) RGB and its objects: class and box, xyxy in pixels."""

    image: Image
    objects: tuple[tuple[int, tuple[float, float, float, float]], ...]


class SceneMaker:
    """Makes scenes of one source and style from a random generator."""

    def __init__(self, source: SceneSource, style: SceneStyle, rng: np.random.Generator) -> None:
        """Draw everything from `rng`."""
        self.source = source
        self.style = style
        self.rng = rng

    def scene(self, *, with_targets: bool) -> Scene:
        """Return one scene: targets and up to three look-alikes, or one to three of these alone."""
        canvas = self._background().astype(np.float32)
        taken: list[tuple[int, int, int, int]] = []
        objects = []
        fewest, most = self.style.n_targets
        for _ in range(int(self.rng.integers(fewest, most + 1)) if with_targets else 0):
            class_id = int(self.rng.choice(len(self.source.targets), p=self.source.weights))
            samples = self.source.targets[class_id]
            box = self._paste(canvas, self._digit(samples), taken)
            if box is not None:
                objects.append((class_id, box))
        for _ in range(int(self.rng.integers(0 if with_targets else 1, 4))):
            self._paste(canvas, self._lookalike(), taken)
        return Scene(self._finish(canvas), tuple(objects))

    def _background(self) -> Image:
        photo = self.source.photos[int(self.rng.integers(len(self.source.photos)))]
        side = min(photo.shape[0], photo.shape[1], int(self.rng.integers(120, 300)))
        y = int(self.rng.integers(photo.shape[0] - side + 1))
        x = int(self.rng.integers(photo.shape[1] - side + 1))
        size = (self.style.size, self.style.size)
        crop: Image = cv2.resize(
            photo[y : y + side, x : x + side], size, interpolation=cv2.INTER_AREA
        )
        return crop[:, ::-1] if self.rng.random() < 0.5 else crop

    def _digit(self, samples: NDArray[np.float64]) -> Mask:
        sample = samples[int(self.rng.integers(len(samples)))].astype(np.float32) / 16
        height = int(self.rng.integers(*self.style.digit_px))
        big = cv2.resize(sample, (height, height), interpolation=cv2.INTER_CUBIC)
        return self._turned(np.clip((big - 0.3) / 0.3, 0, 1))

    def _lookalike(self) -> Mask:
        digits = 0.5 if len(self.source.lookalikes) else 0.0
        kind = self.rng.choice(3, p=(digits, (1 - digits) * 0.6, (1 - digits) * 0.4))
        if kind == 0:
            return self._digit(self.source.lookalikes)
        height = int(self.rng.integers(*self.style.digit_px))
        mask = np.zeros((height, height), np.uint8)
        thickness = max(2, height // 9)
        if kind == 1:
            letter = LETTERS[int(self.rng.integers(len(LETTERS)))]
            origin = (height // 6, height - height // 6)
            scale = height / 32
            cv2.putText(mask, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 1, thickness)
        else:
            points = self.rng.integers(height // 8, height - height // 8, (4, 1, 2))
            cv2.polylines(mask, [points.astype(np.int32)], False, 1, thickness)
        return self._turned(mask.astype(np.float32))

    def _turned(self, mask: Mask) -> Mask:
        angle = float(self.rng.uniform(-20, 20))
        padded = np.pad(mask, mask.shape[0] // 4)
        middle = padded.shape[0] / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), angle, 1.0)
        turned: Mask = cv2.warpAffine(padded, matrix, padded.shape[::-1])
        rows, columns = np.where(turned > 0.5)
        if not len(rows):
            return turned[:1, :1]
        return turned[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]

    def _paste(
        self, canvas: NDArray[np.float32], mask: Mask, taken: list[tuple[int, int, int, int]]
    ) -> tuple[float, float, float, float] | None:
        height, width = mask.shape
        free = self.style.size - np.array([width, height])
        if free.min() <= 0:
            return None
        for _ in range(10):
            x, y = (int(v) for v in self.rng.integers(0, free))
            box = (x, y, x + width, y + height)
            if not any(_touch(box, other) for other in taken):
                break
        else:
            return None
        taken.append(box)
        patch = canvas[y : y + height, x : x + width]
        patch += mask[..., None] * (self._ink(patch.mean((0, 1))) - patch)
        return (float(x), float(y), float(x + width), float(y + height))

    def _ink(self, behind: NDArray[np.float32]) -> NDArray[np.float32]:
        while True:
            colour = self.rng.uniform(0, 255, 3).astype(np.float32)
            if abs(float(colour.mean() - behind.mean())) > MIN_CONTRAST:
                return colour

    def _finish(self, canvas: NDArray[np.float32]) -> Image:
        canvas *= self.rng.uniform(*self.style.brightness)
        if self.style.blur_sigma:
            canvas[:] = cv2.GaussianBlur(canvas, (0, 0), self.style.blur_sigma)
        noise = self.rng.normal(0, self.rng.uniform(*self.style.noise_sigma), canvas.shape)
        return np.clip(canvas + noise, 0, 255).astype(np.uint8)


def _touch(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
