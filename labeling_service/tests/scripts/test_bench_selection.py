import json
from pathlib import Path

import numpy as np
import pytest

from labeling_service.app.core.strategies.kcenter import k_center
from labeling_service.scripts.bench_selection import FullSweeps, Shape, main, make_points, radius


@pytest.mark.parametrize("data", ["clusters", "gaussian"])
def test_a_small_run_writes_its_figures(tmp_path: Path, data: Shape) -> None:
    out = tmp_path / "bench" / "selection.json"
    sizes = ["--n", "3000", "--d", "16", "--k", "40", "--radius-n", "1000", "--repeats", "2"]
    main([*sizes, "--data", data, "--out", str(out)])
    report = json.loads(out.read_text())
    assert {"n", "d", "k", "seconds", "sweep_seconds", "ratio", "peak_mb", "radius_ratio"} <= set(
        report
    )
    assert (report["n"], report["d"], report["k"], report["data"]) == (3000, 16, 40, data)
    assert report["ratio"] == pytest.approx(report["seconds"] / report["sweep_seconds"])
    assert len(report["seconds_each"]) == len(report["sweep_seconds_each"]) == 2
    assert report["sweep_seconds"] == pytest.approx(sum(report["sweep_seconds_each"]))
    assert report["peak_mb"] > 10
    assert report["radius_ratio"] == pytest.approx(1.0, abs=1e-6)


def test_the_sweeps_are_the_plain_greedy() -> None:
    points = make_points(2000, 16, "clusters")
    picks = k_center(points, None, 50)
    sweeps = FullSweeps(points.astype(np.float64), int(picks.indices[0]))
    sweeps.run(20)
    sweeps.run(30)
    assert sweeps.rows == picks.indices.tolist()


def test_radius_is_the_largest_distance_to_the_nearest_chosen_row() -> None:
    points = np.array([[0, 0], [3, 4], [10, 0], [10, 1]], np.float32)
    assert radius(points, np.array([0, 2])) == pytest.approx(5.0)
