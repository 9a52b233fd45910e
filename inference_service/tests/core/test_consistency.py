from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from inference_service.app.core.consistency import inconsistencies
from inference_service.app.core.runtime import (
    DetectionOptions,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
)
from shared.models.registry import EngineChoice

SURE = (0.9, 0.05)


def output(boxes: Sequence[Sequence[float]], scores: Sequence[Sequence[float]]) -> RuntimeOutput:
    n = len(boxes)
    return RuntimeOutput(
        xyxy=np.array(boxes, np.float32).reshape(n, 4),
        pass_xyxy=np.zeros((n, 4, 1), np.float32),
        class_scores=np.array(scores, np.float32).reshape(n, 2),
        class_probabilities=np.zeros((n, 3, 1), np.float32),
        embedding=np.zeros(2, np.float32),
    )


@dataclass
class SpotRuntime:
    """Finds the one bright spot of an image; what it says of the smaller view can be bent.

    Attributes:
        small_scores: class scores in the smaller view; None where it does not see the spot there.
        small_shift: how far right of the spot it sees it there, as a share of the spot's width.
        clutter: more boxes in every view, with their scores.
        batch: images at a time.
    """

    small_scores: tuple[float, float] | None = SURE
    small_shift: float = 0.0
    clutter: tuple[tuple[tuple[float, ...], tuple[float, float]], ...] = ()
    batch: int = 8
    classes: tuple[str, ...] = ("ring", "cross")
    engine: EngineChoice = EngineChoice(engine="pytorch")  # noqa: RUF009 - it is frozen

    def detect(
        self, images: Sequence[RuntimeInput], options: DetectionOptions
    ) -> list[RuntimeOutput]:
        return [self._see(image) for image in images]

    def _see(self, image: RuntimeInput) -> RuntimeOutput:
        ys, xs = image.pixels[:, :, 0].nonzero()
        height, width = image.pixels.shape[:2]
        left, right = xs.min() / width, (xs.max() + 1) / width
        small = image.scale < 1
        shift = self.small_shift * (right - left) if small else 0.0
        box = (left + shift, ys.min() / height, right + shift, (ys.max() + 1) / height)
        scores = self.small_scores if small else SURE
        seen = ([(box, scores)] if scores else []) + list(self.clutter)
        return output([b for b, _ in seen], [s for _, s in seen])


def spot() -> RuntimeInput:
    """Return an image with a spot left of its middle."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:20, 5:25] = 255
    return RuntimeInput(pixels, seed=0)


def found(runtime: SpotRuntime) -> FloatArray:
    inputs = [spot()]
    options = DetectionOptions()
    (values,) = inconsistencies(runtime, inputs, runtime.detect(inputs, options), options)
    assert values.dtype == np.float32
    return values


def test_same_boxes_and_classes_in_every_view_are_consistent() -> None:
    assert found(SpotRuntime()) == pytest.approx([0], abs=1e-6)


def test_box_that_moves_is_inconsistent_by_its_lost_overlap() -> None:
    # Half of its width: IoU 1/3 in one of the two views.
    assert found(SpotRuntime(small_shift=0.5)) == pytest.approx([1 / 3], abs=1e-6)
    assert found(SpotRuntime(small_shift=0.1))[0] < found(SpotRuntime(small_shift=0.2))[0]


def test_box_that_no_view_shows_is_wholly_inconsistent() -> None:
    inputs, options = [spot()], DetectionOptions()
    elsewhere = [output([[0.7, 0.7, 0.9, 0.9]], [SURE])]
    (values,) = inconsistencies(SpotRuntime(), inputs, elsewhere, options)
    assert values.tolist() == [1]


def test_box_that_one_of_both_views_does_not_show_is_half_inconsistent() -> None:
    assert found(SpotRuntime(small_scores=None)) == pytest.approx([0.5], abs=1e-6)
    assert found(SpotRuntime(small_shift=3)) == pytest.approx([0.5], abs=1e-6)


def test_other_class_at_the_same_place_is_inconsistent_by_the_divergence() -> None:
    # All of one class against all of the other: JS is ln 2, and the similarity 0.
    certain = SpotRuntime(small_scores=(0.0, 1.0))
    inputs, options = [spot()], DetectionOptions()
    seen = [output([[5 / 80, 0.25, 25 / 80, 0.5]], [[1.0, 0.0]])]
    (values,) = inconsistencies(certain, inputs, seen, options)
    assert values[0] > 0.5
    doubtful = found(SpotRuntime(small_scores=(0.5, 0.05)))[0]
    swapped = found(SpotRuntime(small_scores=(0.05, 0.9)))[0]
    assert 0 < doubtful < swapped < 0.5


def test_faint_box_nearer_to_the_spot_is_not_taken_for_it() -> None:
    faint = ((5 / 80, 0.25, 25 / 80, 0.5), (0.002, 0.001))
    moved = SpotRuntime(small_shift=0.1, clutter=(faint,))
    assert found(moved)[0] == pytest.approx(found(SpotRuntime(small_shift=0.1))[0], abs=1e-6)


def test_image_without_boxes_has_no_values() -> None:
    inputs, options = [spot()], DetectionOptions()
    (values,) = inconsistencies(SpotRuntime(), inputs, [output([], [])], options)
    assert values.shape == (0,)
