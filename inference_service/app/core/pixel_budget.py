"""Bounds the memory that requests take before they wait for the model."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from shared.errors import BackendUnavailable

WAIT_S = 10.0


class DecodingBusy(BackendUnavailable):
    """As many pixels are being worked on as memory allows."""

    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class PixelBudget:
    """How many pixels, over all requests, may be decoded at once."""

    def __init__(self, n_pixels: float, wait_s: float = WAIT_S) -> None:
        """Allow `n_pixels` at once; a request waits up to `wait_s` for its part."""
        self.total = n_pixels
        self._free = n_pixels
        self._wait_s = wait_s
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, n_pixels: float) -> Iterator[None]:
        """Hold pixels while the block runs; more than there are is all of them.

        Raises:
            DecodingBusy: others held them too long.
        """
        taken = min(n_pixels, self.total)
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= taken, self._wait_s):
                msg = f"image decoding: others are at work on {self.total / 1e6:g} megapixels"
                raise DecodingBusy(msg)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
