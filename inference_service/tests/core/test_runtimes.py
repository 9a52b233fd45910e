import contextlib
import copy
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import properties
from scipy.optimize import linear_sum_assignment
from torch.nn.modules.module import register_module_forward_pre_hook

from inference_service.app.core import tapped_runtime
from inference_service.app.core.letterbox import Letterbox
from inference_service.app.core.loading import (
    ENGINES,
    IN_PYTORCH,
    RuntimeOptions,
    load_base_runtime,
    load_runtime,
    torch_runtime,
)
from inference_service.app.core.openvino_trunk import OpenVinoTrunk, n_streams
from inference_service.app.core.passes import stochastic_scores
from inference_service.app.core.runtime import (
    DetectionOptions,
    DetectorRuntime,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
)
from inference_service.app.core.tapped_runtime import DetectorKind, TappedRuntime
from inference_service.app.core.trunk import Batch, Tapped
from inference_service.tests.contract import INPUTS, DetectorRuntimeContract, assert_same
from inference_service.tests.tiny import CLASSES, IMAGE_SIZE, picture, tiny_model, tiny_package
from shared.detector.info import GRAPH_FILE
from shared.detector.package import UnknownBase
from shared.detector.ultralytics_env import LetterBox, nms, ops
from shared.models.registry import Engine, EngineChoice
from shared.served import with_background

OPTIONS = RuntimeOptions(threads=1)
TASKS = Path("/proc/self/task")
KIND = DetectorKind(CLASSES, IMAGE_SIZE, IN_PYTORCH)


@pytest.fixture(scope="module")
def tiny_runtime() -> TappedRuntime:
    return torch_runtime(tiny_model(), KIND, OPTIONS)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    tiny_package(folder)
    return folder


