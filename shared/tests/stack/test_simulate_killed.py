"""`fovea simulate`, killed with everything it started, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.kill, pytest.mark.timeout(1800)]
OPTIONS = (
    "--strategies", "entropy", "--seeds", "2", "--rounds", "1", "--start", "6", "--budget", "5",
    "--iterations", "6", "--image-size", "96",
)  # fmt: skip
N_CELLS = 5


def start(data: Path, output: Path, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "shared.cli.main", "simulate", "--data", str(data), *OPTIONS]
    with (output.parent / f"{output.name}.log").open("wb") as log:
        return subprocess.Popen([*command, "--output", str(output), *more], stdout=log)


def said(output: Path) -> str:
    return (output.parent / f"{output.name}.log").read_text()


def cells(output: Path) -> list[Path]:
    return sorted((output / "cells").glob("*.json"))


def kill_all(process: "subprocess.Popen[bytes]") -> int:
    """Kill a process and all below it, as a power cut would; return how many there were."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in tree:
        if each.is_running():
            os.kill(each.pid, signal.SIGKILL)
    process.wait()
    return len(tree)


def test_a_simulation_killed_while_it_reads_and_in_a_cell_goes_on_to_the_same_results(
    digits: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(digits, whole).wait() == 0
    killed = start(digits, cut)
    while "reading" not in said(cut):
        assert killed.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    assert kill_all(killed) > 10
    killed = start(digits, cut)
    while not cells(cut):
        assert killed.poll() is None
        time.sleep(0.1)
    # Into the next one.
    time.sleep(2)
    assert kill_all(killed) > 10
    n_before = len(cells(cut))
    assert 0 < n_before < N_CELLS
    assert start(digits, cut).wait() == 1
    assert start(digits, cut, "--resume").wait() == 0
    assert len(cells(cut)) == len(cells(whole)) == N_CELLS
    one, other = (json.loads((o / "results.json").read_bytes()) for o in (whole, cut))
    assert one == other
