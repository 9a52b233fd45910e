import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference_service.scripts import bench_inference, bench_serving
from inference_service.scripts.bench_serving import median, ratios, share_of_same
from inference_service.scripts.bench_serving_load import Load, _Answered, _load
from shared.settings import load_settings

SYSTEMS = {"ultralytics_pytorch", "ultralytics_openvino", "fovea", "fovea_deterministic"}


def box(x: float, score: float = 0.9, class_id: int = 0) -> dict[str, Any]:
    return {"xyxy": [x, 0.1, x + 0.2, 0.3], "score": score, "class_id": class_id}


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([box(0.1), box(0.5)], 1.0),
        ([box(0.5, score=0.89), box(0.1)], 1.0),
        ([box(0.1), box(0.5, score=0.8)], 0.5),
        ([box(0.1), box(0.5, class_id=1)], 0.5),
        ([box(0.1), box(0.1)], 0.5),
        ([box(0.1), box(0.5), box(0.7), box(0.8)], 0.5),
        ([box(0.7), box(0.8)], 0.0),
        # Below the threshold nobody looks.
        ([box(0.1), box(0.5), box(0.7, score=0.1)], 1.0),
    ],
)
def test_boxes_are_the_same_by_place_score_and_class_and_each_once(
    found: list[dict[str, Any]], share: float
) -> None:
    assert share_of_same([[box(0.1), box(0.5)]], [found]) == share


def test_an_answer_counts_by_its_part_in_the_measurement_and_a_refusal_not_at_all() -> None:
    answered = [
        _Answered(at=11.0, seconds=2.0, busy=False),
        _Answered(at=12.0, seconds=1.0, busy=False),
        _Answered(at=12.5, seconds=0.1, busy=True),
        _Answered(at=15.0, seconds=2.0, busy=False),
        _Answered(at=9.0, seconds=1.0, busy=False),
    ]
    load = _load(answered, start=10.0, end=14.0)
    assert (load.rps, load.p50_ms, load.n_busy) == ((0.5 + 1 + 0.5) / 4, 1500.0, 1)


def test_the_median_of_repeats_is_what_is_compared() -> None:
    loads = [Load(10.0, 5.0, 9.0, 0), Load(30.0, 1.0, 2.0, 1), Load(20.0, 3.0, 4.0, 1)]
    assert median(loads) == Load(20.0, 3.0, 4.0, 2)
    by = dict.fromkeys(("fastapi", "litserve", "litserve_same_runtime"), Load(8.0, 1.0, 1.0, 0))
    assert ratios(by | {"fovea": median(loads)}) == dict.fromkeys(by, 2.5)


@pytest.mark.parametrize(
    ("main", "wrong"),
    [
        (bench_inference.main, ["--repeats", "0"]),
        (bench_inference.main, ["--images", "-5"]),
        (bench_serving.main, ["--seconds", "0"]),
        (bench_serving.main, ["--clients", "8", "0"]),
        (bench_serving.main, ["--engine", "abacus"]),
    ],
)
def test_wrong_numbers_are_refused_before_anything_is_measured(
    main: Callable[[], None],
    wrong: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *wrong])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.kill
def test_a_small_run_writes_what_was_measured(tmp_path: Path) -> None:
    several = load_settings().n_inference_workers > 1
    output = tmp_path / "new" / "inference.json"
    given = ["--images", "0" if several else "32", "--repeats", "1", "--output", str(output)]
    subprocess.run(
        [sys.executable, "-m", "inference_service.scripts.bench_inference", *given], check=True
    )
    report = json.loads(output.read_text())
    speed = {name: system["images_per_s"] for name, system in report["systems"].items()}
    assert set(speed) == SYSTEMS
    assert min(speed.values()) > 1
    assert report["systems"]["fovea"]["passes"] == 10
    for name in ("pytorch", "openvino"):
        over = speed["fovea"] / speed[f"ultralytics_{name}"]
        assert report[f"ratio_{name}"] == pytest.approx(over, abs=0.01)
    assert report["stochastic_share"] < 0.5
    assert isinstance(report["amx"], bool)
