"""Folders as they lie on disks: links, names in old encodings, files that cannot be read."""

import os
import zipfile
from pathlib import Path

from shared.cli.packing import pack, read_folder
from shared.models.data import Rejection


def names_in(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_an_empty_folder_is_an_empty_zip(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    folder = read_folder(root)
    pack(folder, tmp_path / "set.zip")
    assert (folder.sizes, folder.rejected, names_in(tmp_path / "set.zip")) == ({}, [], [])


def test_plain_files_are_packed_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "images" / "é.png").write_bytes(b"picture")
    (root / "data.yaml").write_bytes(b"names")
    os.utime(root / "data.yaml", (0, 0))  # before the first date a zip can hold
    folder = read_folder(root)
    pack(folder, tmp_path / "set.zip")
    assert folder.sizes == {root / "data.yaml": 5, root / "images" / "é.png": 7}
    assert folder.rejected == []
    with zipfile.ZipFile(tmp_path / "set.zip") as opened:
        assert {n: opened.read(n) for n in opened.namelist()} == {
            "data.yaml": b"names",
            "images/é.png": b"picture",
        }


def test_links_and_other_things_that_are_no_files_are_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.png").write_bytes(b"a")
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(root / "pipe")
    folder = read_folder(root)
    pack(folder, tmp_path / "set.zip")
    assert names_in(tmp_path / "set.zip") == ["a.png"]
    assert folder.rejected == [
        Rejection(name="file", reason="link", detail="a symbolic link"),
        Rejection(name="folder", reason="link", detail="a symbolic link"),
        Rejection(name="nowhere", reason="link", detail="a symbolic link"),
        Rejection(name="pipe", reason="link", detail="not a plain file"),
    ]


def test_a_name_that_is_not_utf8_is_named_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for name in (b"caf\xe9.png", b"tea.png"):
        (root / os.fsdecode(name)).write_bytes(b"picture")
    folder = read_folder(root)
    pack(folder, tmp_path / "set.zip")
    assert names_in(tmp_path / "set.zip") == ["tea.png"]
    assert folder.rejected == [
        Rejection(name="caf?.png", reason="unreadable", detail="the name is not UTF-8")
    ]
    assert folder.rejected[0].model_dump_json()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_packed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (root / name).write_bytes(b"picture")
    folder = read_folder(root)
    (root / "b.png").unlink()
    pack(folder, tmp_path / "set.zip")
    assert names_in(tmp_path / "set.zip") == ["a.png", "c.png"]
    detail = "FileNotFoundError: No such file or directory"
    assert folder.rejected == [Rejection(name="b.png", reason="unreadable", detail=detail)]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    folder = read_folder(tmp_path / "gone")
    detail = "FileNotFoundError: No such file or directory"
    assert folder.rejected == [Rejection(name=".", reason="unreadable", detail=detail)]
