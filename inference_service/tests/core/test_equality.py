"""A trained detector in every engine: the same boxes, scores, uncertainty and quality."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from scipy.stats import spearmanr
from torchvision.io import decode_image
from torchvision.ops import box_iou

from inference_service.app.core.loading import ENGINES, RuntimeOptions, load_runtime
from inference_service.app.core.runtime import (
    DetectionOptions,
    FloatArray,
    RuntimeInput,
    RuntimeOutput,
)
from inference_service.app.core.uncertainty import uncertainty
from inference_service.app.services.model_worker import SERVED, serving_options
from shared.demo.digits import make_base_dataset
from shared.detector.dropout import add_head_dropout
from shared.detector.package import BASES, PackageOptions, load_package, save_package
from shared.detector.ultralytics_env import ap_per_class
from shared.local.config import ROOT
from shared.models.registry import Engine, EngineChoice
from shared.thresholds import Thresholds, kept_boxes

N_IMAGES = 60
N_SERVED = 120
# OpenVINO computes in bfloat16 where a CPU has instructions for it.
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shipped base model, as a training would save it."""
    model, info = load_package(BASES / "fovea-digits")
    add_head_dropout(model, 0.2)
    folder = tmp_path_factory.mktemp("trained")
    save_package(model, folder, PackageOptions(info.image_size, info.base, graph=True))
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures that it was not trained on, with labels."""
    return make_base_dataset(tmp_path_factory.mktemp("scenes"), 0, N_IMAGES, seed=9).parent


@pytest.fixture(scope="module")
def inputs(scenes: Path) -> list[RuntimeInput]:
    paths = sorted((scenes / "images" / "val").iterdir())
    pixels = [decode_image(str(path), "RGB").permute(1, 2, 0).numpy() for path in paths]
    return [RuntimeInput(image, seed) for seed, image in enumerate(pixels)]


@pytest.fixture(scope="module")
def reference(package: Path, inputs: list[RuntimeInput]) -> list[RuntimeOutput]:
    return seen(package, inputs, "pytorch")


def seen(package: Path, inputs: Sequence[RuntimeInput], engine: Engine) -> list[RuntimeOutput]:
    runtime = load_runtime(package, RuntimeOptions(threads=2), EngineChoice(engine=engine))
    return runtime.detect(inputs, DetectionOptions())


def map50(outputs: Sequence[RuntimeOutput], scenes: Path) -> float:
    """Return mAP50 by Ultralytics' own measure."""
    hits, scores, classes, true_classes = [], [], [], []
    paths = sorted((scenes / "labels" / "val").iterdir())
    for output, path in zip(outputs, paths, strict=True):
        rows = np.array([line.split() for line in path.read_text().splitlines()], np.float32)
        true = rows.reshape(-1, 5)
        corners = np.hstack([true[:, 1:3] - true[:, 3:] / 2, true[:, 1:3] + true[:, 3:] / 2])
        overlap = box_iou(torch.from_numpy(output.xyxy), torch.from_numpy(corners)).numpy()
        free = set(range(len(true)))
        for n, class_id in enumerate(output.class_scores.argmax(axis=1)):
            fitting = [m for m in free if true[m, 0] == class_id and overlap[n, m] >= 0.5]
            best = max(fitting, key=lambda m: overlap[n, m], default=None)
            free.discard(-1 if best is None else best)
            hits.append(best is not None)
        scores.append(output.class_scores.max(axis=1))
        classes.append(output.class_scores.argmax(axis=1))
        true_classes.append(true[:, 0])
    found = ap_per_class(
        np.array(hits)[:, None], *(np.concatenate(part) for part in (scores, classes, true_classes))
    )
    average: FloatArray = found[5]
    return float(average[:, 0].mean())


