import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def secrets(folder: Path) -> str:
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "compose.sh", folder / "scripts")
    shutil.copy(ROOT / ".env.example", folder)
    subprocess.run(["bash", "scripts/compose.sh", "secrets"], cwd=folder, check=True)
    return (folder / ".env").read_text()


def test_every_empty_value_becomes_a_secret_of_its_own(tmp_path: Path) -> None:
    written = secrets(tmp_path)
    assert re.findall(r"^[A-Z_]+=$", written, re.MULTILINE) == []
    made = re.findall(r"^[A-Z0-9_]+=([0-9a-f]{64})$", written, re.MULTILINE)
    assert len(made) == len(set(made)) >= 5
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_secrets_are_made_once(tmp_path: Path) -> None:
    assert secrets(tmp_path) == secrets(tmp_path)


@pytest.mark.parametrize(
    ("in_file", "in_environment", "refused"),
    [("", None, False), ("0", None, True), ("2", None, False), ("2", "0", True), ("0", "3", False)],
)
def test_a_stack_without_an_inference_worker_is_not_started(
    in_file: str, in_environment: str | None, refused: bool, tmp_path: Path
) -> None:
    secrets(tmp_path)
    with (tmp_path / ".env").open("a") as file:
        file.write(f"FOVEA_API_KEY=x\nFOVEA_INFERENCE_WORKERS={in_file}\n")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text('#!/bin/sh\necho "$*" >> called\n')
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    environment.pop("FOVEA_INFERENCE_WORKERS", None)
    if in_environment is not None:
        environment["FOVEA_INFERENCE_WORKERS"] = in_environment
    command = ["bash", "scripts/compose.sh", "up"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    started = "compose up --build" in (tmp_path / "called").read_text()
    assert (done.returncode, started) == ((1, False) if refused else (0, True)), done.stderr
    assert ("FOVEA_INFERENCE_WORKERS must be 1 or more" in done.stderr) == refused
