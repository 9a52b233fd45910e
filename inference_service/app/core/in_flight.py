"""Bounds how many requests are in the house, so that more are told to come back, not kept."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from shared.errors import BackendUnavailable


class ServingBusy(BackendUnavailable):
    """As many requests are being worked on, or wait, as may."""

    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class InFlight:
    """How many requests are being read, wait for the model or are answered."""

    def __init__(self, limit: int) -> None:
        """Let `limit` in at a time."""
        self.limit = limit
        self._n_inside = 0
        self._lock = threading.Lock()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside while the block runs.

        Raises:
            ServingBusy: as many are inside as may be.
        """
        with self._lock:
            if self._n_inside >= self.limit:
                msg = f"predictions: {self.limit} requests are being worked on already"
                raise ServingBusy(msg)
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
