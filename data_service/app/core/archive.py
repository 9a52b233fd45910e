"""Unpacking of archives that nobody vouches for."""

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shared.models.data import Rejection, RejectionReason

_CHUNK = 1 << 20
_MAX_ENTRIES = 1_000_000
# Pictures hardly shrink and text shrinks some twentyfold: measured on what comes out, not on what
# the header says.
_MAX_RATIO = 200
_RATIO_FROM_BYTES = 4 << 20
# What zipfile and the decoders behind it raise on bytes that are broken, or of a later version.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, ValueError, EOFError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
# The disk's fault, not the archive's.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_DIRECTORY_ENTRY = b"PK\x01\x02"
_DIRECTORY_ENTRY_BYTES = 46
_NAME_IS_UTF8 = 0x800


class _Refused(Exception):
    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: RejectionReason = reason
        self.detail = detail


@dataclass
class _Budget:
    limit: int
    used: int = 0

    def spend(self, n_bytes: int) -> None:
        self.used += n_bytes
        if self.used > self.limit:
            detail = f"the archive unpacks to more than {self.limit} bytes"
            raise _Refused("archive_bomb", detail)


def unpack(archive: BinaryIO, target: Path, max_bytes: int) -> list[Rejection]:
    """Unpack a zip into an empty folder and return what was left out.

    Entries that climb out, are absolute, links, encrypted, broken or bombs are left out one by
    one; once `max_bytes` are written the rest is left out too.

    Args:
        archive: of the zip, seekable.
        target: folder that exists and is empty.
        max_bytes: that all entries together may unpack to.

    Raises:
        OSError: the disk is full or broken.
    """
    rejected: list[Rejection] = []
    budget = _Budget(max_bytes)
    try:
        with zipfile.ZipFile(cast(BinaryIO, _Directory(archive))) as opened:
            opened.fp = archive
            for i, info in enumerate(opened.infolist()):
                if info.is_dir():
                    continue
                if budget.used > budget.limit or i >= _MAX_ENTRIES:
                    left = len(opened.infolist()) - i
                    detail = f"not unpacked, nor {left - 1} entries after it: limit reached before"
                    rejected.append(_rejection(info.filename, "archive_bomb", detail))
                    break
                try:
                    _unpack_entry(opened, info, target, budget)
                except _Refused as exc:
                    rejected.append(_rejection(info.filename, exc.reason, exc.detail))
    except _BROKEN as exc:
        _raise_of_disk(exc)
        rejected.append(_rejection("archive", "unreadable", f"no readable zip: {exc}"))
    return rejected


class _Directory:
    """An archive while its directory is read.

    zipfile refuses the whole archive when one name says that it is UTF-8 and is not. Here such
    a name reads with `?`; its entry alone is refused, since the name stands before its data too.
    """

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self.seek = archive.seek
        self.tell = archive.tell

    def read(self, n_bytes: int = -1) -> bytes:
        data = self._archive.read(n_bytes)
        return _with_readable_names(data) if data.startswith(_DIRECTORY_ENTRY) else data


def _with_readable_names(directory: bytes) -> bytes:
    data = bytearray(directory)
    at = 0
    while data.startswith(_DIRECTORY_ENTRY, at) and at + _DIRECTORY_ENTRY_BYTES <= len(data):
        (flags,) = struct.unpack_from("<H", data, at + 8)
        n_name, n_extra, n_comment = struct.unpack_from("<3H", data, at + 28)
        start = at + _DIRECTORY_ENTRY_BYTES
        name = data[start : start + n_name]
        if flags & _NAME_IS_UTF8 and not _is_utf8(name):
            data[start : start + n_name] = (
                name.decode("ascii", "replace").replace("\ufffd", "?").encode()
            )
        at = start + n_name + n_extra + n_comment
    return bytes(data)


def _is_utf8(name: bytes | bytearray) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _raise_of_disk(exc: Exception) -> None:
    if isinstance(exc, OSError) and exc.errno in _OF_THE_DISK:
        raise exc


def _unpack_entry(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, budget: _Budget
) -> None:
    path = target / _safe_name(info)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except FileExistsError as exc:
        raise _Refused("unsafe_path", "the archive has this path twice") from exc
    except OSError as exc:
        _raise_of_disk(exc)
        raise _Refused("unsafe_path", f"the path cannot be written: {exc.strerror}") from exc
    try:
        with path.open("wb") as file:
            _copy(opened, info, file, budget)
    except _BROKEN as exc:
        _raise_of_disk(exc)
        path.unlink(missing_ok=True)
        raise _Refused("unreadable", f"broken entry: {exc}") from exc
    except _Refused:
        path.unlink(missing_ok=True)
        raise


def _safe_name(info: zipfile.ZipInfo) -> str:
    name = info.filename.replace("\\", "/")
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise _Refused("link", "a symbolic link")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise _Refused("link", "not a plain file")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise _Refused("unsafe_path", "an absolute path")
    if ".." in name.split("/"):
        raise _Refused("unsafe_path", "the path climbs out by '..'")
    if info.flag_bits & 0x1:
        raise _Refused("unsupported", "encrypted")
    return name


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO, budget: _Budget) -> None:
    written = 0
    with opened.open(info) as source:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > _RATIO_FROM_BYTES and written > _MAX_RATIO * max(info.compress_size, 1):
                detail = f"unpacks to more than {_MAX_RATIO} times its {info.compress_size} bytes"
                raise _Refused("archive_bomb", detail)
            budget.spend(len(chunk))
            file.write(chunk)


def _rejection(name: str, reason: RejectionReason, detail: str) -> Rejection:
    printable = name.encode("utf-8", "replace").decode()
    return Rejection(name=printable, reason=reason, detail=detail)
