"""Bounds the memory of files that came with requests, from their first byte to their answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inference_service.app.core.in_flight import ServingBusy

Take = Callable[[int], None]


class BodyBudget:
    """How many bytes of files, over all requests, may be in memory at once."""

    def __init__(self, n_bytes: int) -> None:
        """Allow `n_bytes` at once; not less than one file may have."""
        self._total = n_bytes
        self._free = n_bytes
        self._lock = threading.Lock()

    @contextmanager
    def share(self) -> Iterator[Take]:
        """Yield what takes bytes out of the budget; the end of the block gives them back.

        Raises:
            ServingBusy: others hold too many.
        """
        taken = 0

        def take(n_bytes: int) -> None:
            nonlocal taken
            with self._lock:
                if n_bytes > self._free:
                    msg = f"predictions: others hold {self._total >> 20} MiB of files"
                    raise ServingBusy(msg)
                self._free -= n_bytes
            taken += n_bytes

        try:
            yield take
        finally:
            with self._lock:
                self._free += taken
