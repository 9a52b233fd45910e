"""The folder of a simulation's own stack: kept until its cells are done, and never another's."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue, ValidationError

from shared.errors import BadRequest
from shared.files import file_sha256
from shared.models.geometry import Frozen

STAMP = "simulation.json"
# Written beside data by those who look at it.
NOT_DATA = (".cache",)


class Stamp(Frozen):
    """Whose state it is: the settings of the cells, and the data."""

    settings: dict[str, JsonValue]
    content_hash: str


def prepare(folder: Path, stamp: Stamp) -> None:
    """Make the folder ready for a stack: what an equal simulation left is gone on from.

    What one with other settings or data left is removed: it would be taken for this one's. Nothing
    may run in it.
    """
    if folder.exists() and _stamp_of(folder) != stamp:
        discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{STAMP}.part"
    partial.write_text(stamp.model_dump_json(indent=1) + "\n")
    partial.replace(folder / STAMP)


def require_own(folder: Path) -> None:
    """Refuse a folder that holds what no simulation left there.

    Raises:
        BadRequest: it does.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / STAMP).exists():
        msg = f"{folder} holds something that no simulation left there: choose another --output"
        raise BadRequest(msg)


def discard(folder: Path) -> None:
    """Remove the folder; stopped half-way, nothing of it is gone on from."""
    leaving = folder.with_name(f".{folder.name}-leaving")
    shutil.rmtree(leaving, ignore_errors=True)
    folder.replace(leaving)
    shutil.rmtree(leaving)


def content_hash(data: Path) -> str:
    """Return the SHA-256 of a data set as it is given: of its files' names and bytes.

    Args:
        data: a folder, of which hidden files do not count; or one file.
    """
    digest = hashlib.sha256()
    for path in _files(data):
        name = "" if path == data else path.relative_to(data).as_posix()
        digest.update(f"{file_sha256(path)} {name}\n".encode())
    return digest.hexdigest()


def _files(data: Path) -> Iterator[Path]:
    if data.is_file():
        yield data
        return
    found = []
    for folder, folders, names in os.walk(data, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, n) for n in names if not n.startswith(".")]
    # By name on every machine: a walk's order is the disk's.
    for path in sorted(found, key=lambda p: p.relative_to(data).as_posix()):
        if path.suffix not in NOT_DATA and path.is_file():
            yield path


def _stamp_of(folder: Path) -> Stamp | None:
    try:
        return Stamp.model_validate_json((folder / STAMP).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
