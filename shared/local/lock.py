"""A lock on a file, for one process of this machine at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import AppError


@contextmanager
def exclusive(path: Path, refusal: AppError) -> Iterator[None]:
    """Hold the lock on a file for as long as the block lasts; it ends with the process at latest.

    Args:
        path: the file, made where it is missing. It stays: whoever removed it would let a third
            process lock a new file beside the holder of the old one.
        refusal: what to raise where another holds the lock.

    Raises:
        AppError: `refusal`.
    """
    # The processes that the holder starts do not inherit the descriptor, hence not the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise refusal from exc
        yield
    finally:
        os.close(descriptor)
