import re
from pathlib import Path

import pytest

from dashboard.screenshots import BROWSERS, installed_browser

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "system-packages.sh"


def test_the_browsers_are_those_that_the_setup_of_the_tests_is_content_with() -> None:
    looks = SCRIPT.read_text("utf-8").split("has_browser() {")[1].split("}")[0]
    assert tuple(re.findall(r"command -v (\S+)", looks)) == BROWSERS


@pytest.mark.parametrize("name", BROWSERS)
def test_a_browser_is_found_by_any_of_its_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_browser() is None
    (tmp_path / name).touch(mode=0o755)
    assert installed_browser() == str(tmp_path / name)
