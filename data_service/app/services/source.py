"""Where an ingestion reads from: a folder, zip or image on the server, or an upload."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_service.app.core.archive import unpack
from data_service.app.core.images import extension_of
from data_service.app.core.tree import FileTree, read_tree, suffix_of
from data_service.app.models.tables import UploadRow
from data_service.app.services.uploads import require_upload
from shared.database import Database
from shared.errors import BadRequest, Forbidden, NotFound
from shared.models.data import IngestionCreate, Rejection
from shared.objects.port import ObjectStore
from shared.settings import Settings

_MIB = 1024 * 1024
# Of the largest upload: what an archive may unpack to.
_UNPACK_FACTOR = 4
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


class UnknownPath(NotFound):
    """Nothing is there."""


@dataclass(frozen=True)
class Source:
    """Files to read, and what had to be left out already."""

    tree: FileTree
    rejected: tuple[Rejection, ...]


def check_request(
    settings: Settings, database: Database, project: str, request: IngestionCreate
) -> None:
    """Refuse a request that no worker could serve.

    Raises:
        BadRequest: not exactly one of path and upload.
        Forbidden: the path is not under an allowed root.
        UnknownPath: nothing is there.
        UnknownUpload: the project has no such upload.
    """
    if (request.path is None) == (request.upload_id is None):
        msg = "an ingestion needs either path or upload_id"
        raise BadRequest(msg)
    if request.path is not None:
        allowed_path(settings, request.path)
    if request.upload_id is not None:
        require_upload(database, project, request.upload_id)


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


@dataclass(frozen=True)
class Reader:
    """What opening a source needs; `job_id` names the folder that archives are unpacked into."""

    settings: Settings
    database: Database
    store: ObjectStore
    project: str
    job_id: str


@contextmanager
def open_source(reader: Reader, request: IngestionCreate) -> Iterator[Source]:
    """Yield the files of an ingestion; archives are unpacked into a folder that is removed after.

    Raises:
        BadRequest: not exactly one of path and upload.
        Forbidden: the path is not under an allowed root.
        UnknownPath: nothing is there.
        UnknownUpload: the project has no such upload.
    """
    settings = reader.settings
    check_request(settings, reader.database, reader.project, request)
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
            yield Source(tree, tuple(rejected))
        else:
            yield _file_source(path, path.name, work, max_bytes)


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


def _file_source(path: Path, name: str, work: Path, max_bytes: int) -> Source:
    files = work / "files"
    files.mkdir()
    with path.open("rb") as file:
        if file.read(4) in _ZIP_MAGIC:
            file.seek(0)
            rejected = unpack(file, files, max_bytes)
        else:
            file.seek(0)
            rejected = _single(file, files, name)
    tree, more = read_tree(files, [files])
    return Source(tree, (*rejected, *more))


def _single(file: BinaryIO, files: Path, name: str) -> list[Rejection]:
    head = file.read(16)
    file.seek(0)
    if suffix_of(name) == ".zip":
        return [Rejection(name=name, reason="unreadable", detail="named .zip, but is none")]
    if not suffix_of(name):
        extension = extension_of(head)
        if not extension:
            detail = "neither a zip nor an image we read"
            return [Rejection(name=name, reason="unsupported", detail=detail)]
        name += extension
    with (files / name).open("wb") as target:
        shutil.copyfileobj(file, target, _MIB)
    return []
