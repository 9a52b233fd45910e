"""Object store on a local directory: one file per object."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import SecretStr

from shared.errors import BackendUnavailable
from shared.objects.port import BadKey, ObjectNotFound, checked_key, checked_prefix
from shared.objects.signing import signed_path

# No key may hold this character, so a file half written is never taken for an object.
_TEMPORARY = "~"


@dataclass(frozen=True)
class SignedAddresses:
    """How signed addresses are made: who serves the files, and the secret.

    Attributes:
        public_url: gateway as browsers reach it.
        internal_url: gateway as services reach it.
        signing_key: secret that `verify_signature` knows too.
    """

    public_url: str
    internal_url: str
    signing_key: SecretStr


class DirectoryStore:
    """Objects as files under one folder; a key may not also be the folder of another key."""

    def __init__(self, root: Path, addresses: SignedAddresses) -> None:
        """Keep objects under `root`, which is made when the first one is stored."""
        self.root = root.resolve()
        self._addresses = addresses

    def put(
        self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream"
    ) -> None:
        """Write beside the target, reach the disk, then rename: readers see the old or the new."""
        del content_type  # the file name carries it
        path = self._path(key)
        with self._errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
            try:
                _write(temporary, data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        with self.open(key) as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open the object for reading as a stream."""
        path = self._file(key)
        with self._errors(key):
            stream = path.open("rb")
        with stream:
            yield stream

    def exists(self, key: str) -> bool:
        """Tell whether an object has this key."""
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        return self._file(key).stat().st_size

    def list(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that start with `prefix`, sorted; links are left out."""
        inside = checked_prefix(prefix).rpartition("/")[0]
        folder = self._path(inside) if inside else self.root
        keys = (
            (Path(parent) / name).relative_to(self.root).as_posix()
            for parent, _, names in os.walk(folder)
            for name in names
            if not name.startswith(_TEMPORARY) and not (Path(parent) / name).is_symlink()
        )
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """Remove the object; a key that is not there is fine."""
        path = self._path(key)
        with self._errors(key):
            if path.is_file():
                path.unlink(missing_ok=True)

    def signed_url(self, key: str, expires_s: int, *, public: bool = True) -> str:
        """Return an address that the data service answers through the gateway."""
        base = self._addresses.public_url if public else self._addresses.internal_url
        return base.rstrip("/") + signed_path(key, expires_s, self._addresses.signing_key)

    def local_path(self, key: str) -> Path | None:
        """Return the file that holds the object."""
        return self._file(key)

    def check(self) -> None:
        """Write and remove a file."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def _path(self, key: str) -> Path:
        path = self.root / checked_key(key)
        if not path.resolve().is_relative_to(self.root):
            msg = f"object key leaves the store by a link: {key!r}"
            raise BadKey(msg)
        return path

    def _file(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise _not_found(key)
        return path

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as exc:
            raise _not_found(key) from exc
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
            msg = f"object key is a folder of other keys, or lies inside an object: {key!r}"
            raise BadKey(msg) from exc
        except ConnectionError:
            raise  # the sender of the stream went away, the store is fine
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: OSError) -> BackendUnavailable:
        return BackendUnavailable(f"object store (file:{self.root}): {exc}")


def _not_found(key: str) -> ObjectNotFound:
    return ObjectNotFound(f"unknown object: {key!r}")


def _write(path: Path, data: bytes | BinaryIO) -> None:
    with path.open("xb") as target:
        if isinstance(data, bytes):
            target.write(data)
        else:
            shutil.copyfileobj(data, target, 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
