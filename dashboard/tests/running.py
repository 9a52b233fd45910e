"""Starts the dashboard itself, as the stack does."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_dashboard(gateway_url: str, key: str, folder: Path) -> Iterator[str]:
    """Yield the address of a dashboard that talks to `gateway_url`; its log goes to `folder`."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FOVEA_")}
    environment |= {"FOVEA_GATEWAY_URL": gateway_url, "FOVEA_API_KEY": key}
    command = [
        *(sys.executable, "-m", "streamlit", "run", "dashboard/app.py"),
        *("--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true"),
        "--server.fileWatcherType=none",
    ]
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _wait(url: str, process: "subprocess.Popen[bytes]", timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert process.poll() is None, "the dashboard ended"
        try:
            if httpx2.get(url).is_success:
                return
        except httpx2.TransportError:
            assert time.monotonic() < deadline, "the dashboard did not come up"
        time.sleep(0.1)
