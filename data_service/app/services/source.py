"""Where an ingestion reads from: files on the server, uploaded, or downloaded from elsewhere."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_service.app.core.images import extension_of, max_file_bytes
from data_service.app.core.ports import Bucket
from data_service.app.core.tar_archive import is_tar, packing_of, unpack_tar
from data_service.app.core.tree import FileTree, read_tree, suffix_of
from data_service.app.core.zip_archive import unpack_zip
from data_service.app.models.tables import UploadRow
from data_service.app.services.remote import Progress, download_all, of_addresses, of_bucket
from data_service.app.services.uploads import require_upload
from shared.database import Database
from shared.errors import BadRequest, Forbidden, NotFound
from shared.fetch import Fetcher
from shared.models.data import IngestionCreate, Rejection
from shared.objects.port import ObjectStore
from shared.settings import Settings

_MIB = 1024 * 1024
_SOURCES = ("path", "upload_id", "urls_upload_id", "s3")
# Of the largest upload: what an archive may unpack to.
_UNPACK_FACTOR = 4
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".txz", ".gz", ".xz", ".bz2"})


class UnknownPath(NotFound):
    """Nothing is there."""


@dataclass(frozen=True)
class Source:
    """Files to read, and what had to be left out already.

    Attributes:
        place: `under` a folder or prefix, or `in` a file, as people call it.
        tree: the files.
        rejected: what was left out.
    """

    place: str
    tree: FileTree
    rejected: tuple[Rejection, ...]


def check_request(
    settings: Settings, database: Database, project: str, request: IngestionCreate
) -> None:
    """Refuse a request that no worker could serve.

    Raises:
        BadRequest: not exactly one source, or an address that is none of S3.
        Forbidden: the path or address is not under an allowed one.
        UnknownPath: nothing is there.
        UnknownUpload: the project has no such upload.
    """
    given = [name for name in _SOURCES if getattr(request, name) is not None]
    if len(given) != 1:
        msg = f"an ingestion needs one of {', '.join(_SOURCES)}: got {', '.join(given) or 'none'}"
        raise BadRequest(msg)
    if request.path is not None:
        allowed_path(settings, request.path)
    if request.s3 is not None:
        allowed_prefix(settings, request.s3)
    if upload_id := request.upload_id or request.urls_upload_id:
        require_upload(database, project, upload_id)


def allowed_path(settings: Settings, given: str) -> Path:
    """Return a server path, links followed, if it lies under an allowed root.

    Raises:
        Forbidden: it does not, or a link leads out.
        UnknownPath: no folder and no plain file is there.
    """
    msg = f"path is not under FOVEA_INGEST_ROOTS: {given!r}"
    if "\0" in given:
        raise Forbidden(msg)
    path = Path(given).resolve()
    if not any(path.is_relative_to(root) for root in settings.allowed_ingest_roots):
        raise Forbidden(msg)
    if not (path.is_dir() or path.is_file()):
        unknown = f"unknown path: {given!r}"
        raise UnknownPath(unknown)
    return path


def allowed_prefix(settings: Settings, given: str) -> tuple[str, str]:
    """Return bucket and prefix of an S3 address, if it lies under an allowed one.

    Raises:
        BadRequest: it is no such address.
        Forbidden: it does not.
    """
    scheme, _, rest = given.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket or not {".", ".."}.isdisjoint(prefix.split("/")):
        msg = f"not an address like s3://bucket/prefix: {given!r}"
        raise BadRequest(msg)
    if not any(_is_under(given, allowed) for allowed in settings.allowed_s3_prefixes):
        msg = f"address is not under FOVEA_INGEST_S3: {given!r}"
        raise Forbidden(msg)
    return bucket, prefix


def _is_under(given: str, allowed: str) -> bool:
    """Tell whether an address is an allowed one or goes on from it; `s3://ab` is not `s3://a`."""
    return given == allowed or given.startswith(allowed.rstrip("/") + "/")


@dataclass(frozen=True)
class Remote:
    """How files come that lie elsewhere."""

    fetcher: Fetcher
    bucket: Callable[[str], Bucket]


@dataclass(frozen=True)
class Reader:
    """What opening a source needs; `job_id` names the folder that files come into."""

    settings: Settings
    database: Database
    store: ObjectStore
    remote: Remote
    project: str
    job_id: str
    progress: Progress


@contextmanager
def open_source(reader: Reader, request: IngestionCreate) -> Iterator[Source]:
    """Yield the files of an ingestion; what is unpacked or downloaded is removed after.

    Downloads that came stay where they are when it fails, for the next attempt.

    Raises:
        BadRequest, Forbidden, UnknownPath, UnknownUpload: as `check_request`.
        BackendUnavailable: a store does not answer.
    """
    settings = reader.settings
    check_request(settings, reader.database, reader.project, request)
    if is_remote(request):
        work = _work_root(settings) / reader.job_id
        yield _downloaded(reader, request, work)
        shutil.rmtree(work, ignore_errors=True)
        return
    with _work_folder(settings, reader.job_id) as work:
        max_bytes = _UNPACK_FACTOR * settings.max_upload_mb * _MIB
        if request.upload_id is not None:
            upload = require_upload(reader.database, reader.project, request.upload_id)
            path = _local(reader.store, upload, work)
            yield _file_source(path, upload.name, work, max_bytes)
            return
        path = allowed_path(settings, request.path or "")
        if path.is_dir():
            tree, rejected = read_tree(path, settings.allowed_ingest_roots)
            yield Source(f"under {request.path}", tree, tuple(rejected))
        else:
            yield _file_source(path, path.name, work, max_bytes)


def clear_job(settings: Settings, job_id: str) -> None:
    """Remove what an ingestion that will not be tried again left behind."""
    shutil.rmtree(_work_root(settings) / job_id, ignore_errors=True)


def clear_work(settings: Settings, has_ended: Callable[[str], bool]) -> None:
    """Remove what ingestions that were killed left behind, of jobs that have ended."""
    for folder in _work_root(settings).glob("*"):
        if has_ended(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _work_folder(settings: Settings, job_id: str) -> Iterator[Path]:
    folder = _work_root(settings) / job_id
    # An attempt that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _work_root(settings: Settings) -> Path:
    return (settings.state_dir / "ingestions").resolve()


def _local(store: ObjectStore, upload: UploadRow, work: Path) -> Path:
    path = store.local_path(upload.key)
    if path is not None:
        return path
    target = work / "upload"
    with store.open(upload.key) as stream, target.open("wb") as file:
        shutil.copyfileobj(stream, file, _MIB)
    return target


def is_remote(request: IngestionCreate) -> bool:
    """Tell whether the files have to be downloaded first."""
    return request.urls_upload_id is not None or request.s3 is not None


def _downloaded(reader: Reader, request: IngestionCreate, work: Path) -> Source:
    files = work / "files"
    files.mkdir(parents=True, exist_ok=True)
    if request.s3 is not None:
        name, prefix = allowed_prefix(reader.settings, request.s3)
        place = f"under {request.s3}"
        max_bytes = max_file_bytes(reader.settings.max_image_megapixels)
        found = of_bucket(reader.remote.bucket(name), prefix, files, max_bytes)
        rejected = download_all(found, None, reader.progress)
    else:
        upload = require_upload(reader.database, reader.project, request.urls_upload_id or "")
        place = f"in {upload.name}"
        path = _local(reader.store, upload, work)
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            total = sum(bool(line.strip()) for line in lines)
            lines.seek(0)
            addresses = of_addresses(lines, reader.remote.fetcher, files)
            rejected = download_all(addresses, total, reader.progress)
    tree, more = read_tree(files, [files])
    return Source(place, tree, (*rejected, *more))


def _file_source(path: Path, name: str, work: Path, max_bytes: int) -> Source:
    files = work / "files"
    files.mkdir()
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head in _ZIP_MAGIC:
            rejected = unpack_zip(file, files, max_bytes)
        elif is_tar(file, name):
            rejected = unpack_tar(file, files, max_bytes)
        else:
            rejected = _single(file, files, name)
    tree, more = read_tree(files, [files])
    return Source(f"in {name}", tree, (*rejected, *more))


def _single(file: BinaryIO, files: Path, name: str) -> list[Rejection]:
    head = file.read(16)
    file.seek(0)
    if suffix_of(name) in _ARCHIVES:
        packing = packing_of(head)
        detail = (
            f"packed by {packing.program}: read if it is a tar called {packing.extension}"
            if packing
            else f"named {suffix_of(name)}, but is none"
        )
        return [Rejection(name=name, reason="unreadable", detail=detail)]
    if not suffix_of(name):
        extension = extension_of(head)
        if not extension:
            detail = "neither a zip, a tar nor an image we read"
            return [Rejection(name=name, reason="unsupported", detail=detail)]
        name += extension
    with (files / name).open("wb") as target:
        shutil.copyfileobj(file, target, _MIB)
    return []
