import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import pytest
from pydantic import SecretStr

from inference_service.app.services.served_log import ServedLog
from shared.errors import BackendUnavailable
from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.objects.wiring import object_store
from shared.served import DriftRow, ServedPrediction, Window, read_served, served_prefix
from shared.settings import Settings

TIME = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def served(name: str, batch: str | None = None) -> ServedPrediction:
    embedding = np.array([0.1, -2.5], np.float32)
    row = DriftRow(2, 0.5, 0.75, 0.25, 1.0, 0.5, 0.25, 0.125, (2, 0, 0), embedding)
    return ServedPrediction(name, TIME, "image", batch, row)


def test_prediction_comes_back_as_it_was_logged(settings: Settings, tmp_path: Path) -> None:
    store = object_store(settings)
    log = ServedLog(tmp_path / "spool", store)
    log.append("p", 3, served("a", "night"))
    log.append("q", 1, served("b"))
    log.flush()
    (found,) = read_served(store, "p", 3)
    assert (found.prediction_id, found.time, found.batch) == ("a", TIME, "night")
    assert found.row.embedding.tolist() == np.array([0.1, -2.5], np.float32).tolist()
    assert found.row.class_counts == (2, 0, 0)
    assert found.row.mean_box_area == 0.25
    assert [s.prediction_id for s in read_served(store, "q", 1)] == ["b"]
    assert read_served(store, "p", 3, Window(until=TIME)) == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_lines_of_a_killed_process_are_written_by_the_next(
    settings: Settings, tmp_path: Path
) -> None:
    code = (
        "import sys, pathlib; from inference_service.tests.services.test_served_log import *\n"
        "log = ServedLog(pathlib.Path(sys.argv[1]), object_store(Settings()))\n"
        "log.append('p', 1, served('a')); log.append('p', 1, served('b'))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spool")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    store = object_store(settings)
    log = ServedLog(tmp_path / "spool", store)
    log.flush()
    assert read_served(store, "p", 1) == []
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with next((tmp_path / "spool").glob("*.jsonl")).open("a") as spool:
        spool.write('{"project": "p", "torn')
    log.flush()
    assert [s.prediction_id for s in read_served(store, "p", 1)] == ["a", "b"]


def test_a_spool_that_another_process_wrote_in_between_is_not_written_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = object_store(settings)
    ours, theirs = (ServedLog(tmp_path / "spool", store) for _ in range(2))
    ours.append("p", 1, served("a"))
    flock = fcntl.flock

    def lock_late(file: IO[str], operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        theirs.flush()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    ours.flush()
    assert fcntl.flock is flock
    assert len(list(store.list(served_prefix("p", 1)))) == 1


def test_a_line_nobody_can_read_is_left_out_and_the_rest_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    log = ServedLog(tmp_path / "spool", object_store(settings))
    log.append("p", 1, served("a"))
    log.append("p", 1, served("b"))
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    first, second = path.read_bytes().splitlines(keepends=True)
    bad = [
        first[:40] + second,
        b"\0\xff\n",
        b"[]\n",
        b'{"project": "p"}\n',
        b'{"project": "p", "to',
    ]
    path.write_bytes(first + b"".join(bad[:-1]) + second + bad[-1])
    log.flush()
    assert [s.prediction_id for s in read_served(object_store(settings), "p", 1)] == ["a", "b"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_full_disk_fails_the_request_and_the_next_one_gets_a_new_spool(
    settings: Settings, tmp_path: Path
) -> None:
    log = ServedLog(tmp_path / "spool", object_store(settings))
    log.append("p", 1, served("a"))
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # The file may grow by ten bytes more, so half a line is written.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        with pytest.raises(OSError, match="too large"):
            log.append("p", 1, served("torn"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    log.append("p", 1, served("b"))
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 2
    log.flush()
    assert [s.prediction_id for s in read_served(object_store(settings), "p", 1)] == ["a", "b"]


class StoreWithSwitch(DirectoryStore):
    down = True
    broken = False

    def put(
        self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream"
    ) -> None:
        if self.broken:
            raise ZeroDivisionError
        if self.down:
            raise BackendUnavailable("object store: switched off")
        super().put(key, data, content_type)


def test_store_that_is_down_delays_the_log_and_loses_nothing(tmp_path: Path) -> None:
    addresses = SignedAddresses("http://test", "http://test", SecretStr("secret"))
    store = StoreWithSwitch(tmp_path / "objects", addresses)
    log = ServedLog(tmp_path / "spool", store)
    log.append("p", 1, served("a"))
    log.flush()
    assert read_served(store, "p", 1) == []
    store.down = False
    log.close()
    assert [s.prediction_id for s in read_served(store, "p", 1)] == ["a"]


def test_the_thread_goes_on_after_an_error_that_nobody_foresaw(tmp_path: Path) -> None:
    addresses = SignedAddresses("http://test", "http://test", SecretStr("secret"))
    store = StoreWithSwitch(tmp_path / "objects", addresses)
    store.broken = True
    log = ServedLog(tmp_path / "spool", store)
    log.append("p", 1, served("a"))
    log.start(0.01)
    time.sleep(0.1)
    store.broken = store.down = False
    deadline = time.monotonic() + 10
    while not (found := read_served(store, "p", 1)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [s.prediction_id for s in found] == ["a"]
    log.close()
