"""Unpacking of zips that nobody vouches for."""

import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from data_service.app.core.unpacking import (
    MAX_ENTRIES,
    Budget,
    Refused,
    copy_entry,
    new_file,
    raise_of_disk,
    rejection_of,
    safe_name,
)
from shared.models.data import Rejection

# What zipfile and the decoders behind it raise on bytes that are broken, or of a later version.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, ValueError, EOFError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
_DIRECTORY_ENTRY = b"PK\x01\x02"
_DIRECTORY_ENTRY_BYTES = 46
_NAME_IS_UTF8 = 0x800


def unpack_zip(archive: BinaryIO, target: Path, max_bytes: int) -> list[Rejection]:
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
    budget = Budget(max_bytes)
    try:
        with zipfile.ZipFile(cast(BinaryIO, _Directory(archive))) as opened:
            opened.fp = archive
            for i, info in enumerate(opened.infolist()):
                if info.is_dir():
                    continue
                if budget.spent or i >= MAX_ENTRIES:
                    left = len(opened.infolist()) - i
                    detail = f"not unpacked, nor {left - 1} entries after it: limit reached before"
                    rejected.append(rejection_of(info.filename, "archive_bomb", detail))
                    break
                try:
                    _unpack_entry(opened, info, target, budget)
                except Refused as exc:
                    rejected.append(rejection_of(info.filename, exc.reason, exc.detail))
    except _BROKEN as exc:
        raise_of_disk(exc)
        rejected.append(rejection_of("archive", "unreadable", f"no readable zip: {exc}"))
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


def _unpack_entry(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, budget: Budget
) -> None:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise Refused("link", "a symbolic link")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise Refused("link", "not a plain file")
    name = safe_name(info.filename)
    if info.flag_bits & 0x1:
        raise Refused("unsupported", "encrypted")
    with new_file(target / name, _BROKEN) as file, opened.open(info) as source:
        copy_entry(source, file, budget, info.compress_size)
