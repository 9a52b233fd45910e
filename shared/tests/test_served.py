"""The log of served predictions: its columns, and how little of it is read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.served import DriftRow, ServedPrediction, Window, read_served, write_served

START = datetime(2026, 1, 1, tzinfo=UTC)
ROW = DriftRow(2, 0.5, 0.75, 0.25, 1.0, 0.5, 0.25, 0.125, (7, 9), np.zeros(2, np.float32))


class CountingStore(DirectoryStore):
    """Notes which files were read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SignedAddresses("http://a", "http://b", SecretStr("s")))
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "objects")


def at(*seconds: int) -> list[ServedPrediction]:
    return [
        ServedPrediction(f"p{s}", START + timedelta(seconds=s), "image", None, ROW) for s in seconds
    ]


def write_at(store: CountingStore, second: int, served: Sequence[ServedPrediction]) -> None:
    """Write a file as a process would whose clock shows that second."""
    key = write_served(store, "p", 1, served)
    stamp = (START + timedelta(seconds=second)).strftime("%Y%m%dT%H%M%S.%fZ")
    store.put(f"projects/p/served/v1/{stamp}-{second}.parquet", store.get(key))
    store.delete(key)
    store.read.clear()


def seconds(served: Sequence[ServedPrediction]) -> list[float]:
    return [(s.time - START).total_seconds() for s in served]


def test_only_as_many_files_are_read_as_the_limit_needs(store: CountingStore) -> None:
    for first in range(0, 100, 10):
        write_at(store, first + 10, at(*range(first, first + 10)))
    assert seconds(read_served(store, "p", 1, limit=15)) == [*range(85, 100)]
    assert len(store.read) == 2


def test_a_file_that_was_written_late_does_not_push_newer_predictions_out(
    store: CountingStore,
) -> None:
    write_at(store, 50, at(48, 49))
    write_at(store, 40, at(38, 39))
    # Waited for the store while others were written, and holds one that they hold as well.
    write_at(store, 60, at(1, 2, 3, 49))
    assert seconds(read_served(store, "p", 1, limit=3)) == [39, 48, 49]
    assert seconds(read_served(store, "p", 1)) == [1, 2, 3, 38, 39, 48, 49]


def test_files_from_before_the_window_are_not_read(store: CountingStore) -> None:
    for second in (10, 20, 30):
        write_at(store, second, at(second - 5, second - 4))
    window = Window(since=START + timedelta(seconds=16))
    assert seconds(read_served(store, "p", 1, window)) == [16, 25, 26]
    assert len(store.read) == 2


def test_a_class_may_be_called_like_a_column() -> None:
    columns = ROW.columns(("boxes", "n_boxes"))
    assert (columns["n_boxes"], columns["class_boxes"], columns["class_n_boxes"]) == (2, 7, 9)
    assert len(columns) == 10
