import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import SecretStr

from inference_service.app.services.served_log import ServedLog
from shared.errors import BackendUnavailable
from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.objects.wiring import object_store
from shared.served import DriftRow, ServedPrediction, Window, read_served
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


class StoreWithSwitch(DirectoryStore):
    down = True

    def put(
        self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream"
    ) -> None:
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
