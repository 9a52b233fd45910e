"""Processes of the API as they are really started, for the tests that count and kill them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from shared.tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
# Asks no back end.
PATH = "/openapi.json"
START_S = 240.0
COUNTING = {"counter", "histogram", "summary"}

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Launched:
    """A launcher and where its processes answer."""

    process: psutil.Process
    url: str
    folder: Path

    def serving(self) -> list[psutil.Process]:
        """Return the processes that serve; multiprocessing has one of its own beside them."""
        return [p for p in self.process.children() if "spawn_main" in " ".join(p.cmdline())]

    def get(self, path: str = PATH) -> httpx2.Response:
        # A connection for each request, so that any process may take it.
        return httpx2.get(self.url + path, timeout=60, trust_env=False)

    def samples(self) -> Samples:
        """Return everything of `/metrics` that counts something."""
        families = text_string_to_metric_families(self.get("/metrics").raise_for_status().text)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            if family.type in COUNTING
            for sample in family.samples
        }

    def n_requests(self) -> float:
        return sum(v for (name, _), v in self.samples().items() if name == "http_requests_total")

    def n_by_process(self) -> dict[int, float]:
        """Return how many requests each process has counted itself, also one that is dead."""
        return {
            int(path.stem.removeprefix("counter_")): sum(
                value for key, value, _, _ in read_values(path) if "http_requests_total" in key
            )
            for path in (self.folder / "inference-metrics").glob("counter_*.db")
        }


def read_values(path: Path) -> Iterator[tuple[str, float, float, int]]:
    """Yield key, value, time and place of what a process has counted."""
    yield from MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]


@contextmanager
def launched(folder: Path, n_processes: int, port: int = 0) -> Iterator[Launched]:
    port = port or free_ports(1)[0]
    given = {
        "FOVEA_STATE_DIR": str(folder),
        "FOVEA_DATABASE_URL": f"sqlite:///{folder}/fovea.db",
        "FOVEA_OBJECT_STORE_URL": f"file:{folder}/objects",
        "FOVEA_VECTOR_STORE_URL": f"lancedb:{folder}/vectors",
        "FOVEA_INFERENCE_PROCESSES": str(n_processes),
    }
    command = [sys.executable, "-m", "inference_service.app.processes"]
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen(
            [*command, "--host=127.0.0.1", f"--port={port}"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **given},
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    found = Launched(psutil.Process(started.pid), f"http://127.0.0.1:{port}", folder)
    members: list[psutil.Process] = []
    try:
        eventually(lambda: answers(found), folder / "log")
        members = found.process.children(recursive=True)
        yield found
    finally:
        started.terminate()
        started.wait(timeout=30)
        for member in members:
            if member.is_running():
                member.kill()


def fallen(earlier: Samples, later: Samples) -> list[object]:
    """Return what counted less later."""
    return [key for key, value in earlier.items() if later.get(key, 0.0) < value]


def answers(found: Launched) -> bool:
    """Tell whether as many processes as there should be have counted a request."""
    try:
        n_answering = len(found.n_by_process()) if found.get().is_success else 0
    except httpx2.TransportError:
        return False
    return n_answering >= len(found.serving())


def eventually(condition: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else condition
        time.sleep(0.05)


def is_dead(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
