"""The systems that serving is measured on: started, silent while others have a turn, and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from inference_service.scripts.bench_serving_load import Target
from inference_service.scripts.bench_serving_plain import HOST
from shared.client import GatewayClient
from shared.detector.info import read_info
from shared.errors import BackendUnavailable
from shared.local.stack import ROOT, EmbeddedStack
from shared.models.data import ProjectCreate
from shared.models.registry import EngineChoice, PromotionCreate
from shared.registry import ModelRegistry, Registration
from shared.service import INTERNAL_KEY

PROJECT = "bench"
START_TIMEOUT_S = 180.0
STOP_S = 10.0


@dataclass(frozen=True)
class System:
    """A running system: where it is asked, and the session that its processes are of."""

    target: Target
    session: int

    @contextmanager
    def awake(self) -> Iterator[Target]:
        """Let it run while the block does; before and after, its processes are stopped."""
        send(signal.SIGCONT, self.session)
        try:
            yield self.target
        finally:
            send(signal.SIGSTOP, self.session)


@contextmanager
def plain_server(
    name: str, folder: Path, package: Path, engine: EngineChoice, n_processes: int
) -> Iterator[System]:
    """Run one of the plain servers while the block does.

    Raises:
        BackendUnavailable: it does not start; its log is in the message.
    """
    port = _free_port()
    module = "inference_service.scripts.bench_serving_plain"
    log = folder / f"{name}.log"
    given = [name, str(port), str(package), engine.model_dump_json(), str(n_processes)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *given],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_healthy(name, process, port, log)
        send(signal.SIGSTOP, process.pid)
        yield System(Target(name, HOST, port, "/predict", {}), process.pid)
    finally:
        end(process)


@contextmanager
def fovea(
    folder: Path, package: Path, engine: EngineChoice, n_processes: int
) -> Iterator[tuple[System, System]]:
    """Run an embedded stack that serves a package: asked directly, and through the gateway.

    Raises:
        BackendUnavailable: a part of it does not become ready.
    """
    settings = {
        "FOVEA_ENGINE": engine.engine,
        "FOVEA_INFERENCE_PROCESSES": str(n_processes),
        "FOVEA_REQUEST_RATE_PER_S": "100000",
    }
    stack = EmbeddedStack(folder / "stack", fixed_ports=False, settings=settings)
    try:
        stack.start()
        _put_into_production(stack, package)
        session = stack.supervisor_pid() or 0
        path, ports = f"/v1/projects/{PROJECT}/predict", stack.config.ports
        service_key = {INTERNAL_KEY: stack.config.secrets()["service_key"]}
        caller_key = {"Authorization": f"Bearer {stack.api_key}"}
        direct = Target("fovea", HOST, ports["inference"], path, service_key)
        through = Target("gateway", HOST, ports["gateway"], path, caller_key)
        send(signal.SIGSTOP, session)
        yield System(direct, session), System(through, session)
    finally:
        if (supervisor := stack.supervisor_pid()) is not None:
            send(signal.SIGCONT, supervisor)
        stack.stop()


def send(number: signal.Signals, session: int) -> None:
    """Send a signal to every process of a session."""
    for process in _members(session):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all of its session; LitServe, told to end, leaves its children behind."""
    members = _members(process.pid)
    for number in (signal.SIGTERM, signal.SIGCONT):
        send(number, process.pid)
    psutil.wait_procs(members, timeout=STOP_S)
    send(signal.SIGKILL, process.pid)
    process.wait()


def _members(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found


def _put_into_production(stack: EmbeddedStack, package: Path) -> None:
    """Register a package as a training does, and serve it."""
    info = read_info(package)
    client = GatewayClient(stack.urls["gateway"], stack.api_key)
    client.create_project(ProjectCreate(name=PROJECT, classes=info.classes))
    model = ModelRegistry(stack.urls["mlflow"]).register(
        Registration(
            project=PROJECT,
            job_id=PROJECT,
            package=package,
            classes=info.classes,
            weights_sha256=info.weights_sha256,
            dataset_version=None,
            dataset_hash="",
            round_id=None,
            params={},
            metrics={},
            history={},
        )
    )
    client.promote(PROJECT, PromotionCreate(model_version=model.version))
    # The first who asks has it loaded.
    client.serving(PROJECT)
    client.close()


def _wait_healthy(name: str, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            msg = f"{name} does not start; its log ends:\n{log.read_text()[-2000:]}"
            raise BackendUnavailable(msg)
        time.sleep(0.2)


def _is_healthy(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
