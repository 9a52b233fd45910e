"""Files that lie elsewhere: downloaded once, whatever happens in between."""

import errno
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from data_service.app.core.images import (
    IMAGE_EXTENSIONS,
    UNSUPPORTED_EXTENSIONS,
    extension_of,
)
from data_service.app.core.ports import Bucket
from data_service.app.core.tree import LABEL_EXTENSIONS, suffix_of
from data_service.app.core.unpacking import Refused, raise_of_disk, rejection_of, safe_name
from shared.errors import AppError, BackendUnavailable
from shared.fetch import TRIES, Fetcher
from shared.models.data import Rejection

Progress = Callable[[float, str], None]

_THREADS = 8
_MAX_WAITING = 64
_LOOK_EVERY_S = 0.5
_RESERVE_BYTES = 1 << 30
_UNSAFE = re.compile(r"[^\w.\-]+")


@dataclass(frozen=True)
class Download:
    """One file.

    Attributes:
        name: what people call it.
        target: where it goes; an image gets the extension of its bytes, if `by_content`.
        write: writes it to a path.
        by_content: its own name says nothing about what it is.
    """

    name: str
    target: Path
    write: Callable[[Path], None]
    by_content: bool = False

    def is_there(self) -> bool:
        """Tell whether it came before."""
        if self.target.is_file():
            return True
        endings = IMAGE_EXTENSIONS if self.by_content else ()
        return any(self.target.with_suffix(ending).is_file() for ending in endings)

    def settled(self, written: Path) -> Path:
        """Return the target of what was written.

        Raises:
            Refused: its bytes are no image's, and its name is not one of labels.
        """
        if not self.by_content:
            return self.target
        with written.open("rb") as file:
            ending = extension_of(file.read(16))
        if ending:
            return self.target.with_suffix(ending)
        if self.target.suffix.lower() in LABEL_EXTENSIONS:
            return self.target
        raise Refused("unsupported", "neither an image that we read nor labels")


def of_addresses(lines: Iterable[str], fetcher: Fetcher, folder: Path) -> Iterator[Download]:
    """Yield a download for each line that is not empty; a file is named after its address."""
    for number, line in enumerate(lines, start=1):
        url = line.strip()
        if url:
            yield Download(
                url, folder / _file_name(number, url), _address(url, fetcher), by_content=True
            )


def of_bucket(
    bucket: Bucket, prefix: str, folder: Path, max_bytes: int
) -> Iterator[Download | Rejection]:
    """Yield a download for each object under a prefix, which keeps its path below it.

    Args:
        bucket: whose objects they are.
        prefix: of a folder or of one object.
        folder: where they go.
        max_bytes: of one file that is not labels; a larger one is not downloaded.

    Raises:
        BucketNotFound: there is no such bucket.
        BackendUnavailable: the store does not answer.
    """
    start = prefix.rfind("/") + 1
    folder_prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    for key, n_bytes in bucket.objects(prefix):
        # `photos` is not a prefix of `photos-private/`, though S3 thinks so.
        if key.endswith("/") or not (key == prefix or key.startswith(folder_prefix)):
            continue
        try:
            target = folder / safe_name(key[start:])
            _check_listed(key, n_bytes, max_bytes)
        except Refused as exc:
            yield rejection_of(key, exc.reason, exc.detail)
            continue
        yield Download(key, target, partial(bucket.download, key))


def _check_listed(key: str, n_bytes: int, max_bytes: int) -> None:
    """See that an object may be one that is read, before it is downloaded.

    Raises:
        Refused: it is not.
    """
    suffix = suffix_of(key)
    if suffix in UNSUPPORTED_EXTENSIONS:
        raise Refused("unsupported", "a kind of file that is not read")
    if suffix not in LABEL_EXTENSIONS and n_bytes > max_bytes:
        raise Refused("oversized", f"{n_bytes} bytes, the limit is {max_bytes}")


def download_all(
    downloads: Iterable[Download | Rejection], total: int | None, progress: Progress
) -> list[Rejection]:
    """Download what is not there yet, a few at a time, and return what did not come.

    Args:
        downloads: a rejection among them is returned too.
        total: how many there are, if that is known.
        progress: called as files come; what it raises stops the downloads.

    Raises:
        BackendUnavailable: a store does not answer; what came is kept.
        OSError: the disk is full.
    """
    rejected: list[Rejection] = []
    waiting: set[Future[Rejection | None]] = set()
    n_done = 0

    def collect(at_most: int) -> None:
        nonlocal waiting, n_done
        while len(waiting) > at_most:
            done, waiting = wait(waiting, _LOOK_EVERY_S, FIRST_COMPLETED)
            rejected.extend(found for future in done if (found := future.result()) is not None)
            n_done += len(done)
            share = n_done / total if total else 0.0
            progress(share, f"downloading: {n_done} of {total or 'many'} files")

    with ThreadPoolExecutor(_THREADS, "download") as pool:
        try:
            for each in downloads:
                if isinstance(each, Rejection):
                    rejected.append(each)
                    continue
                waiting.add(pool.submit(_download, each))
                collect(_MAX_WAITING)
            collect(0)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(rejected, key=lambda rejection: rejection.name)


def _download(each: Download) -> Rejection | None:
    # Seen by nobody before it is whole: hidden files are not read.
    beside = each.target.with_name(f".{each.target.name}.part")
    try:
        if each.is_there():
            return None
        each.target.parent.mkdir(parents=True, exist_ok=True)
        _require_space(each.target.parent)
        each.write(beside)
        beside.replace(each.settled(beside))
    except BackendUnavailable:
        raise
    except Refused as exc:
        beside.unlink()
        return rejection_of(each.name, exc.reason, exc.detail)
    except AppError as exc:
        beside.unlink(missing_ok=True)
        return rejection_of(each.name, "unreachable", str(exc))
    except OSError as exc:
        raise_of_disk(exc)
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        detail = f"the path cannot be written: {exc.strerror}"
        return rejection_of(each.name, "unsafe_path", detail)
    return None


def _require_space(folder: Path) -> None:
    """See that the disk is not about to be full: others write to it too.

    Raises:
        OSError: it is.
    """
    if shutil.disk_usage(folder).free < _RESERVE_BYTES:
        msg = f"less than {_RESERVE_BYTES >> 20} MiB are free"
        raise OSError(errno.ENOSPC, msg)


def _address(url: str, fetcher: Fetcher) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            fetcher.download(url, file, TRIES)

    return write


def _file_name(number: int, url: str) -> str:
    """Return a name that no other line has, and that still reminds of the address."""
    last = PurePosixPath(unquote(url.partition("?")[0])).name
    plain = _UNSAFE.sub("_", last).encode()[-100:].decode(errors="ignore").strip(".")
    return f"{number:06}-{plain or 'file'}"
