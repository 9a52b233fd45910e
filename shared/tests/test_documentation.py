"""The README must keep up with the commands."""

import re
from pathlib import Path

import typer

from shared.cli.main import app

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(commands()) > 15
    assert [name for name in commands() if f"`fovea {name}" not in readme] == []


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(
        re.findall(r"(?:^ *|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    assert {"demo", "test", "local", "up", "down", "train", "calibrate"} <= named
    assert [target for target in named if f"\n{target}:" not in makefile] == []


def test_both_pages_name_the_same_system() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        assert "Linux on x86-64 with Python 3.11" in text
        assert "macOS" not in text


def test_only_two_services_and_what_both_use_know_ultralytics() -> None:
    knows = re.compile(r"^ *(from|import) (ultralytics|shared\.detector)\b", re.MULTILINE)
    folders = {
        "/".join(path.relative_to(ROOT).parts[: 2 if path.is_relative_to(ROOT / "shared") else 1])
        for path in ROOT.glob("[a-z]*/**/*.py")
        if "tests" not in path.parts and knows.search(path.read_text("utf-8"))
    }
    assert folders == {"inference_service", "training_service", "shared/detector"}


def test_pictures_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    pictures = [part.split(")")[0] for part in readme.split("](")[1:] if ".png" in part[:80]]
    assert len(pictures) >= 4
    assert [p for p in pictures if not (ROOT / p).is_file()] == []
