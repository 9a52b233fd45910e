import errno
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from data_service.app.core.zip_archive import unpack_zip
from data_service.tests.builders import zipped
from shared.models.data import Rejection

_MIB = 1 << 20


def unpacked(data: bytes, target: Path, limit: int = 64 * _MIB) -> list[tuple[str, str, str]]:
    target.mkdir()
    rejected: list[Rejection] = unpack_zip(io.BytesIO(data), target, limit)
    return [(r.name, r.reason, r.detail) for r in rejected]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("../out.txt", "the path climbs out by '..'"),
        ("a/../../out.txt", "the path climbs out by '..'"),
        ("..\\out.txt", "the path climbs out by '..'"),
        ("/etc/out.txt", "an absolute path"),
        ("C:/out.txt", "an absolute path"),
    ],
)
def test_an_unsafe_path_is_left_out_and_the_rest_comes(
    tmp_path: Path, name: str, detail: str
) -> None:
    data = zipped({name: b"bad", "good.txt": b"good"})
    assert unpacked(data, tmp_path / "t") == [(name, "unsafe_path", detail)]
    assert (tmp_path / "t" / "good.txt").read_bytes() == b"good"
    assert not (tmp_path / "out.txt").exists()


def test_a_link_is_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert unpacked(buffer.getvalue(), tmp_path / "t") == [("link.png", "link", "a symbolic link")]
    assert list((tmp_path / "t").iterdir()) == []


def test_an_entry_that_unpacks_a_thousandfold_is_a_bomb(tmp_path: Path) -> None:
    data = zipped({"bomb.txt": bytes(16 * _MIB), "good.txt": b"good"})
    [(name, reason, detail)] = unpacked(data, tmp_path / "t")
    assert (name, reason) == ("bomb.txt", "archive_bomb")
    assert detail.startswith("unpacks to more than 200 times its ")
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["good.txt"]


def test_an_archive_over_its_total_is_stopped(tmp_path: Path) -> None:
    data = zipped({f"{i}.bin": bytes([i]) * 600_000 for i in range(4)})
    assert unpacked(data, tmp_path / "t", _MIB) == [
        ("1.bin", "archive_bomb", "the archive unpacks to more than 1048576 bytes"),
        ("2.bin", "archive_bomb", "not unpacked, nor 1 entries after it: limit reached before"),
    ]


def test_the_same_path_twice_is_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "second")
    assert unpacked(buffer.getvalue(), tmp_path / "t") == [
        ("a.txt", "unsafe_path", "the archive has this path twice")
    ]
    assert (tmp_path / "t" / "a.txt").read_text() == "first"


def test_half_an_archive_is_unreadable(tmp_path: Path) -> None:
    data = zipped({"a.txt": b"x" * 1000})
    [(name, reason, detail)] = unpacked(data[: len(data) // 2], tmp_path / "t")
    assert (name, reason) == ("archive", "unreadable")
    assert detail.startswith("no readable zip: ")


def test_a_broken_entry_is_unreadable(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.bin": bytes(range(256)) * 40, "b.txt": b"good"}))
    data[60] ^= 0xFF
    [(name, reason, _)] = unpacked(bytes(data), tmp_path / "t")
    assert (name, reason) == ("a.bin", "unreadable")
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["b.txt"]


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_broken_entry_of_another_method_is_unreadable(tmp_path: Path, method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.bin", bytes(range(256)) * 40)
        archive.writestr("b.txt", b"good")
    data = bytearray(buffer.getvalue())
    data[40:60] = b"\xff" * 20
    [(name, reason, detail)] = unpacked(bytes(data), tmp_path / "t")
    assert (name, reason) == ("a.bin", "unreadable")
    assert detail.startswith("broken entry: ")
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["b.txt"]


def test_an_archive_of_a_later_version_is_unreadable(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"x"}))
    data[data.index(b"PK\x01\x02") + 6] = 99  # version needed to extract
    assert unpacked(bytes(data), tmp_path / "t") == [
        ("archive", "unreadable", "no readable zip: zip file version 9.9")
    ]


def test_a_name_that_only_says_it_is_utf8_costs_its_entry_alone(tmp_path: Path) -> None:
    names = ("a.txt", "b\u00e9d.txt", "c.txt", "d\u00e9\u00e9.txt", "\u00e9.txt")
    data = zipped(dict.fromkeys(names, b"good"))
    for broken, name in ((b"b\xff\xfed", "b\u00e9d"), (b"d\xff\xfe\xff\xfe", "d\u00e9\u00e9")):
        data = data.replace(name.encode(), broken)
    assert [(name, reason) for name, reason, _ in unpacked(data, tmp_path / "t")] == [
        ("b??d.txt", "unreadable"),
        ("d????.txt", "unreadable"),
    ]
    written = sorted(p.name for p in (tmp_path / "t").iterdir())
    assert written == ["a.txt", "c.txt", "\u00e9.txt"]


class _Failing(io.BytesIO):
    """Fails with an error of the disk once more than its directory is read."""

    def __init__(self, data: bytes, number: int) -> None:
        super().__init__(data)
        self._number = number

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == 0:
            raise OSError(self._number, os.strerror(self._number))
        return super().read(size)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_broken_is_not_the_archives_fault(
    tmp_path: Path, number: int
) -> None:
    data = zipped({"a.txt": b"good", "b.txt": b"good"})
    with pytest.raises(OSError, match=os.strerror(number)):
        unpack_zip(_Failing(data, number), tmp_path, _MIB)
