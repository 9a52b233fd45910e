"""Token buckets: how many requests a second one caller may send."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 10_000


class RateLimiter:
    """One bucket per caller, full at first, that holds one second's worth of requests.

    In memory of one process and used from its event loop only, so it needs no lock.
    """

    def __init__(self, rate_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Let every caller send `rate_per_s` requests a second on average."""
        self._rate = rate_per_s
        self._capacity = max(1.0, rate_per_s)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int:
        """Count one request; return 0 if it may pass, else after how many whole seconds it may."""
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - then) * self._rate)
        passes = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if passes else tokens, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return 0 if passes else math.ceil((1.0 - tokens) / self._rate)
