"""A folder as one zip to send; what cannot be sent is named and left out."""

import os
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.models.data import Rejection, RejectionReason

# Control characters, and what Python reads bytes as that are no UTF-8.
_NEVER_PRINTED = frozenset({"Cc", "Cs"})


@dataclass
class Folder:
    """What lies in a folder.

    Attributes:
        root: the folder.
        sizes: bytes of each plain file by its path, sorted.
        rejected: everything else, and what cannot be read; `pack` adds to it.
    """

    root: Path
    sizes: dict[Path, int] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)

    def reject(self, path: Path, reason: RejectionReason, detail: str) -> None:
        """Note one thing that is not sent, by a name that any report can hold."""
        name = printable(path.relative_to(self.root).as_posix())
        self.rejected.append(Rejection(name=name, reason=reason, detail=detail))


def read_folder(root: Path) -> Folder:
    """List a folder; links are never followed, for they would be sent as what they lead to."""
    folder = Folder(root)
    for path in sorted(_walk(folder)):
        try:
            found = path.lstat()
        except OSError as exc:
            folder.reject(path, "unreadable", _reason(exc))
            continue
        if stat.S_ISLNK(found.st_mode):
            folder.reject(path, "link", "a symbolic link")
        elif not stat.S_ISREG(found.st_mode):
            folder.reject(path, "link", "not a plain file")
        elif not is_utf8(str(path.relative_to(root))):
            folder.reject(path, "unreadable", "the name is not UTF-8")
        else:
            folder.sizes[path] = found.st_size
    return folder


def pack(folder: Folder, archive: Path) -> int:
    """Write the folder's plain files into a zip, and return how many they are.

    One that cannot be read is rejected instead.
    """
    n_packed = 0
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.sizes:
            try:
                name = path.relative_to(folder.root)
                entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                # All of it before the first byte is written: no entry is ever cut short.
                data = path.read_bytes()
            except OSError as exc:
                folder.reject(path, "unreadable", _reason(exc))
                continue
            file.writestr(entry, data)
            n_packed += 1
    return n_packed


def is_utf8(name: str) -> bool:
    """Tell whether a file's name is UTF-8; Python reads other bytes as lone surrogates."""
    return name.encode("utf-8", "replace").decode() == name


def printable(name: str) -> str:
    """Return a name of others with `?` for what is not UTF-8, or would command the terminal."""
    return "".join("?" if unicodedata.category(c) in _NEVER_PRINTED else c for c in name)


def _walk(folder: Folder) -> Iterator[Path]:
    def unreadable(exc: OSError) -> None:
        folder.reject(Path(exc.filename), "unreadable", _reason(exc))

    for parent, folders, files in os.walk(folder.root, onerror=unreadable):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from (Path(parent) / name for name in (*links, *files))


def _reason(exc: OSError) -> str:
    return f"{type(exc).__name__}: {exc.strerror}"
