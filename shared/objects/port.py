"""Port of the object store: bytes by key."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from shared.errors import BadRequest, NotFound

_SAFE_SEGMENT = re.compile(r"[A-Za-z0-9._@+=-]+")
_LONGEST_KEY = 1024
_LONGEST_SEGMENT = 255


class ObjectNotFound(NotFound):
    """No object has this key."""


class BadKey(BadRequest):
    """The key is empty, absolute, climbs out, or has characters that some store refuses."""


class ObjectStore(Protocol):
    """Bytes by key, the same on a directory and on S3."""

    def put(
        self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream"
    ) -> None:
        """Store `data`, replacing what was there, atomically: readers see the old or the new."""

    def get(self, key: str) -> bytes:
        """Return the whole object.

        Raises:
            ObjectNotFound: nothing has this key.
        """

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open the object for reading as a stream.

        Raises:
            ObjectNotFound: nothing has this key.
        """

    def exists(self, key: str) -> bool:
        """Tell whether an object has this key."""

    def size(self, key: str) -> int:
        """Return the object's size in bytes.

        Raises:
            ObjectNotFound: nothing has this key.
        """

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object; a key that is not there is fine."""

    def signed_url(self, key: str, expires_s: int, *, public: bool = True) -> str:
        """Return an address that reads this object without a key for `expires_s` seconds.

        Args:
            key: of an object; whether it exists is not asked.
            expires_s: how long the address works.
            public: as browsers reach the store, or as services do.
        """

    def local_path(self, key: str) -> Path | None:
        """Return the file that holds the object, where the store is a local directory."""

    def check(self) -> None:
        """Ask the store for an answer.

        Raises:
            BackendUnavailable: it gives none.
        """


def checked_key(key: str) -> str:
    """Return `key`, or refuse it.

    Raises:
        BadKey: empty, absolute, with `.` or `..` or empty segments, unsafe characters, or longer
            than S3 or a file system takes.
    """
    segments = key.split("/")
    if len(key) > _LONGEST_KEY or max(map(len, segments)) > _LONGEST_SEGMENT:
        msg = f"object key too long ({_LONGEST_KEY} bytes, {_LONGEST_SEGMENT} between slashes): "
        raise BadKey(msg + repr(key[:100]))
    if any(s in {"", ".", ".."} or not _SAFE_SEGMENT.fullmatch(s) for s in segments):
        msg = f"bad object key: {key!r}"
        raise BadKey(msg)
    return key


def checked_prefix(prefix: str) -> str:
    """Return `prefix`: empty, or the beginning of a key, which may end with `/`.

    Raises:
        BadKey: no key can start like this.
    """
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix
