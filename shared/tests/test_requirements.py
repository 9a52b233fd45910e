"""Each image installs what its code imports: the service declares it, or the shared package."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from shared.tests.stack_files import ROOT

SERVICES = (
    "gateway",
    "data_service",
    "inference_service",
    "labeling_service",
    "training_service",
    "calibration_service",
    "monitoring/evidently_service",
    "dashboard",
)
OURS = {service.split("/")[0] for service in SERVICES} | {"shared"}
# Comes with what is declared, and is part of its interface.
COMES_WITH = {
    "botocore": "boto3",
    "click": "typer",
    "kombu": "celery",
    "matplotlib": "ultralytics",
    "starlette": "fastapi",
    "typing_extensions": "pydantic",
}
# Run by developers, not by the service.
TOOLS = {"tests", "scripts", "screenshots.py"}
DISTRIBUTIONS = packages_distributions()


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in requirements)
    return {normalised(match[0]) for match in found if match}


def declared(service: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = (ROOT / service / "requirements.txt").read_text("utf-8").splitlines()
    return names(project["dependencies"]) | names(own)


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def source_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def third_party(service: str) -> dict[str, Path]:
    """Return each package that the service's code needs, and a file that imports it."""
    todo = [path for path in (ROOT / service).rglob("*.py") if not TOOLS & set(path.parts)]
    seen, found = set(todo), {}
    while todo:
        path = todo.pop()
        for module in imported_modules(path):
            package = module.split(".")[0]
            if package not in OURS:
                found[package] = path.relative_to(ROOT)
            elif (source := source_of(module)) and source not in seen:
                seen.add(source)
                todo.append(source)
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_declares_every_package_that_its_code_imports(service: str) -> None:
    known = declared(service)
    missing = []
    for package, path in third_party(service).items():
        installed_by = {normalised(name) for name in DISTRIBUTIONS.get(package, [package])}
        installed_by |= {COMES_WITH[package]} if package in COMES_WITH else set()
        if not installed_by & known:
            missing.append(f"{package} (imported by {path})")
    assert missing == []


@pytest.mark.parametrize("service", [*SERVICES, "mlflow_service"])
def test_every_requirement_has_a_lower_bound(service: str) -> None:
    lines = (ROOT / service / "requirements.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if line and ">=" not in line] == []
