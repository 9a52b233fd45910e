"""What this service needs of stores that are not Fovea's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Bucket(Protocol):
    """Somebody's bucket, read as it is."""

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield key and size of every object under a prefix."""

    def download(self, key: str, target: Path) -> None:
        """Write an object to a file."""
