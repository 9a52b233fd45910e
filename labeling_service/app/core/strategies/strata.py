"""A sample of a pool that is larger than memory: drawn while it streams by, even over strata."""

import heapq
from collections import defaultdict
from collections.abc import Hashable
from hashlib import blake2b


class Strata:
    """Which images are kept where more come than there is room for.

    Each stratum keeps the images with the lowest random numbers, and room is taken from the
    largest: in the end all strata that do not fit have equally many images, to one, drawn
    uniformly, and the others have all of theirs.

    Source:
        Uniform samples of streams by random numbers: Vitter 1985, "Random sampling with a
        reservoir"; equal allocation to strata: Cochran 1977, "Sampling Techniques", chapter 5.
    """

    def __init__(self, room: int, seed: int) -> None:
        """Have room for so many images; the seed decides which of a stratum."""
        self._room = room
        self._key = seed.to_bytes(8, "little")
        # The highest number first, as it leaves first.
        self._kept: dict[Hashable, list[tuple[int, str]]] = defaultdict(list)
        # The strata of each size, the first to come first.
        self._of_size: dict[int, dict[Hashable, None]] = defaultdict(dict)
        self._largest = 0
        self._n_kept = 0

    def offer(self, image_id: str, stratum: Hashable) -> str | None:
        """Keep an image, and return the one that is not kept for it, if any; perhaps itself."""
        drawn = blake2b(image_id.encode(), digest_size=8, key=self._key).digest()
        images = self._kept[stratum]
        heapq.heappush(images, (-int.from_bytes(drawn, "big"), image_id))
        self._resized(stratum, len(images) - 1, len(images))
        self._largest = max(self._largest, len(images))
        if self._n_kept < self._room:
            self._n_kept += 1
            return None
        largest = next(iter(self._of_size[self._largest]))
        _, left = heapq.heappop(self._kept[largest])
        self._resized(largest, self._largest, self._largest - 1)
        if not self._of_size[self._largest]:
            self._largest -= 1
        return left

    def _resized(self, stratum: Hashable, before: int, after: int) -> None:
        self._of_size[before].pop(stratum, None)
        self._of_size[after][stratum] = None
