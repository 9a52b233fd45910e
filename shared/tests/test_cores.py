import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cores import usable_cores


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)))


def groups(folder: Path, files: dict[str, str], own: str = "0::/") -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("files", "own", "n"),
    [
        ({}, "0::/", 16),
        ({"cpu.max": "max 100000\n"}, "0::/", 16),
        ({"cpu.max": "200000 100000\n"}, "0::/", 2),
        ({"cpu.max": "150000 100000\n"}, "0::/", 2),
        ({"cpu.max": "10000 100000\n"}, "0::/", 1),
        ({"cpu.max": "3200000 100000\n"}, "0::/", 16),
        ({"pod/cpu.max": "400000 100000", "pod/one/cpu.max": "max 100000"}, "0::/pod/one\n", 4),
        ({"pod/cpu.max": "400000 100000"}, "0::/gone\n", 16),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/a", 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/a", 16),
    ],
)
def test_a_container_has_the_cores_of_its_limit(
    files: dict[str, str], own: str, n: int, tmp_path: Path
) -> None:
    assert usable_cores(*groups(tmp_path, files, own)) == n


def test_a_machine_without_cgroups_or_affinity_has_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert usable_cores(tmp_path, tmp_path / "own") == 6


def test_a_process_bound_to_one_core_counts_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from shared.cores import usable_cores; print(usable_cores())"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "1\n"
