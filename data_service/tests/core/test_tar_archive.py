import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from data_service.app.core.tar_archive import is_tar, unpack_tar

_MIB = 1 << 20


def entry(name: str, data: bytes = b"good", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data) if kind == tarfile.REGTYPE else 0, kind
    info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return info


def packed(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            archive.addfile(entry(name, data), io.BytesIO(data))
    return buffer.getvalue()


def unpacked(data: bytes, target: Path, limit: int = 64 * _MIB) -> list[tuple[str, str, str]]:
    target.mkdir()
    rejected = unpack_tar(io.BytesIO(data), target, limit)
    return [(r.name, r.reason, r.detail) for r in rejected]


@pytest.mark.parametrize(
    ("mode", "name"),
    [("w", "a.tar"), ("w:gz", "a.tar.gz"), ("w:gz", "a.tgz"), ("w:bz2", "a.tbz2"),
     ("w:xz", "a.tar.xz")],
)  # fmt: skip
def test_every_kind_of_tar_is_known_and_unpacked(tmp_path: Path, mode: str, name: str) -> None:
    files = {"images/kühe.png": b"1" * 5000, "labels/" + "long/" * 40 + "a.txt": b"2"}
    data = packed(files, mode)
    assert is_tar(io.BytesIO(data), name)
    assert unpacked(data, tmp_path / "t") == []
    for path, content in files.items():
        assert (tmp_path / "t" / path).read_bytes() == content


def test_what_is_no_tar_is_not_taken_for_one() -> None:
    assert not is_tar(io.BytesIO(b""), "a.tar")
    assert not is_tar(io.BytesIO(b"\x89PNG" * 200), "a.png")
    assert not is_tar(io.BytesIO(packed({"a": b""}, "w:gz")), "image.gz")


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("../out.txt", "the path climbs out by '..'"),
        ("a/../../out.txt", "the path climbs out by '..'"),
        ("/etc/out.txt", "an absolute path"),
        ("C:/out.txt", "an absolute path"),
    ],
)
def test_an_unsafe_path_is_left_out_and_the_rest_comes(
    tmp_path: Path, name: str, detail: str
) -> None:
    data = packed({name: b"bad", "good.txt": b"good"})
    assert unpacked(data, tmp_path / "t") == [(name, "unsafe_path", detail)]
    assert (tmp_path / "t" / "good.txt").read_bytes() == b"good"
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "not a plain file"),
        (tarfile.CHRTYPE, "not a plain file"),
    ],
)
def test_what_is_no_plain_file_is_left_out(tmp_path: Path, kind: bytes, detail: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry("x.png", kind=kind))
        archive.addfile(entry("good.txt"), io.BytesIO(b"good"))
    assert unpacked(buffer.getvalue(), tmp_path / "t") == [("x.png", "link", detail)]
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["good.txt"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_unpacks_a_thousandfold_is_a_bomb(tmp_path: Path, mode: str) -> None:
    data = packed({"good.txt": b"good", "bomb.txt": bytes(256 * _MIB)}, mode)
    tracemalloc.start()
    [(name, reason, detail)] = unpacked(data, tmp_path / "t", 1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (name, reason) == ("bomb.txt", "archive_bomb")
    assert detail.startswith("unpacks to more than 200 times its ")
    assert detail.endswith("; nothing after it is read")
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["good.txt"]
    assert peak < 16 * _MIB


def test_what_is_skipped_is_counted_too(tmp_path: Path) -> None:
    data = packed({"../skipped.txt": bytes(256 * _MIB)}, "w:gz")
    [first, (_, reason, _)] = unpacked(data, tmp_path / "t", 1 << 30)
    assert (first[1], reason) == ("unsafe_path", "archive_bomb")


def test_an_archive_over_its_total_is_stopped(tmp_path: Path) -> None:
    data = packed({f"{n}.txt": bytes([n]) * 100 for n in range(5)})
    [(name, reason, detail)] = unpacked(data, tmp_path / "t", 250)
    assert (name, reason) == ("2.txt", "archive_bomb")
    assert detail == "the archive unpacks to more than 250 bytes; nothing after it is read"
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["0.txt", "1.txt"]


def test_the_same_path_twice_is_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for data in (b"1", b"2"):
            archive.addfile(entry("a.txt", data), io.BytesIO(data))
    expected = [("a.txt", "unsafe_path", "the archive has this path twice")]
    assert unpacked(buffer.getvalue(), tmp_path / "t") == expected
    assert (tmp_path / "t" / "a.txt").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("first", "second", "detail"),
    [
        ("x", "x/y.jpg", "a folder of this path is a file in the archive"),
        ("x", "x/y/z.jpg", "a folder of this path is a file in the archive"),
        ("x/y.jpg", "x", "the archive has a folder of this path too"),
    ],
)
def test_a_path_that_is_a_file_and_a_folder_is_said_to_be_so(
    tmp_path: Path, first: str, second: str, detail: str
) -> None:
    data = packed({first: b"1", second: b"2"})
    assert unpacked(data, tmp_path / "t") == [(second, "unsafe_path", detail)]
    assert (tmp_path / "t" / first).read_bytes() == b"1"


def test_a_tar_from_before_posix_is_unpacked(tmp_path: Path) -> None:
    data = old(packed({"a.txt": b"old"}))
    assert is_tar(io.BytesIO(data), "a.tar")
    assert unpacked(data, tmp_path / "t") == []
    assert (tmp_path / "t" / "a.txt").read_bytes() == b"old"
    assert not is_tar(io.BytesIO(b"b" + data[1:]), "a.tar")


def old(data: bytes) -> bytes:
    """Return a tar of one file without what POSIX added to its header."""
    header = bytearray(data[:257].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_half_an_archive_gives_what_is_whole_and_says_so(tmp_path: Path, mode: str) -> None:
    noise = [bytes((n * i * 7919 >> 3) % 256 for i in range(60_000)) for n in (1, 3)]
    data = packed({"a.bin": noise[0], "b.bin": noise[1]}, mode)
    rejected = unpacked(data[: len(data) - 30_000], tmp_path / "t")
    assert next(reason for _, reason, _ in rejected) == "unreadable"
    assert {p.name for p in (tmp_path / "t").iterdir()} <= {"a.bin"}


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        header(tarfile.GNUTYPE_LONGNAME, 1 << 40) + bytes(4096),
        header(tarfile.GNUTYPE_SPARSE, 512) + bytes(4096),
        header(tarfile.GNUTYPE_SPARSE, 512)[:500],
        header(tarfile.XGLTYPE, 512) + b"20 comment=aaaaaaaa\n".ljust(512, b"\0") + bytes(1024),
        (header(tarfile.GNUTYPE_LONGNAME, 5) + b"name\0".ljust(512, b"\0")) * 2000,
    ],
    ids=["huge", "sparse", "cut", "global", "chain"],
)
def test_headers_that_ask_for_too_much_are_refused(tmp_path: Path, data: bytes) -> None:
    [(name, reason, _)] = unpacked(data, tmp_path / "t")
    assert (name, reason) == ("archive", "unreadable")


def test_a_map_of_holes_in_attributes_is_refused(tmp_path: Path) -> None:
    info = entry("holes.bin", b"x" * 512)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "holes.bin",
        "GNU.sparse.realsize": "512",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"1\n0\n512\n".ljust(512, b"\0")))
    [(_, reason, detail)] = unpacked(buffer.getvalue(), tmp_path / "t")
    assert (reason, detail) == ("unreadable", "no readable tar: a file with holes")
