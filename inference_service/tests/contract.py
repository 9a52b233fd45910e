"""What every detector runtime does the same; an adapter's test is its fixture and a subclass."""

from collections.abc import Sequence

import numpy as np
import pytest

from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    RuntimeInput,
    RuntimeOutput,
)
from inference_service.tests.tiny import CLASSES, IMAGE_SIZE, picture
from shared.models.registry import EngineChoice

INPUTS = tuple(
    RuntimeInput(picture(i, *size), seed=i)
    for i, size in enumerate([(80, 60), (60, 80), (96, 96), (80, 60), (31, 200), (80, 60)])
)


class DetectorRuntimeContract:
    """Subclass it with a `runtime` fixture of the tiny network."""

    @pytest.fixture
    def runtime(self) -> DetectorRuntime:
        raise NotImplementedError

    @pytest.fixture
    def reference(self) -> list[RuntimeOutput]:
        """Return what PyTorch sees in `INPUTS` with the default options."""
        from inference_service.app.core.loading import RuntimeOptions, torch_runtime
        from inference_service.app.core.tapped_runtime import DetectorKind
        from inference_service.tests.tiny import tiny_model

        kind = DetectorKind(CLASSES, IMAGE_SIZE, EngineChoice(engine="pytorch"))
        pytorch = torch_runtime(tiny_model(), kind, RuntimeOptions(threads=1))
        return pytorch.detect(INPUTS, DetectionOptions())

    def test_no_image_gives_no_output(self, runtime: DetectorRuntime) -> None:
        assert runtime.detect([], DetectionOptions()) == []

    def test_classes_are_the_class_map(self, runtime: DetectorRuntime) -> None:
        assert runtime.classes == ("ring", "cross", "dot")

    def test_everything_has_its_shape_and_range(self, runtime: DetectorRuntime) -> None:
        for output in runtime.detect(INPUTS, DetectionOptions(n_passes=4, max_boxes=20)):
            n = len(output.xyxy)
            assert 0 < n <= 20
            assert output.xyxy.shape == (n, 4)
            assert output.pass_xyxy.shape == (n, 4, 4)
            assert output.pass_xyxy.min() >= 0
            assert output.pass_xyxy.max() <= 1
            assert (output.pass_xyxy[:, :2] <= output.pass_xyxy[:, 2:]).all()
            assert output.class_scores.shape == (n, 3)
            assert output.class_probabilities.shape == (n, 4, 4)
            assert output.embedding.ndim == 1
            assert np.isfinite(output.embedding).all()
            assert output.xyxy.min() >= 0
            assert output.xyxy.max() <= 1
            assert (output.xyxy[:, :2] < output.xyxy[:, 2:]).all()
            np.testing.assert_allclose(output.class_probabilities.sum(axis=1), 1, rtol=1e-5)

    def test_boxes_come_by_falling_score(self, runtime: DetectorRuntime) -> None:
        for output in runtime.detect(INPUTS, DetectionOptions()):
            assert (np.diff(output.class_scores.max(axis=1)) <= 0).all()

    def test_result_does_not_depend_on_the_batch(self, runtime: DetectorRuntime) -> None:
        together = runtime.detect(INPUTS, DetectionOptions())
        backwards = runtime.detect(INPUTS[::-1], DetectionOptions())[::-1]
        alone = [runtime.detect([i], DetectionOptions())[0] for i in INPUTS]
        assert_same(together, backwards)
        assert_same(together, alone)

    def test_same_batch_again_is_equal_bit_by_bit(self, runtime: DetectorRuntime) -> None:
        for a, b in zip(*(runtime.detect(INPUTS, DetectionOptions()) for _ in "ab"), strict=True):
            np.testing.assert_array_equal(a.xyxy, b.xyxy)
            np.testing.assert_array_equal(a.pass_xyxy, b.pass_xyxy)
            np.testing.assert_array_equal(a.class_probabilities, b.class_probabilities)
            np.testing.assert_array_equal(a.embedding, b.embedding)

    def test_other_seed_changes_the_passes_alone(self, runtime: DetectorRuntime) -> None:
        pixels = picture(1)
        one, other = runtime.detect(
            [RuntimeInput(pixels, 1), RuntimeInput(pixels, 2)], DetectionOptions()
        )
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-4)
        np.testing.assert_allclose(one.class_scores, other.class_scores, atol=1e-4)
        assert np.abs(one.class_probabilities - other.class_probabilities).max() > 0.01
        assert np.abs(one.pass_xyxy - other.pass_xyxy).max() > 0.01

    def test_smaller_scale_sees_the_same_frame_with_less_detail(
        self, runtime: DetectorRuntime
    ) -> None:
        pixels = picture(1)
        whole, small, alone = runtime.detect(
            [RuntimeInput(pixels, 1), *[RuntimeInput(pixels, 1, scale=0.75)] * 2],
            DetectionOptions(),
        )
        assert_same([small], [alone])
        assert len(small.xyxy) > 0
        assert small.xyxy.min() >= 0
        assert small.xyxy.max() <= 1
        assert not np.array_equal(small.xyxy[:1], whole.xyxy[:1])

    def test_flipped_view_of_the_pixels_is_the_flipped_image(
        self, runtime: DetectorRuntime
    ) -> None:
        flipped = picture(1)[:, ::-1]
        view, copy = (
            runtime.detect([RuntimeInput(pixels, 1)], DetectionOptions())
            for pixels in (flipped, np.ascontiguousarray(flipped))
        )
        assert_same(view, copy)

    def test_image_without_a_good_enough_box_has_none(self, runtime: DetectorRuntime) -> None:
        output = runtime.detect(INPUTS[:1], DetectionOptions(score_threshold=1.0, n_passes=3))[0]
        assert output.xyxy.shape == (0, 4)
        assert output.pass_xyxy.shape == (0, 4, 3)
        assert output.class_scores.shape == (0, 3)
        assert output.class_probabilities.shape == (0, 4, 3)
        assert len(output.embedding) > 0

    def test_same_boxes_scores_and_embedding_as_pytorch(
        self, runtime: DetectorRuntime, reference: list[RuntimeOutput]
    ) -> None:
        for output, expected in zip(
            runtime.detect(INPUTS, DetectionOptions()), reference, strict=True
        ):
            np.testing.assert_allclose(output.xyxy, expected.xyxy, atol=1e-3)
            np.testing.assert_allclose(output.pass_xyxy, expected.pass_xyxy, atol=1e-3)
            np.testing.assert_allclose(output.class_scores, expected.class_scores, atol=1e-3)
            np.testing.assert_allclose(
                output.class_probabilities, expected.class_probabilities, atol=1e-3
            )
            np.testing.assert_allclose(output.embedding, expected.embedding, atol=1e-3)


def assert_same(one: Sequence[RuntimeOutput], other: Sequence[RuntimeOutput]) -> None:
    """Compare up to what the kernels for another batch size may round differently."""
    for a, b in zip(one, other, strict=True):
        for name in ("xyxy", "pass_xyxy", "class_scores", "class_probabilities", "embedding"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4, err_msg=name)