class TestEveryEngine(DetectorRuntimeContract):
    @pytest.fixture(params=ENGINES)
    def runtime(self, package: Path, request: pytest.FixtureRequest) -> DetectorRuntime:
        engine: Engine = request.param
        return load_runtime(package, OPTIONS, EngineChoice(engine=engine))

    def test_same_boxes_scores_and_embedding_as_pytorch(
        self, runtime: DetectorRuntime, reference: list[RuntimeOutput]
    ) -> None:
        # What bfloat16 does, where the CPU has it, is measured on a trained network.
        assert isinstance(runtime, TappedRuntime)
        if isinstance(runtime._trunk, OpenVinoTrunk):
            precision = properties.hint.inference_precision()
            runtime._trunk._properties[precision] = openvino.Type.f32
        super().test_same_boxes_scores_and_embedding_as_pytorch(runtime, reference)

    def test_the_network_is_given_no_more_than_a_batch_at_a_time(
        self, runtime: DetectorRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(runtime, TappedRuntime)
        given: list[int] = []
        forward = runtime._trunk.forward

        def noted(pixels: Batch) -> Tapped:
            given.append(len(pixels))
            return forward(pixels)

        monkeypatch.setattr(runtime._trunk, "forward", noted)
        inputs = [RuntimeInput(picture(seed, 96, 96), seed) for seed in range(9)]
        assert len(runtime.detect(inputs, DetectionOptions())) == 9
        assert given == ([4, 4, 1] if runtime.engine.engine == "openvino" else [8, 1])


@pytest.mark.parametrize("width_height", [(96, 96), (80, 60), (31, 200)])
def test_ten_kept_anchor_passes_equal_ten_full_passes_of_baal(
    tiny_runtime: TappedRuntime, width_height: tuple[int, int]
) -> None:
    from baal.bayesian.dropout import MCDropoutModule

    pixels = picture(7, *width_height)
    model = tiny_model().fuse(verbose=False)
    boxed = LetterBox(IMAGE_SIZE, auto=True)(image=pixels)
    batch = torch.from_numpy(boxed).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        _, kept = nms.non_max_suppression(
            model(batch)[0], 0.001, 0.7, max_det=100, nc=3, return_idxs=True
        )
        bayesian = MCDropoutModule(copy.deepcopy(model))
        torch.manual_seed(1234)
        full = torch.stack([bayesian(batch)[0][0, :, kept[0]].T for _ in range(10)], dim=-1)
    output = tiny_runtime.detect([RuntimeInput(pixels, 1234)], DetectionOptions())[0]
    expected = with_background(full[:, 4:].numpy())
    rows = _rows_of(output.class_scores, model, batch, kept[0])
    assert len(rows) == len(output.xyxy) > 10
    np.testing.assert_allclose(output.class_probabilities, expected[rows], atol=1e-4)
    assert output.class_probabilities.std(axis=2).max() > 0.05
    boxes = ops.xywh2xyxy(full[:, :4].transpose(1, 2)).numpy()
    shares = Letterbox.fit(*width_height, IMAGE_SIZE).normalised(boxes).transpose(0, 2, 1)
    np.testing.assert_allclose(output.pass_xyxy, shares[rows], atol=1e-4)
    assert output.pass_xyxy.std(axis=2).max() > 0.01


def _rows_of(
    class_scores: FloatArray, model: torch.nn.Module, batch: torch.Tensor, kept: torch.Tensor
) -> list[int]:
    """Return where the output's boxes stand among the kept ones: those in the padding are gone."""
    with torch.inference_mode():
        scores = model(batch)[0][0, 4:, kept].T.numpy()
    return [int(np.abs(scores - s).max(axis=1).argmin()) for s in class_scores]


@pytest.mark.parametrize("width_height", [(96, 96), (80, 60), (61, 93), (400, 300), (31, 200)])
def test_boxes_equal_those_of_ultralytics(
    tiny_runtime: TappedRuntime, width_height: tuple[int, int]
) -> None:
    width, height = width_height
    pixels = picture(3, width, height)
    model = tiny_model().fuse(verbose=False)
    boxed = LetterBox(IMAGE_SIZE, auto=True)(image=pixels)
    batch = torch.from_numpy(np.ascontiguousarray(boxed.transpose(2, 0, 1)))[None].float() / 255
    with torch.inference_mode():
        found = nms.non_max_suppression(model(batch)[0], 0.25, 0.7, max_det=300, nc=3)[0]
        expected = ops.scale_boxes(batch.shape[2:], found[:, :4], (height, width)).numpy()
    whole = (expected[:, 0] < expected[:, 2]) & (expected[:, 1] < expected[:, 3])
    options = DetectionOptions(score_threshold=0.25, max_boxes=300)
    output = tiny_runtime.detect([RuntimeInput(pixels, 0)], options)[0]
    assert len(output.xyxy) > 5
    scores = output.class_scores.max(axis=1)
    assert (np.diff(scores) <= 0).all()
    # Sums in another order have equal scores change places.
    seen = np.column_stack([output.xyxy * [width, height, width, height], scores])
    wanted = np.column_stack([expected, found[:, 4].numpy()])[whole]
    assert seen.shape == wanted.shape
    _, places = linear_sum_assignment(np.abs(seen[:, None] - wanted[None]).sum(axis=2))
    np.testing.assert_allclose(seen[:, :4], wanted[places, :4], atol=0.2)
    np.testing.assert_allclose(seen[:, 4], wanted[places, 4], atol=1e-4)
    classes = found[:, 5].numpy()[whole][places]
    np.testing.assert_array_equal(output.class_scores.argmax(axis=1), classes)


def test_without_dropout_all_passes_are_the_plain_scores() -> None:
    runtime = torch_runtime(tiny_model(dropout=0), KIND, OPTIONS)
    output = runtime.detect(INPUTS[:1], DetectionOptions(n_passes=3))[0]
    plain = with_background(output.class_scores)
    for i in range(3):
        np.testing.assert_allclose(output.class_probabilities[:, :, i], plain, atol=1e-6)
        np.testing.assert_allclose(output.pass_xyxy[:, :, i], output.xyxy, atol=1e-5)


def test_model_package_loads_as_the_same_detector(
    tiny_runtime: TappedRuntime, tmp_path: Path
) -> None:
    tiny_package(tmp_path / "model")
    loaded = load_runtime(tmp_path / "model", OPTIONS)
    assert loaded.classes == CLASSES
    options = DetectionOptions()
    assert_same(loaded.detect(INPUTS, options), tiny_runtime.detect(INPUTS, options))


def test_base_from_scratch_embeds_the_same_each_time(tmp_path: Path) -> None:
    one, other = (load_base_runtime("scratch", tmp_path, OPTIONS) for _ in range(2))
    options = DetectionOptions(max_boxes=1, n_passes=2)
    assert_same(one.detect(INPUTS[:1], options), other.detect(INPUTS[:1], options))
    assert one.detect(INPUTS[:1], options)[0].embedding.shape == (256,)


def test_unknown_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownBase, match="'nothing'"):
        load_base_runtime("nothing", tmp_path, OPTIONS)


