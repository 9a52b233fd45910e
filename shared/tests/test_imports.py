"""Importing a module must start nothing: no connection, no model, no settings."""

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


COMMAND = """
import sys
before = set(sys.modules)
import shared.cli.main
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def installed_with(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that are required, and what they require."""
    found: set[str] = set()
    waiting = [Requirement(r) for r in requirements]
    while waiting:
        one = waiting.pop()
        found.add(canonicalize_name(one.name))
        for other in map(Requirement, requires(one.name) or ()):
            wanted = any(
                other.marker is None or other.marker.evaluate({"extra": extra})
                for extra in ("", *one.extras)
            )
            if wanted and canonicalize_name(other.name) not in found:
                waiting.append(other)
    return found


def test_the_command_needs_what_every_image_has_and_no_more() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], cwd=ROOT, capture_output=True, text=True, check=True
    )
    owners = packages_distributions()
    needed = {canonicalize_name(o) for name in done.stdout.split() for o in owners.get(name, ())}
    assert needed - installed_with(project["dependencies"]) == {"fovea"}


def test_nothing_is_installed_that_tells_others_of_its_use() -> None:
    # openvino sends an event at import when it finds this.
    assert find_spec("openvino_telemetry") is None
