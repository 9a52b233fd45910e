"""Importing a module must start nothing: no connection, no model, no settings."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOUSES = (
    "shared",
    "gateway",
    "data_service",
    "inference_service",
    "labeling_service",
    "training_service",
    "calibration_service",
    "monitoring",
    "dashboard",
)
# Scripts that run on import, by their framework's design.
SCRIPTS = {"dashboard.app", "database.migrations.env"}

PROGRAM = """
import importlib, socket, sys

def refuse(*args, **kwargs):
    raise OSError(f"the network is blocked: {args}")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
for name in sys.stdin.read().split():
    importlib.import_module(name)
    print(name)
"""


def modules() -> list[str]:
    found = []
    for house in HOUSES:
        for path in sorted((ROOT / house).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name not in SCRIPTS and "tests" not in parts and "pages" not in parts:
                found.append(name)
    return found


def test_every_module_is_imported_with_the_network_blocked() -> None:
    wanted = modules()
    assert len(wanted) > 80
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(wanted),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == wanted
