"""A real Valkey server for tests."""

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from shared.local.programs import valkey_server
from shared.tests.ports import free_ports


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_ports(1)[0]
    folder = tmp_path_factory.mktemp("valkey")
    process = subprocess.Popen(
        [valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait(timeout=5)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    msg = f"valkey does not listen on {port}"
    raise TimeoutError(msg)
