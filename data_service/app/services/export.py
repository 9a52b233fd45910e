"""A dataset version as a zip in a format that other tools read."""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sqlalchemy import select

from data_service.app.core.formats.detect import WRITERS, ExportFormat
from data_service.app.core.formats.parsed import ExportItem, unique_names
from data_service.app.models.tables import ImageRow
from data_service.app.services.versions import chunks, get_manifest
from shared.database import Database
from shared.models.data import DatasetManifest, ManifestItem
from shared.objects.port import ObjectStore

_CHUNK = 1 << 20


def export_version(
    database: Database, store: ObjectStore, project: str, version: int, kind: ExportFormat
) -> Path:
    """Write a dataset version into a temporary zip, which the caller removes.

    The images go in as the bytes they came as, so that ingesting the zip gives the same ids and
    the same content hash.

    Raises:
        UnknownVersion: the project has no such version.
    """
    manifest = get_manifest(database, store, project, version)
    originals = _original_keys(database, project, [item.image_id for item in manifest.items])
    items = _items(manifest, originals)
    with tempfile.NamedTemporaryFile(prefix="fovea-export-", suffix=".zip", delete=False) as target:
        path = Path(target.name)
    try:
        with zipfile.ZipFile(path, "w") as archive:
            for file in WRITERS[kind](items, manifest.classes):
                if file.image_id is None:
                    _write_text(archive, file.path, file.text or "")
                else:
                    _write_image(archive, file.path, store, originals[file.image_id])
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _items(manifest: DatasetManifest, originals: dict[str, str]) -> list[ExportItem]:
    names = unique_names((i.image_id, _file_name(i, originals)) for i in manifest.items)
    return [
        ExportItem(
            image_id=item.image_id,
            file_name=names[item.image_id],
            width=item.width,
            height=item.height,
            split=item.split,
            annotations=item.annotations,
        )
        for item in manifest.items
    ]


def _file_name(item: ManifestItem, originals: dict[str, str]) -> str:
    suffix = PurePosixPath(item.name).suffix
    # An upload without a name got the extension of its bytes, another file keeps its own.
    return item.name if suffix else item.name + PurePosixPath(originals[item.image_id]).suffix


def _original_keys(database: Database, project: str, ids: Sequence[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for some in chunks(ids):
        with database.transaction() as session:
            rows = session.execute(
                select(ImageRow.id, ImageRow.original_key).where(
                    ImageRow.project == project, ImageRow.id.in_(some)
                )
            )
            keys.update((image_id, key) for image_id, key in rows)
    return keys


def _write_text(archive: zipfile.ZipFile, path: str, text: str) -> None:
    info = zipfile.ZipInfo(path)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text.encode())


def _write_image(archive: zipfile.ZipFile, path: str, store: ObjectStore, key: str) -> None:
    with store.open(key) as source, archive.open(zipfile.ZipInfo(path), "w") as target:
        shutil.copyfileobj(source, target, _CHUNK)
