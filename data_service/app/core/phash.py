"""Perceptual hashes, and a search for near ones that stays fast with 100 000 images."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image

# On BCCD (364 photographs of one microscope) the one true pair differs in 4 bits, the next in 14.
NEAR_DUPLICATE_BITS = 6

_BANDS = 4
_BAND_BITS = 16
_BAND_MASK = (1 << _BAND_BITS) - 1
# Least standard deviation, in grey levels: below it the hash is noise of the compression.
_MIN_CONTRAST = 2.0


def perceptual_hash(image: Image.Image) -> int | None:
    """Return the 64-bit DCT hash of an image, or None for one of a single colour.

    Source:
        `imagehash.phash`, whose value this is.
    """
    import imagehash

    small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    if small.std() < _MIN_CONTRAST:
        return None
    return int(str(imagehash.phash(image)), 16)


class HashIndex:
    """Finds hashes that differ in at most `NEAR_DUPLICATE_BITS` of 64 bits.

    The hash is cut into four bands of 16 bits: two hashes that differ in at most 7 bits differ in
    at most one bit of some band, so that 4 x 17 buckets hold every candidate.

    Source:
        Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing".
    """

    def __init__(self) -> None:
        """Start empty."""
        self._owners: dict[int, str] = {}
        self._bands: tuple[dict[int, list[int]], ...] = tuple(
            defaultdict(list) for _ in range(_BANDS)
        )

    def add(self, value: int, image_id: str) -> None:
        """Add an image; of several with the same hash the first one stands for all."""
        if value in self._owners:
            return
        self._owners[value] = image_id
        for band, part in zip(self._bands, _parts(value), strict=True):
            band[part].append(value)

    def near(self, value: int) -> list[tuple[str, int]]:
        """Return the images near a hash and how many bits they differ in, the nearest first."""
        found = {
            candidate: distance
            for candidate in self._candidates(value)
            if (distance := (candidate ^ value).bit_count()) <= NEAR_DUPLICATE_BITS
        }
        pairs = [(self._owners[candidate], distance) for candidate, distance in found.items()]
        return sorted(pairs, key=lambda pair: (pair[1], pair[0]))

    def _candidates(self, value: int) -> Iterator[int]:
        for band, part in zip(self._bands, _parts(value), strict=True):
            yield from band.get(part, ())
            for bit in range(_BAND_BITS):
                yield from band.get(part ^ (1 << bit), ())


def _parts(value: int) -> list[int]:
    return [(value >> (_BAND_BITS * i)) & _BAND_MASK for i in range(_BANDS)]