def unsure(outputs: Sequence[RuntimeOutput]) -> list[float]:
    """Return the summed entropy and mutual information of each image's boxes."""
    measures = [uncertainty(output.class_probabilities) for output in outputs]
    return [float(m.entropy.sum() + m.bald.sum()) for m in measures]


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "pytorch"])
def test_an_engine_sees_what_pytorch_sees(
    package: Path,
    scenes: Path,
    inputs: list[RuntimeInput],
    reference: list[RuntimeOutput],
    engine: Engine,
) -> None:
    found = seen(package, inputs, engine)
    tolerance = 0.02 if BF16 and engine == "openvino" else 1e-3
    matched, differences = [], []
    for one, other in zip(reference, found, strict=True):
        sure = one.class_scores.max(axis=1) > 0.1
        overlap = box_iou(torch.from_numpy(one.xyxy), torch.from_numpy(other.xyxy)).numpy()
        for n in np.flatnonzero(sure):
            same = other.class_scores.argmax(axis=1) == one.class_scores[n].argmax()
            best = int(np.where(same, overlap[n], -1).argmax())
            matched.append(bool(same[best]) and overlap[n, best] >= 0.95)
            differences.append(np.abs(one.class_scores[n] - other.class_scores[best]).max())
    assert len(matched) > N_IMAGES
    assert np.mean(matched) >= 0.99
    assert np.quantile(differences, 0.99) <= tolerance
    assert spearmanr(unsure(reference), unsure(found)).statistic >= 0.98
    quality = map50(reference, scenes)
    assert quality > 0.5
    assert map50(found, scenes) == pytest.approx(quality, abs=0.005)


@pytest.mark.parametrize("askers", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_two_threads_at_once_see_what_each_would_see_alone(
    package: Path, inputs: list[RuntimeInput], engine: Engine, askers: int
) -> None:
    options = RuntimeOptions(threads=2, askers=askers)
    runtime = load_runtime(package, options, EngineChoice(engine=engine))
    chunks = [inputs[n : n + 4] for n in range(0, 24, 4)]
    alone = [runtime.detect(chunk, DetectionOptions()) for chunk in chunks]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda chunk: runtime.detect(chunk, DetectionOptions()), chunks))
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        for name in ("xyxy", "class_scores", "class_probabilities", "embedding", "box_embeddings"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_what_serving_does_not_look_at_could_not_become_a_detection(
    package: Path, inputs: list[RuntimeInput]
) -> None:
    runtime = load_runtime(package, RuntimeOptions(threads=2))
    whole = runtime.detect(inputs, SERVED)
    # One of them is at its threshold exactly.
    exact = float(np.sort(np.concatenate([o.class_scores.max(axis=1) for o in whole]))[-N_SERVED])
    thresholds = Thresholds(scores=(exact, 0.9, 0.5, 0.3)[: len(runtime.classes)], nms_iou=0.4)
    least = runtime.detect(inputs, serving_options(thresholds))
    assert sum(len(o.xyxy) for o in least) == N_SERVED < sum(len(o.xyxy) for o in whole) / 3
    n_kept = 0
    for one, other in zip(whole, least, strict=True):
        kept = [kept_boxes(o.xyxy, o.class_scores, thresholds) for o in (one, other)]
        n_kept += len(kept[0])
        for name in ("xyxy", "class_scores", "class_probabilities"):
            of_whole, of_least = getattr(one, name)[kept[0]], getattr(other, name)[kept[1]]
            assert of_whole == pytest.approx(of_least, abs=1e-5), name
    assert n_kept > N_SERVED / 3


TWO_AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np

from inference_service.app.core.loading import RuntimeOptions, load_runtime
from inference_service.app.core.runtime import DetectionOptions, RuntimeInput
from shared.models.registry import EngineChoice

runtime = load_runtime(Path(sys.argv[1]), RuntimeOptions(1), EngineChoice(engine=sys.argv[2]))
together = Barrier(2)
image = np.zeros((64, 64, 3), np.uint8)

def detect(seed):
    together.wait()
    return runtime.detect([RuntimeInput(image, seed)], DetectionOptions())

with ThreadPoolExecutor(2) as pool:
    print(len(list(pool.map(detect, range(2)))))
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_two_batches_of_a_process_may_come_at_once(package: Path, engine: Engine) -> None:
    command = (sys.executable, "-c", TWO_AT_ONCE, str(package), engine)
    found = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
    assert found.stdout.endswith(b"2\n")