def test_bfloat16_stays_near_full_precision(tiny_runtime: TappedRuntime) -> None:
    half = torch_runtime(tiny_model(), KIND, RuntimeOptions(threads=1, bf16=True))
    options = DetectionOptions(max_boxes=5)
    for a, b in zip(
        half.detect(INPUTS, options), tiny_runtime.detect(INPUTS, options), strict=True
    ):
        assert np.corrcoef(a.embedding, b.embedding)[0, 1] > 0.98


def test_only_the_trunk_takes_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = torch_runtime(tiny_model(), KIND, RuntimeOptions(threads=2))
    seen: dict[str, set[int]] = {"trunk": set(), "head": set()}

    def scores(*args: Any) -> torch.Tensor:
        seen["head"].add(torch.get_num_threads())
        return stochastic_scores(*args)

    def note(*_: object) -> None:
        seen["trunk"].add(torch.get_num_threads())

    monkeypatch.setattr(tapped_runtime, "stochastic_scores", scores)
    before = torch.get_num_threads()
    with register_module_forward_pre_hook(note):
        runtime.detect(INPUTS[:1], DetectionOptions())
    assert seen == {"trunk": {2}, "head": {1}}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("threads", "askers", "streams"),
    [(2, 1, 1), (2, 2, 2), (2, 3, 2), (1, 3, 1), (4, 3, 2), (6, 3, 3), (5, 3, 1)],
)
def test_batches_at_once_share_the_threads_evenly(threads: int, askers: int, streams: int) -> None:
    assert n_streams(threads, askers) == streams


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="OpenVINO takes no more threads than cores")
@pytest.mark.parametrize(("waited_for", "alone"), [(True, 1), (False, 2)])
def test_batches_share_the_cores_and_who_waits_alone_has_them_all(
    package: Path, waited_for: bool, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = OpenVinoTrunk(package / GRAPH_FILE, threads=2, askers=3, waited_for=waited_for)
    used: list[int] = []
    request = trunk._request

    def told(height: int, width: int, streams: int) -> Any:
        found = request(height, width, streams)
        used.append(found.get_compiled_model().get_property(properties.num_streams()))
        return found

    monkeypatch.setattr(trunk, "_request", told)
    pixels = np.zeros((2, 96, 96, 3), np.uint8)
    trunk.forward(pixels)
    with trunk._inside():
        trunk.forward(pixels)
    trunk.forward(pixels)
    assert used == [alone, 2, alone]


@pytest.mark.skipif(not TASKS.exists(), reason="only Linux tells where a thread may run")
def test_processes_that_share_a_machine_do_not_all_compute_on_its_first_cores(
    package: Path,
) -> None:
    runtime = load_runtime(package, OPTIONS, EngineChoice(engine="openvino"))
    inputs = [RuntimeInput(picture(seed, 96, 96), seed) for seed in range(8)]
    # While it compiles it looks at core by core.
    runtime.detect(inputs, DetectionOptions())
    allowed: set[frozenset[int]] = set()
    with ThreadPoolExecutor(1) as pool:
        asked = [pool.submit(runtime.detect, inputs, DetectionOptions()) for _ in range(20)]
        while not asked[-1].done():
            for task in TASKS.iterdir():
                with contextlib.suppress(ProcessLookupError):
                    allowed.add(frozenset(os.sched_getaffinity(int(task.name))))
    assert allowed == {frozenset(os.sched_getaffinity(0))}
