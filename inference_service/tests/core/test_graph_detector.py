import hashlib
import json
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference_service.app.core.graph_detector import GraphDetector
from inference_service.app.core.runtime import DetectionOptions, RuntimeInput
from inference_service.app.core.scored import Picture, score_pictures
from shared.detector.info import CorruptPackage, GraphInfo, read_any

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "other_detector" / "export.py"
SURE = DetectionOptions(n_passes=3, score_threshold=0.5)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the documented example writes."""
    folder = tmp_path_factory.mktemp("example")
    runpy.run_path(str(EXAMPLE))["export"](folder, ["spot"])
    return folder


def spots(*cells: tuple[int, int], size: tuple[int, int] = (64, 64)) -> RuntimeInput:
    """Return a dark picture with bright cells of 8x8, by row and column."""
    pixels = np.zeros((*size, 3), np.uint8)
    for row, column in cells:
        pixels[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 250
    return RuntimeInput(pixels, seed=0)


def loaded(folder: Path) -> GraphDetector:
    info = read_any(folder)
    assert isinstance(info, GraphInfo)
    return GraphDetector(folder, info, threads=1)


def changed(package: Path, target: Path, **outputs: Any) -> Path:
    """Return a copy of the package with another description of its outputs."""
    target.mkdir()
    (target / "model.onnx").write_bytes((package / "model.onnx").read_bytes())
    description = json.loads((package / "model.json").read_text())
    description["outputs"] |= outputs
    (target / "model.json").write_text(json.dumps(description))
    return target


def test_the_example_finds_the_spots_where_they_are(package: Path) -> None:
    detector = loaded(package)
    assert detector.classes == ("spot",)
    one, none, two = detector.detect([spots((1, 2)), spots(), spots((0, 0), (7, 7))], SURE)
    np.testing.assert_allclose(one.xyxy, [[16 / 64, 8 / 64, 24 / 64, 16 / 64]], atol=1e-6)
    np.testing.assert_allclose(one.class_scores, [[250 / 255]], atol=1e-5)
    assert len(none.xyxy) == 0
    assert len(two.xyxy) == 2
    assert one.class_probabilities.shape == (1, 2, 3)
    np.testing.assert_allclose(one.class_probabilities.sum(axis=1), 1, rtol=1e-5)
    assert one.pass_xyxy.shape == (1, 4, 3)
    assert one.embedding.shape == none.embedding.shape == (192,)
    assert not np.allclose(one.embedding, two.embedding)


def test_an_image_of_another_shape_is_fitted_into_the_graphs_own(package: Path) -> None:
    wide = spots((0, 0), size=(64, 128))
    [output] = loaded(package).detect([wide], DetectionOptions(n_passes=2, score_threshold=0.1))
    assert len(output.xyxy) > 0
    assert output.xyxy.min() >= 0
    assert output.xyxy.max() <= 1
    best = output.xyxy[0]
    # Its 8x8 pixels of 128x64, within the grid of the smaller picture.
    assert best[0] <= 4 / 128
    assert best[1] <= 4 / 64


def test_its_scores_are_measured_like_any_others(package: Path) -> None:
    picture = Picture("a", "train", spots((1, 2), (4, 4)).pixels)
    [scored] = score_pictures(loaded(package), [picture], SURE)
    assert len(scored.xyxy) == 2
    assert (scored.entropy > 0).all()
    np.testing.assert_allclose(scored.bald, 0, atol=1e-6)
    np.testing.assert_allclose(scored.localisation, 0, atol=1e-6)


def test_a_graph_with_its_own_suppression_keeps_all_of_its_boxes(
    package: Path, tmp_path: Path
) -> None:
    class Twice(torch.nn.Module):
        """Two overlapping boxes, and one that is nowhere, of two classes and background."""

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            nowhere = [0.5, 0.5, torch.nan, torch.inf]
            boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.42, 0.4], nowhere]])
            logits = torch.tensor([[[0.0, 4.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]]])
            return boxes + 0 * images.float().mean(), logits, images.float().mean((1, 2))

    folder = tmp_path / "twice"
    folder.mkdir()
    graph = folder / "model.onnx"
    torch.onnx.export(
        Twice(),
        (torch.zeros(1, 32, 48, 3, dtype=torch.uint8),),
        graph,
        input_names=["pixels"],
        output_names=["b", "s", "e"],
        dynamo=False,
    )
    description = {
        "kind": "graph",
        "classes": ["one", "two"],
        "image_size": 48,
        "weights_sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "input": {"name": "pixels", "layout": "NHWC"},
        "outputs": {
            "boxes": "b",
            "scores": "s",
            "embedding": "e",
            "box_format": "cxcywh",
            "normalised": True,
            "activation": "softmax",
            "background": "first",
        },
    }
    (folder / "model.json").write_text(json.dumps(description))
    seen = RuntimeInput(np.full((32, 48, 3), 7, np.uint8), seed=0)
    outputs = loaded(folder).detect([seen, seen], DetectionOptions(n_passes=1))
    expected = torch.tensor([0.0, 4.0, 0.0]).softmax(0)[1:].numpy()
    for output in outputs:
        np.testing.assert_allclose(output.xyxy, [[0.3, 0.3, 0.7, 0.7]], atol=1e-6)
        np.testing.assert_allclose(output.class_scores, [expected], atol=1e-6)
        np.testing.assert_allclose(output.embedding, [7, 7, 7], atol=1e-5)
    own = changed(folder, tmp_path / "own", suppressed=True)
    assert len(loaded(own).detect([seen], DetectionOptions(n_passes=1))[0].xyxy) == 2


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"boxes": "corners"}, r"gives \['boxes', 'scores'\]; its description says"),
        ({"background": "first"}, "scores of 0 classes"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_name(
    package: Path, tmp_path: Path, outputs: dict[str, Any], message: str
) -> None:
    folder = changed(package, tmp_path / "changed", **outputs)
    with pytest.raises(CorruptPackage, match=message):
        loaded(folder).detect([spots((1, 1))], SURE)


class Wrong(torch.nn.Module):
    """Gives boxes by side, or scores that are no numbers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grey = images.mean((1, 2, 3)).view(-1, 1, 1)
        boxes, scores = grey.expand(-1, 7, 4), grey.expand(-1, 7, 1)
        if self.kind == "nan":
            return boxes, scores / 0 * 0
        return boxes.transpose(1, 2), scores


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("turned", r"boxes of shape \(2, 4, 7\) and scores of \(2, 7, 1\) for 2 images"),
        ("nan", "all no numbers"),
    ],
)
def test_a_graph_that_gives_something_else_is_refused_by_it(
    package: Path, tmp_path: Path, kind: str, message: str
) -> None:
    folder = changed(package, tmp_path / kind)
    torch.onnx.export(
        Wrong(kind),
        (torch.zeros(2, 3, 64, 64),),
        folder / "model.onnx",
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamo=False,
    )
    description = json.loads((folder / "model.json").read_text())
    description["weights_sha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(CorruptPackage, match=message):
        loaded(folder).detect([spots((1, 1)), spots((2, 2))], SURE)


def test_two_threads_at_once_see_what_each_would_see_alone(package: Path) -> None:
    detector = loaded(package)
    chunks = [[spots((row, column)) for column in range(8)] for row in range(8)]
    alone = [detector.detect(chunk, SURE) for chunk in chunks]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda chunk: detector.detect(chunk, SURE), chunks))
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        for name in ("xyxy", "class_scores", "class_probabilities", "embedding", "box_embeddings"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_damaged_graph_is_refused(package: Path, tmp_path: Path) -> None:
    folder = changed(package, tmp_path / "cut")
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(CorruptPackage, match="SHA-256"):
        loaded(folder)


def test_the_service_runs_it_where_ultralytics_is_not_installed(package: Path) -> None:
    code = f"""
import sys
sys.modules["ultralytics"] = None
from pathlib import Path
import numpy as np
import inference_service.app.main
from inference_service.app.core.runtime import DetectionOptions
from inference_service.app.core.scored import Picture, score_pictures
from inference_service.app.wiring import _load
from shared.settings import Settings
runtime = _load(Settings(threads=1), Path({str(package)!r}), askers=1)
pixels = np.zeros((64, 64, 3), np.uint8)
pixels[:8, :8] = 255
[scored] = score_pictures(runtime, [Picture("a", "train", pixels)], DetectionOptions())
assert scored.scores.max() > 0.9, scored
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
