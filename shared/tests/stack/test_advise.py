"""`fovea strategy advise`: a project's own labels, replayed on a stack beside its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli.data import ingest_path
from shared.client import GatewayClient
from shared.local.stack import EmbeddedStack
from shared.models.data import IngestionCreate, ProjectCreate

PROJECT = "advised"
pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(1500)]


def test_labels_of_a_project_are_replayed_and_the_advice_is_kept_with_it(
    stack: EmbeddedStack, client: GatewayClient, digits: Path, tmp_path: Path
) -> None:
    client.create_project(ProjectCreate(name=PROJECT))
    ingest_path(client, PROJECT, digits, IngestionCreate())
    before = {project.name for project in client.projects()}
    options = ("--strategies", "entropy", "--seeds", "1", "--iterations", "4", "--image-size", "96")
    advise = ("strategy", "advise", "-p", PROJECT, *options, "--output", str(tmp_path))
    env = {**os.environ, "FOVEA_STATE_DIR": str(stack.state), "COLUMNS": "200"}
    # With it a pipe is taken for a terminal, where a bar stands in place of lines.
    env.pop("FORCE_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli.main", *advise],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 cells done; entropy-" in done.stdout
    assert "advice: " in done.stdout
    assert "but 20 test images are few" in done.stdout
    (kept,) = client.simulations(PROJECT)
    assert kept.name == "advice-v1"
    assert {arm.name: [size.n_images for size in arm.sizes] for arm in kept.results.arms} == {
        "random": [5, 10, 15, 20, 25, 30],
        "entropy": [5, 10, 15, 20],
    }
    assert kept.results.advice.words in done.stdout.replace("\n", " ")
    assert {project.name for project in client.projects()} == before
    assert (tmp_path / f"{PROJECT}-v1" / "curves_images.png").stat().st_size > 10_000
