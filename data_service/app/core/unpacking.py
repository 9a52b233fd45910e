"""What holds for every archive that nobody vouches for, zip or tar."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from shared.models.data import Rejection, RejectionReason

MAX_ENTRIES = 1_000_000
# Pictures hardly shrink and text shrinks some twentyfold: measured on what comes out, not on what
# the header says.
MAX_RATIO = 200
RATIO_FROM_BYTES = 4 << 20
_CHUNK = 1 << 20
# The disk's fault, not the archive's.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class Refused(Exception):
    """An entry that is not unpacked, and why."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        """Refuse it for `reason`."""
        super().__init__(detail)
        self.reason: RejectionReason = reason
        self.detail = detail


@dataclass
class Budget:
    """How many bytes all entries together may unpack to."""

    limit: int
    used: int = 0

    @property
    def spent(self) -> bool:
        """Tell whether nothing more may be unpacked."""
        return self.used > self.limit

    def spend(self, n_bytes: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            Refused: they are too many.
        """
        self.used += n_bytes
        if self.spent:
            detail = f"the archive unpacks to more than {self.limit} bytes"
            raise Refused("archive_bomb", detail)


def safe_name(given: str) -> str:
    """Return an entry's path, to be joined to a folder.

    Raises:
        Refused: it is absolute or climbs out.
    """
    name = given.replace("\\", "/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise Refused("unsafe_path", "an absolute path")
    if ".." in name.split("/"):
        raise Refused("unsafe_path", "the path climbs out by '..'")
    return name


@contextmanager
def new_file(path: Path, broken: tuple[type[Exception], ...]) -> Iterator[BinaryIO]:
    """Yield a file to unpack an entry into; if that fails, the file is gone.

    Args:
        path: of the file; its folder is made.
        broken: what reading a broken entry raises.

    Raises:
        Refused: the path is there already or cannot be written, or the entry is broken.
        OSError: the disk is full or broken.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError) as exc:
        raise Refused("unsafe_path", _clash(path)) from exc
    except OSError as exc:
        raise_of_disk(exc)
        raise Refused("unsafe_path", f"the path cannot be written: {exc.strerror}") from exc
    try:
        with path.open("wb") as file:
            yield file
    except broken as exc:
        raise_of_disk(exc)
        path.unlink(missing_ok=True)
        raise Refused("unreadable", f"broken entry: {exc}") from exc
    except Refused:
        path.unlink(missing_ok=True)
        raise


def _clash(path: Path) -> str:
    if path.is_file():
        return "the archive has this path twice"
    if path.is_dir():
        return "the archive has a folder of this path too"
    return "a folder of this path is a file in the archive"


def copy_entry(
    source: IO[bytes], file: BinaryIO, budget: Budget, n_packed: int | None = None
) -> None:
    """Copy an entry's bytes.

    Args:
        source: unpacks it.
        file: takes it.
        budget: of the whole archive.
        n_packed: its packed size, where it is packed alone.

    Raises:
        Refused: it unpacks to far more than was packed, or the budget is spent.
    """
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if n_packed is not None and written > max(RATIO_FROM_BYTES, MAX_RATIO * n_packed):
            detail = f"unpacks to more than {MAX_RATIO} times its {n_packed} bytes"
            raise Refused("archive_bomb", detail)
        budget.spend(len(chunk))
        file.write(chunk)


def raise_of_disk(exc: Exception) -> None:
    """Raise an error again that is the disk's fault."""
    if isinstance(exc, OSError) and exc.errno in _OF_THE_DISK:
        raise exc


def rejection_of(name: str, reason: RejectionReason, detail: str) -> Rejection:
    """Return the rejection of an entry, whatever its name holds."""
    printable = name.encode("utf-8", "replace").decode()
    return Rejection(name=printable, reason=reason, detail=detail)
