"""Several processes of the API behind one port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from inference_service.app.processes import emptied
from inference_service.tests.launched import (
    ROOT,
    Launched,
    Samples,
    answers,
    eventually,
    fallen,
    is_dead,
    launched,
)
from shared.service import INTERNAL_KEY
from shared.settings import Settings


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("two"), 2) as found:
        yield found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("one"), 1) as found:
        yield found


def test_two_processes_answer_and_are_counted_as_one(two: Launched) -> None:
    before, apart = two.n_requests(), two.n_by_process()
    seen: list[Samples] = []
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(two.get) for _ in range(400)]
        while len(seen) < 50:
            seen.append(two.samples())
        assert all(answer.result().is_success for answer in sent)
    for earlier, later in pairwise(seen):
        assert fallen(earlier, later) == []
    eventually(lambda: two.n_requests() >= before + 400)
    assert two.n_requests() == before + 400
    assert set(two.n_by_process()) == {process.pid for process in two.serving()}
    assert all(n > apart[pid] for pid, n in two.n_by_process().items())


def test_a_killed_process_is_replaced_and_what_it_counted_stays(two: Launched) -> None:
    eventually(lambda: len(two.serving()) == 2)
    victim, other = two.serving()
    before = two.samples()
    victim.send_signal(signal.SIGKILL)
    eventually(lambda: is_dead(victim))
    # Nobody but the other one is there to answer these.
    assert all(two.get().is_success for _ in range(50))
    after = two.samples()
    assert fallen(before, after) == []
    eventually(lambda: len(two.serving()) == 2 and answers(two), two.folder / "log")
    assert other in two.serving()
    assert victim not in two.serving()
    eventually(lambda: two.get().is_success and len(two.n_by_process()) == 3)
    assert victim.pid in two.n_by_process()


def test_no_process_outlives_its_launcher(tmp_path: Path) -> None:
    with launched(tmp_path, 2) as found:
        serving = found.serving()
        found.process.kill()
        eventually(lambda: all(is_dead(process) for process in serving))
        port = int(found.url.rpartition(":")[2])
        with launched(tmp_path, 2, port) as again:
            pids = {process.pid for process in again.serving()}
            assert set(again.n_by_process()) == pids
            assert pids.isdisjoint(process.pid for process in serving)


def test_one_process_has_no_others_and_keeps_its_numbers_to_itself(one: Launched) -> None:
    assert one.serving() == []
    assert one.n_requests() >= 1
    assert not (one.folder / "inference-metrics").exists()


def test_an_early_answer_waits_for_who_is_slow_to_send_the_body(one: Launched) -> None:
    address = httpx2.URL(one.url)
    with socket.create_connection((address.host, address.port or 0), timeout=60) as caller:
        head = f"POST /v1/projects/p/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {200 << 20}"
        key = f"{INTERNAL_KEY}: {Settings().service_key.get_secret_value()}"
        caller.sendall(f"{head}\r\nContent-Type: image/png\r\n{key}\r\n\r\n".encode())
        # Longer than uvicorn keeps an idle connection by itself.
        time.sleep(6)
        for _ in range(20):
            caller.sendall(bytes(1 << 20))
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inference_service.app.processes", "--host=::", "--port=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOVEA_INFERENCE_PROCESSES": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "inference_processes" in done.stderr


def test_what_an_earlier_start_counted_is_forgotten(tmp_path: Path) -> None:
    folder = emptied(tmp_path / "a" / "metrics")
    (folder / "counter_1.db").write_bytes(b"old")
    assert list(emptied(folder).iterdir()) == []
