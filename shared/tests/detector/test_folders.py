"""A folder below /tmp is nobody else's."""

import stat
from pathlib import Path

import pytest

from shared.detector.folders import own_folder


def test_the_folder_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "own")
    (folder / "settings.json").write_text("{}")
    assert own_folder(folder) == folder
    assert (folder / "settings.json").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert stat.S_IMODE(own_folder(tmp_path / "open").stat().st_mode) == 0o700


def test_a_folder_that_another_user_made_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    mine = (tmp_path / "theirs").stat().st_uid
    monkeypatch.setattr("os.getuid", lambda: mine + 1)
    with pytest.raises(PermissionError, match=r"not a folder of this user: .*theirs"):
        own_folder(tmp_path / "theirs")


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    if kind == "link":
        (tmp_path / "own").symlink_to(tmp_path / "real")
    else:
        (tmp_path / "own").touch()
    with pytest.raises(PermissionError, match=r"not a folder of this user: .*own"):
        own_folder(tmp_path / "own")
