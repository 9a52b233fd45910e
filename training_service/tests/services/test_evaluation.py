"""What the validator keeps."""

import itertools
from pathlib import Path

import pytest
import torch

from shared.detector.ultralytics_env import nms
from training_service.app.services.evaluation import PatientValidator


def test_slow_suppression_loses_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of every image of a batch come back though each takes a minute."""
    clock = itertools.count(step=60)
    monkeypatch.setattr(nms.time, "time", lambda: float(next(clock)))
    validator = PatientValidator(save_dir=tmp_path, args={"conf": 0.5, "model": "yolov8n.yaml"})
    scores = torch.zeros(3, 2, 1)
    scores[:, 1] = 0.9
    boxes = torch.tensor([[50.0], [50.0], [20.0], [20.0]]).expand(3, 4, 1)
    found = validator.postprocess(torch.cat([boxes, scores], dim=1))
    assert [len(image["bboxes"]) for image in found] == [1, 1, 1]
    assert [int(image["cls"][0]) for image in found] == [1, 1, 1]
