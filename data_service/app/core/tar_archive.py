"""Unpacking of tars that nobody vouches for, plain or packed by gzip, bzip2 or xz."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, NoReturn, Self, cast

from data_service.app.core.unpacking import (
    MAX_ENTRIES,
    MAX_RATIO,
    RATIO_FROM_BYTES,
    Budget,
    Refused,
    copy_entry,
    new_file,
    raise_of_disk,
    rejection_of,
    safe_name,
)
from shared.models.data import Rejection

# Long names and attributes come as entries of their own, which are read into memory.
_MAX_HEADER_BYTES = 1 << 20
_HEADERS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
# Maps of holes, and attributes for all that follows: both grow without end.
_ENDLESS = frozenset({tarfile.GNUTYPE_SPARSE, tarfile.XGLTYPE})
# Recursion: one header for the next, a thousand times over.
_BROKEN = (
    tarfile.TarError, zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, IndexError,
    RecursionError,
)  # fmt: skip
_MAGIC_AT, _MAGIC = 257, b"ustar"
_HEADER_BYTES = 512
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
_PACKED_NAMES = (".tgz", ".tbz", ".tbz2", ".txz")
# Of an entry beside its bytes: its header, its long name, and what fills its last block.
_ENTRY_BYTES = 4096


@dataclass(frozen=True)
class Packing:
    """What packs a tar: the program, and what the tar is called then."""

    program: str
    extension: str


_PACKINGS = {
    _GZIP: Packing("gzip", ".tar.gz"),
    _BZIP2: Packing("bzip2", ".tar.bz2"),
    _XZ: Packing("xz", ".tar.xz"),
}


def packing_of(head: bytes) -> Packing | None:
    """Return what packed a file that begins so, if it may hold a tar."""
    return next((found for magic, found in _PACKINGS.items() if head.startswith(magic)), None)


def is_tar(file: BinaryIO, name: str) -> bool:
    """Tell whether a file is a tar, by its bytes; of a packed one the name must say so."""
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    file.seek(0)
    if packing_of(head):
        lower = name.lower()
        return ".tar." in lower or lower.endswith(_PACKED_NAMES)
    return head[_MAGIC_AT:].startswith(_MAGIC) or _is_header(head)


def _is_header(head: bytes) -> bool:
    """Tell whether a tar begins so: before POSIX it had no magic, but a sum over its header."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def unpack_tar(archive: BinaryIO, target: Path, max_bytes: int) -> list[Rejection]:
    """Unpack a tar into an empty folder and return what was left out, as `unpack_zip` does.

    Read once from start to end. The first bomb ends it, since what is skipped is unpacked too.

    Raises:
        OSError: the disk is full or broken.
    """
    rejected: list[Rejection] = []
    budget = Budget(max_bytes)
    name = "archive"
    stream = cast(BinaryIO, _Bounded(archive, max_bytes))
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as opened:
            for n_entries, member in enumerate(opened, start=1):
                # It would keep every header.
                opened.members = []  # type: ignore[attr-defined]
                name = member.name
                if n_entries > MAX_ENTRIES:
                    raise Refused("archive_bomb", f"more than {MAX_ENTRIES} entries")
                if member.isdir():
                    continue
                try:
                    source = _readable(opened, member)
                    with new_file(target / safe_name(name), _BROKEN) as file:
                        copy_entry(source, file, budget)
                except Refused as exc:
                    if exc.reason == "archive_bomb":
                        raise
                    rejected.append(rejection_of(name, exc.reason, exc.detail))
    except Refused as exc:
        detail = f"{exc.detail}; nothing after it is read"
        rejected.append(rejection_of(name, exc.reason, detail))
    except _BROKEN as exc:
        raise_of_disk(exc)
        rejected.append(rejection_of("archive", "unreadable", f"no readable tar: {exc}"))
    return rejected


class _Bounded:
    """The unpacked bytes of an archive, a few at a time, as long as they are in proportion."""

    def __init__(self, archive: BinaryIO, max_bytes: int) -> None:
        head = archive.read(len(_XZ))
        archive.seek(0)
        self._archive = archive
        self._stream = _unpacked(archive, head)
        self._limit = max_bytes + MAX_ENTRIES * _ENTRY_BYTES
        self._n_read = 0

    def read(self, n_bytes: int) -> bytes:
        """Return at most `n_bytes`.

        Raises:
            Refused: the archive unpacks to too much.
        """
        data = self._stream.read(n_bytes)
        self._n_read += len(data)
        n_packed = self._archive.tell()
        if self._n_read > max(RATIO_FROM_BYTES, MAX_RATIO * n_packed):
            detail = f"unpacks to more than {MAX_RATIO} times its {n_packed} bytes"
            raise Refused("archive_bomb", detail)
        if self._n_read > self._limit:
            raise Refused("archive_bomb", f"the archive unpacks to more than {self._limit} bytes")
        return data


def _unpacked(archive: BinaryIO, head: bytes) -> IO[bytes]:
    if head.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=archive))
    if head.startswith(_BZIP2):
        return bz2.BZ2File(archive)
    if head.startswith(_XZ):
        return lzma.LZMAFile(archive)
    return archive


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _ENDLESS:
            _refuse("a kind of header that is not read")
        if member.type in _HEADERS and member.size > _MAX_HEADER_BYTES:
            _refuse(f"a header of {member.size} bytes")
        return member

    # The three ways in which attributes describe holes; tarfile calls them by these names.
    def _proc_gnusparse_00(self, *_args: object) -> None:
        _refuse("a file with holes")

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _refuse(what: str) -> NoReturn:
    raise tarfile.ReadError(what)


def _readable(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if not member.isreg():
        kind = "a link" if member.issym() or member.islnk() else "not a plain file"
        raise Refused("link", kind)
    source = opened.extractfile(member)
    assert source is not None  # noqa: S101 - it is a plain file
    return source
