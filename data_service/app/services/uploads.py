"""Uploads: bytes that wait in the object store for their ingestion."""

import uuid
from pathlib import PurePosixPath
from typing import BinaryIO

from sqlalchemy import delete

from data_service.app.models.tables import UploadRow
from data_service.app.services.projects import require_project
from shared.database import Database
from shared.errors import NotFound
from shared.models.data import Upload
from shared.objects.port import ObjectStore


class UnknownUpload(NotFound):
    """The project has no upload with this id."""


def save_upload(
    database: Database, store: ObjectStore, project: str, file: BinaryIO, name: str
) -> Upload:
    """Store an upload.

    Args:
        database: where it is recorded.
        store: where its bytes go.
        project: it is for.
        file: seekable, at any position.
        name: the file's name at the caller's, if known; only its last part is kept.

    Raises:
        UnknownProject: no project has this name.
    """
    upload_id = uuid.uuid4().hex
    key = _key(project, upload_id)
    with database.transaction() as session:
        require_project(session, project)
    n_bytes = file.seek(0, 2)
    file.seek(0)
    store.put(key, file)
    base = PurePosixPath(name.replace("\\", "/").replace("\0", "")).name
    # A file system counts bytes.
    base = base.encode()[-200:].decode(errors="ignore")
    row = UploadRow(
        id=upload_id, project=project, name=base or f"upload-{upload_id}", n_bytes=n_bytes, key=key
    )
    with database.transaction() as session:
        session.add(row)
    return Upload(upload_id=upload_id, n_bytes=n_bytes)


def require_upload(database: Database, project: str, upload_id: str) -> UploadRow:
    """Return an upload's row.

    Raises:
        UnknownUpload: the project has no upload with this id.
    """
    with database.transaction() as session:
        row = session.get(UploadRow, upload_id)
    if row is None or row.project != project:
        msg = f"unknown upload: {upload_id!r}"
        raise UnknownUpload(msg)
    return row


def discard_upload(database: Database, store: ObjectStore, project: str, upload_id: str) -> None:
    """Remove an upload whose ingestion is over; one that is gone already is fine."""
    # The row last: killed in between, the next call still finds it.
    store.delete(_key(project, upload_id))
    with database.transaction() as session:
        session.execute(
            delete(UploadRow).where(UploadRow.id == upload_id, UploadRow.project == project)
        )


def _key(project: str, upload_id: str) -> str:
    return f"projects/{project}/uploads/{upload_id}"
